# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.changes import changes_since
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    GIB,
    cluster,
    domain,
    plan_document,
    record,
    snapshot,
    uuid_of,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.plan.sample_plan import PINNED, hosts, made


def test_nothing_has_changed():
    assert changes_since(made(), hosts()) == []


def changed(*edits):
    seen = hosts()
    for edit in edits:
        edit(seen)
    return [(r["code"], r["reason"]) for r in changes_since(made(), seen)]


def moved(name, source, destination):
    def edit(seen):
        (guest,) = [guest for guest in seen[source]["domains"] if guest["name"] == name]
        seen[source]["domains"].remove(guest)
        seen[destination]["domains"].append(guest)

    return edit


def test_what_does_not_matter_is_not_told():
    step = made()["steps"][0]
    assert changed(moved(step["guest"]["name"], "h1", step["destination"])) == [], "it is where it should be"
    assert changed(lambda seen: seen["h2"]["domains"].clear()) == []
    assert changed(lambda seen: seen["h2"]["domains"].append(domain("more"))) == []


def test_what_has_changed_is_told():
    step = made()["steps"][0]
    (elsewhere,) = {"h2", "h3"} - {step["destination"]}
    guest = step["guest"]["name"]
    assert changed(moved(guest, "h1", elsewhere)) == [
        ("guest_gone", f"{guest} is no longer on h1: it runs on {elsewhere} now")
    ]
    assert changed(lambda seen: seen["h1"]["domains"].pop(0)) == [
        ("guest_gone", "web1 is no longer on h1: no host in the snapshots has it")
    ]
    assert changed(lambda seen: seen["h1"]["domains"][0].update(state="shutoff")) == [
        ("guest_off", "web1 is now shut off on h1")
    ]
    assert changed(lambda seen: seen["h1"]["domains"][0].update(memory_bytes=8 * GIB)) == [
        ("guest_grew", "web1 has more memory now than when the plan was made")
    ]
    assert changed(lambda seen: seen["h1"]["domains"].append(domain("new"))) == [
        ("guest_came", "new runs on h1 and is not in the plan")
    ]
    assert changed(lambda seen: seen[step["destination"]].update(maintenance=record("maintenance"))) == [
        ("maintenance", f"{step['destination']} is in maintenance")
    ]


def same_destination():
    """A plan that takes two guests from h1 to h2."""
    seen = cluster(snapshot("h1", domain("web1"), domain("web2")), snapshot("h2", domain("native")))
    return seen, made(seen)


def codes(document, seen):
    return [(one["code"], one["reason"]) for one in changes_since(document, seen)]


@pytest.mark.parametrize(
    ("host", "version", "text"),
    [
        ("h1", "10.1.0", "h2 runs an older QEMU (10.0.13) now than h1 (10.1), from where web1 is to go there"),
        ("h2", "9.2.0", "h2 runs an older QEMU (9.2) now than h1 (10.0.13), from where web1 is to go there"),
    ],
)
def test_a_destination_whose_qemu_is_older_now_is_told(host, version, text):
    seen, document = same_destination()
    assert codes(document, {**seen, host: {**seen[host], "versions": {"qemu": "10.0.1"}}}) == []
    now = {**seen, host: {**seen[host], "versions": {"qemu": version}}}
    told = codes(document, now)
    assert told[0] == ("older_hypervisor", text)
    assert {code for code, dummy in told} == {"older_hypervisor"}


def test_an_older_qemu_that_was_permitted_or_of_which_the_plan_says_nothing_is_not_told():
    seen, document = same_destination()
    now = {**seen, "h2": {**seen["h2"], "versions": {"qemu": "9.2.0"}}}
    document["hosts"]["h2"]["qemu"] = "9.1.0"
    assert codes(document, now) == []
    for host in document["hosts"].values():
        del host["qemu"]
    assert read_plan(document)
    assert codes(document, now) == []


def test_movers_that_are_newly_kept_apart_are_told():
    seen, document = same_destination()
    for guest in seen["h1"]["domains"]:
        guest["metadata"]["group"]["apart"] = "dns"
    assert codes(document, seen) == [
        ("keep_apart", "h2 is to run web2 now, from which web1 is kept apart (group dns)"),
        ("keep_apart", "h2 is to run web1 now, from which web2 is kept apart (group dns)"),
    ]
    moved("web2", "h1", "h2")(seen)
    assert codes(document, seen) == [
        ("keep_apart", "h2 runs web2 now, from which web1 is kept apart (group dns)"),
    ]


def test_a_namesake_at_the_destination_is_told():
    seen, document = same_destination()
    seen["h2"]["domains"].append(domain("web1", uuid=uuid_of("other")))
    assert codes(document, seen) == [
        ("name_clash", f"h2 has, or will have, another guest called web1 (UUID {uuid_of('other')})")
    ]


def test_a_companion_that_is_to_be_left_is_told():
    seen, document = same_destination()
    seen["h1"]["domains"][0]["metadata"]["group"]["together"] = "app"
    seen["h1"]["domains"][1]["metadata"]["group"]["together"] = "app"
    assert codes(document, seen) == []
    document["steps"] = document["steps"][:1]
    document["stays"] = [{"guest": {"name": "web2", "uuid": uuid_of("web2")}, "host": "h1", "refusals": []}]
    assert codes(document, seen) == [
        ("keep_together", "web1 is to leave web2, with which it is kept together now (group app)")
    ]


def test_a_guest_that_runs_twice_is_told():
    seen, document = same_destination()
    seen["h3"] = snapshot("h3", domain("web1"))
    assert [code for code, dummy in codes(document, seen)] == ["duplicate_uuid"]


def test_a_host_whose_steps_are_all_done_may_be_silent():
    seen, document = same_destination()
    moved("web1", "h1", "h2")(seen)
    del seen["h1"]
    assert [code for code, dummy in codes(document, seen)] == ["host_silent"]
    seen["h2"]["domains"].append(domain("web2"))
    assert codes(document, seen) == []


def test_guests_that_came_to_a_host_of_the_first_wave_are_told():
    pinned = domain("gpu1", blockers=[PINNED])
    seen = cluster(snapshot("h1", domain("a"), pinned), snapshot("h2", domain("b")), snapshot("h3", domain("c")))
    document = plan_document(seen, kind="upgrade", host="h1")
    document["goal"]["hosts"] = ["h1", "h2"]
    document["waves"] = [{"hosts": ["h1"], "seconds": 1.0, "moves": []}, {"hosts": ["h2"], "seconds": 1.0, "moves": []}]
    assert codes(document, seen) == []
    seen["h2"]["domains"].append(domain("later"))
    assert codes(document, seen) == []
    seen["h1"]["domains"].append(domain("new"))
    assert codes(document, seen) == [("guest_came", "new runs on h1 and is not in the plan")]
    document["waves"] = []
    assert ("guest_came", "later runs on h2 and is not in the plan") in codes(document, seen)
