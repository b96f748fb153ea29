# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning import guest_selection
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
