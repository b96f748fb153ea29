# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning import guest_selection
from ansible_collections.kvmops.cluster.tests.unit import hostile
from ansible_collections.kvmops.cluster.tests.unit.builders import AWKWARD_NAMES, cluster, domain, snapshot, uuid_of


def seen():
    gold, iron = domain("gold"), domain("iron")
    gold["metadata"]["tier"] = "gold"
    return cluster(snapshot("h1", gold, *map(domain, AWKWARD_NAMES)), snapshot("h2", iron))


def names(chosen):
    return sorted(guest_selection.select(chosen, seen()).values())


@pytest.mark.parametrize("nothing", ["", None, []])
def test_nothing_is_selected(nothing):
    assert guest_selection.select(nothing, seen()) == {}


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("domains[?metadata.tier=='gold']", ["gold"]),
        ("domains[?metadata.tier=='gold'].name", ["gold"]),
        ("domains[?starts_with(name, 'ir')]", ["iron"]),
        ("domains[?contains(name, 'o')] | [0]", ["gold", "iron"]),
        ("domains[?metadata.tier=='lead']", []),
        ("gold", ["gold"]),
        ("two words", ["two words"]),
        (["gold", uuid_of("iron")], ["gold", "iron"]),
        (list(AWKWARD_NAMES), sorted(AWKWARD_NAMES)),
    ],
)
def test_guests_are_found(chosen, expected):
    assert names(chosen) == expected


def hostile_cluster():
    gold = domain("gold")
    gold["metadata"]["tier"] = "gold"
    # One has the UUID of another as its name.
    return cluster(snapshot("h1", gold, *map(domain, hostile.NAMES), domain(uuid_of("gold"))), snapshot("h2"))


@pytest.mark.parametrize(
    "chosen",
    ["domains[?metadata.tier=='gold']", "domains[?name=='gold']", "domains[?name=='gold'].name", ["gold"], "gold"],
)
def test_no_name_of_another_guest_changes_a_selection(chosen):
    assert list(guest_selection.select(chosen, hostile_cluster())) == [uuid_of("gold")]


def test_a_guest_that_is_called_like_what_selects_all_is_not_selected_alone():
    seen = hostile_cluster()
    everybody = {one["uuid"] for one in seen["h1"]["domains"]}
    assert set(guest_selection.select("domains", seen)) == everybody
    # All but the one that is called like a UUID: that is never its name.
    assert set(guest_selection.select("domains[].name", seen)) == everybody - {uuid_of(uuid_of("gold"))}


def test_a_uuid_is_never_a_name():
    assert guest_selection.select([uuid_of("gold")], hostile_cluster()) == {uuid_of("gold"): "gold"}


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_name_in_a_list_is_never_evaluated(name):
    assert guest_selection.select([name], hostile_cluster()) == {uuid_of(name): name}


def test_without_jmespath_what_may_be_an_expression_is_no_name(monkeypatch):
    monkeypatch.setattr(guest_selection, "jmespath", None)
    with pytest.raises(AnsibleError, match="needs the Python library jmespath"):
        guest_selection.select("domains[?name=='gold']", hostile_cluster())


LIKE = "expressions look like domains[?metadata.tier=='pinned']"


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        (["gold", "lead"], "there is no guest called 'lead' on h1, h2"),
        ("lead", f"'lead' is neither the name of a guest nor an expression that finds anything in a snapshot; {LIKE}"),
        (
            "domains[].memory_bytes",
            f"the selection gives 536870912, which is neither a domain nor the name of one; {LIKE}",
        ),
        ([5], f"the selection gives 5, which is neither a domain nor the name of one; {LIKE}"),
    ],
)
def test_what_cannot_be_meant(chosen, text):
    with pytest.raises(AnsibleError) as caught:
        names(chosen)
    assert str(caught.value) == f"exclude: {text}"


@pytest.mark.parametrize("expression", ["domains[?name==", "nosuch(name)", "starts_with(host, `5`)"])
def test_a_bad_expression(expression):
    with pytest.raises(AnsibleError, match=r"^exclude: .* is not a JMESPath expression that works on a snapshot: \w+"):
        names(expression)


def test_without_jmespath(monkeypatch):
    monkeypatch.setattr(guest_selection, "jmespath", None)
    assert names(["gold"]) == ["gold"]
    assert names("gold") == ["gold"]
    with pytest.raises(AnsibleError) as caught:
        names("domains[?name=='gold']")
    assert str(caught.value) == (
        "exclude: an expression needs the Python library jmespath on the controller: pip install jmespath "
        "(in the environment that runs ansible-playbook), or give a list of guest names"
    )
