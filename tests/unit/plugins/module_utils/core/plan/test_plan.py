# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import re

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import planning, shut_off_guests
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    cluster,
    domain,
    plan_document,
    record,
    snapshot,
    uuid_of,
)

PINNED = {"code": "hostdev", "reason": "a GPU is passed through", "remedy": "detach it"}


def hosts():
    return cluster(
        snapshot("h1", domain("web1"), domain("web2"), domain("gpu1", blockers=[PINNED]), domain("o", state="shutoff")),
        snapshot("h2", domain("native")),
        snapshot("h3"),
    )


def made(seen=None):
    return plan_document(seen or hosts())


def test_a_plan_from_before_bandwidths_were_stated_is_read():
    document = made()
    for host in document["hosts"].values():
        del host["bandwidth_mib_s"]
    assert plan.read(json.dumps(document)) == document


@pytest.mark.parametrize("stated", [0, -1, True, "112", [112], float("inf")])
def test_a_bandwidth_that_cannot_be_is_found_in_a_plan(stated):
    document = made()
    document["hosts"]["h2"]["bandwidth_mib_s"] = stated
    with pytest.raises(plan.PlanError, match=r"hosts.h2.bandwidth_mib_s must be a number above 0 \(MiB/s\), or null"):
        plan.read(document)


def test_a_plan_is_plain_json_and_reads_back_the_same():
    document = made()
    assert plan.read(json.dumps(document)) == document
    assert plan.read(json.dumps(document).encode()) == document
    assert plan.read(document) == document
    assert document["id"] == "drain-h1-20261124T020000Z-3f9a"
    assert document["intent"] == {"max_downtime_ms": 200}
    assert document["hosts"]["h1"] == {
        "host_uuid": uuid_of("host h1"),
        "connect_uri": "qemu+ssh://root@h1/system",
        "migration_address": "198.18.0.11",
        "bandwidth_mib_s": 113.9,
        "qemu": "10.0.13",
    }
    assert document["hosts"]["h2"] == {
        "host_uuid": uuid_of("host h2"), "connect_uri": None, "migration_address": None, "bandwidth_mib_s": None,
        "qemu": "10.0.13",
    }  # fmt: skip
    assert document["off"] == [{"guest": {"name": "o", "uuid": uuid_of("o")}, "host": "h1"}]
    assert [stay["guest"]["name"] for stay in document["stays"]] == ["gpu1"]


def test_a_plan_without_off_is_read_too():
    document = made()
    del document["off"]
    assert plan.read(document)["off"] == []


@pytest.mark.parametrize("host", [*AWKWARD_NAMES, "../../etc", ".", "h" * 300])
def test_the_id_is_a_safe_name_for_a_directory(host):
    found = plan.new_id({"kind": "drain", "hosts": [host]}, "2026-11-24T02:00:00Z", "3f9a")
    assert re.fullmatch(r"drain-[A-Za-z0-9._-]+-20261124T020000Z-3f9a", found)
    assert "/" not in found
    assert len(found) < 100


def test_steps_of_a_host():
    document = made()
    assert [step["guest"]["name"] for step in plan.steps_of(document, "h1")] == ["web1", "web2"]
    assert plan.steps_of(document, "h2") == []


def edited(edit):
    document = json.loads(json.dumps(made()))
    edit(document)
    return document


TEXT = json.dumps(made(), indent=2)


@pytest.mark.parametrize(
    ("document", "code", "text"),
    [
        ("", "plan_truncated", "the plan is empty: copy the whole file again, or make a new plan"),
        (
            TEXT[: len(TEXT) // 2].rstrip(),
            "plan_truncated",
            (
                r"the plan is cut short: it ends in the middle (line \d+, column \d+): "
                "copy the whole file again, or make a new plan"
            ),
        ),
        (
            '{"schema": "kvmops.pl',
            "plan_truncated",
            (
                r"the plan is cut short: it ends in the middle (line \d+, column \d+): "
                "copy the whole file again, or make a new plan"
            ),
        ),
        (
            "steps: []",
            "not_json",
            (
                "the plan is not JSON: Expecting value (line 1, column 1): "
                "give the file that migration_plan wrote, unedited or edited with care"
            ),
        ),
        (
            '{"schema": "kvmops.plan/1",, }',
            "not_json",
            (
                r"the plan is not JSON: .* (line 1, column \d+): "
                "give the file that migration_plan wrote, unedited or edited with care"
            ),
        ),
        (b"\xff\xfe\x00", "not_json", "the plan is not a text file: give the file that migration_plan wrote"),
        (
            "[]",
            "not_a_plan",
            "this is not a plan: it has no schema kvmops.plan/1: give the file that migration_plan wrote",
        ),
        (
            "{}",
            "not_a_plan",
            "this is not a plan: it has no schema kvmops.plan/1: give the file that migration_plan wrote",
        ),
        (
            {"schema": "kvmops.report/1"},
            "not_a_plan",
            "this is not a plan but a kvmops.report/1: give the file that migration_plan wrote",
        ),
        (
            {"schema": "kvmops.plan/2"},
            "plan_version",
            (
                "the plan has version 2, and this release of kvmops.cluster reads version 1: "
                "make the plan with the release that carries it out"
            ),
        ),
        (
            edited(lambda p: p.pop("steps")),
            "plan_invalid",
            "the plan is damaged: steps is missing: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p.update(steps={})),
            "plan_invalid",
            "the plan is damaged: steps must be a list, not a mapping: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["steps"].append("s009")),
            "plan_invalid",
            r"the plan is damaged: steps[2] must be a mapping, not a text: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["steps"][1]["guest"].pop("uuid")),
            "plan_invalid",
            "the plan is damaged: steps[1].guest.uuid is missing: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["steps"][0].update(memory_bytes=True)),
            "plan_invalid",
            (
                "the plan is damaged: steps[0].memory_bytes must be a whole number, not true: "
                "correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["steps"][0].update(destination=None)),
            "plan_invalid",
            "the plan is damaged: steps[0].destination must be a text, not null: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["hosts"].update(h2="h2")),
            "plan_invalid",
            "the plan is damaged: hosts.h2 must be a mapping, not a text: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["goal"].update(kind="destroy")),
            "plan_invalid",
            (
                "the plan is damaged: goal.kind must be one of drain, evacuate, rebalance, restore, upgrade, "
                "not 'destroy': correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p.update(id="../../etc/cron.d")),
            "plan_invalid",
            (
                "the plan is damaged: id must be letters, digits, '.', '_' and '-' only, as it names a directory: "
                "correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["stays"][0].pop("refusals")),
            "plan_invalid",
            "the plan is damaged: stays[0].refusals is missing: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p.pop("expected")),
            "plan_invalid",
            "the plan is damaged: expected is missing: correct it there, or make a new plan",
        ),
        *(
            (
                edited(lambda p, key=key: p["steps"][0].pop(key)),
                "plan_invalid",
                f"the plan is damaged: steps[0].{key} is missing: correct it there, or make a new plan",
            )
            for key in ("reason", "strategy", "forecast")
        ),
        (
            edited(lambda p: p["steps"][1].update(id="s001")),
            "plan_invalid",
            "the plan has two steps called s001: give each step an id of its own",
        ),
        (
            edited(lambda p: p["steps"][1].update(after=["s007"])),
            "plan_invalid",
            (
                "the plan is damaged: step s002 waits for step s007, which is not in the plan: "
                "correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["steps"][0].update(destination="h9")),
            "unknown_host",
            (
                "step s001 has the destination h9, which is not among the hosts of the plan (h1, h2, h3): "
                "correct the step, or make a new plan"
            ),
        ),
    ],
)
def test_plans_that_cannot_be_read(document, code, text):
    with pytest.raises(PlanError) as caught:
        plan.read(document)
    literal = re.escape(text).replace(re.escape(r"\d+"), r"\d+").replace(re.escape(".*"), ".*")
    assert re.fullmatch(literal, str(caught.value))
    assert caught.value.refusal["code"] == code
    assert str(caught.value) == f"{caught.value.refusal['reason']}: {caught.value.refusal['remedy']}"


SHORT = json.dumps({"schema": "kvmops.plan/1", "guest": 'größe "x"', "list": [True, False, None, -1.5], "n": {}})


@pytest.mark.parametrize("text", [TEXT[:3000], SHORT])
def test_a_plan_cut_anywhere_is_known_as_cut(text):
    for cut in range(1, len(text)):
        with pytest.raises(PlanError) as caught:
            plan.read(text[:cut])
        assert caught.value.refusal["code"] == "plan_truncated", text[:cut][-30:]


def test_its_own_cluster():
    document = made()
    plan.check_cluster(document, {host: uuid_of(f"host {host}") for host in ("h1", "h2", "h3")})
    plan.check_cluster(document, {"h1": uuid_of("host h1"), "stranger": "x"})
    plan.check_cluster(document, {"h1": None})


@pytest.mark.parametrize(
    ("uuids", "code", "text"),
    [
        (
            {"a1": "x", "a2": "y"},
            "other_cluster",
            (
                "plan drain-h1-20261124T020000Z-3f9a is for another cluster: it does not know a1, a2, only h1, h2, h3: "
                "give the plan that was made for these hosts"
            ),
        ),
        (
            {"h1": "x", "h2": "y"},
            "other_cluster",
            (
                "plan drain-h1-20261124T020000Z-3f9a is for another cluster: h1, h2 are other machines "
                "(their UUIDs differ): give the plan that was made for these hosts"
            ),
        ),
        (
            {"h1": uuid_of("host h1"), "h2": "new"},
            "host_reinstalled",
            (
                "h2 is not the host that plan drain-h1-20261124T020000Z-3f9a was made for: its UUID was "
                f"{uuid_of('host h2')} and is now new: make a new plan"
            ),
        ),
        (
            {"h1": "new"},
            "host_reinstalled",
            (
                "h1 is not the host that plan drain-h1-20261124T020000Z-3f9a was made for: its UUID was "
                f"{uuid_of('host h1')} and is now new: make a new plan"
            ),
        ),
    ],
)
def test_another_cluster(uuids, code, text):
    with pytest.raises(PlanError) as caught:
        plan.check_cluster(made(), uuids)
    assert (caught.value.refusal["code"], str(caught.value)) == (code, text)


def test_the_digest_does_not_hear_counters():
    before, after = hosts()["h1"], copy.deepcopy(hosts()["h1"])
    after["taken_at"] = "2030-01-01T00:00:00Z"
    after["capacity"]["available_bytes"] //= 2
    after["capacity"]["cells"][0]["free_bytes"] //= 2
    after["domains"][0]["balloon"]["rss_bytes"] = 1
    after["domains"].reverse()
    assert plan.snapshot_digest(before) == plan.snapshot_digest(after)
    assert re.fullmatch("sha256:[0-9a-f]{64}", plan.snapshot_digest(before))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(host_uuid="x"),
        lambda s: s["versions"].update(qemu="10.1.0"),
        lambda s: s.update(maintenance=record("cordoned")),
        lambda s: s["domains"].pop(),
        lambda s: s["domains"][0].update(memory_bytes=GIB),
        lambda s: s["domains"][0].update(state="shutoff"),
        lambda s: s["domains"][0].update(blockers=[PINNED]),
        lambda s: s["domains"][0]["metadata"].update(home="h2"),
        lambda s: s["domains"][0]["disks"][0].update(shared=False),
    ],
)
def test_the_digest_hears_what_matters(change):
    before, after = hosts()["h1"], copy.deepcopy(hosts()["h1"])
    change(after)
    assert plan.snapshot_digest(before) != plan.snapshot_digest(after)


def test_nothing_has_changed():
    assert plan.check_fresh(made(), hosts()) == []


def changed(*edits):
    seen = hosts()
    for edit in edits:
        edit(seen)
    return [(r["code"], r["reason"]) for r in plan.check_fresh(made(), seen)]


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
    return [(one["code"], one["reason"]) for one in plan.check_fresh(document, seen)]


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
    assert plan.read(document)
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


def test_goals_know_who_is_off():
    assert [item["guest"]["name"] for item in shut_off_guests.off(["h1"], hosts())] == ["o"]


@pytest.mark.parametrize(
    ("seen", "named", "code", "text"),
    [
        (hosts(), [], "no_host", "no host is named: name at least one host"),
        (
            hosts(),
            ["h9"],
            "unknown_host",
            (
                "there is no snapshot of h9, only of h1, h2, h3: "
                "check the name against the inventory, and that host_info ran there"
            ),
        ),
        (hosts(), ["h1", "h1"], "host_twice", "h1 is named twice: name each host once"),
        (
            cluster(snapshot("h1", domain())),
            ["h1"],
            "no_destination",
            (
                "no host is open to the guests of h1: there is no other host: "
                "open one of them again (host_maintenance with state: active), or add a host to the inventory"
            ),
        ),
        (
            cluster(
                snapshot("h1", domain()),
                snapshot("h2", maintenance=record("cordoned")),
                snapshot("h3", maintenance=record("maintenance", owner="bob")),
            ),
            ["h1"],
            "no_destination",
            (
                "no host is open to the guests of h1: h2 is cordoned, and h3 is in maintenance (bob): "
                "open one of them again (host_maintenance with state: active), or add a host to the inventory"
            ),
        ),
        (
            cluster(
                snapshot("h1", domain("web1")), snapshot("h2", domain("copy", uuid=uuid_of("web1"))), snapshot("h3")
            ),
            ["h3"],
            "duplicate_uuid",
            (
                f"UUID {uuid_of('web1')} is active on two hosts: web1 on h1 and copy on h2: "
                "move nothing until this is resolved: if it is one guest that runs twice, its disk is in danger; "
                "if it is a copy, give the copy a UUID of its own"
            ),
        ),
    ],
)
def test_clusters_that_cannot_be_planned(seen, named, code, text):
    with pytest.raises(PlanError) as caught:
        planning.make(planning.Request("drain", named), Constraints(seen))
    assert (caught.value.refusal["code"], str(caught.value)) == (code, text)


def test_an_empty_host_needs_no_destination():
    made = planning.make(planning.Request("drain", ["h1"]), Constraints(cluster(snapshot("h1"))))
    assert (made.planned.placement, made.off) == (([], []), [])


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({"state_reason": "migration_canceled"}, {}),
        ({"state_reason": "migration_canceled"}, {"state_reason": "migrated"}),
        ({"job": {"operation": "backup"}}, {}),
        ({}, {"job": {"operation": "unknown"}}),
        ({}, {"state": "paused", "state_reason": "user"}),
        ({"state": "crashed"}, {}),
        ({"state_reason": "starting_up"}, {}),
    ],
)
@pytest.mark.parametrize("drained", ["h1", "h2", "h3"])
def test_a_guest_that_runs_on_after_a_failed_migration_is_no_guest_on_its_way(here, there, drained):
    seen = cluster(snapshot("h1", domain(**here)), snapshot("h2", domain(**there)), snapshot("h3"))
    with pytest.raises(PlanError) as caught:
        planning.make(planning.Request("drain", [drained]), Constraints(seen))
    assert caught.value.refusal["code"] == "duplicate_uuid"


def test_a_migration_explains_two_hosts_and_no_third():
    going, coming = domain(job={"operation": "migration_out"}), domain(state="paused", state_reason="migration")
    seen = cluster(snapshot("h1", going), snapshot("h2", coming), snapshot("h3", domain()), snapshot("h4"))
    with pytest.raises(PlanError, match="is active on 3 hosts: web1 on h1, web1 on h2 and web1 on h3"):
        planning.make(planning.Request("drain", ["h4"]), Constraints(seen))


@pytest.mark.parametrize(
    "there", [{"state": "paused", "state_reason": "migration"}, {"state": "paused", "state_reason": "starting_up"}]
)
def test_no_guest_is_sent_to_a_host_where_it_is_active(there):
    seen = cluster(snapshot("h1", domain()), snapshot("h2", domain(**there)))
    placement = planning.make(planning.Request("drain", ["h1"]), Constraints(seen)).planned.placement
    assert placement.steps == []
    assert "running_twice" in [refused["code"] for refused in placement.stays[0]["refusals"]]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({}, {"state": "shutoff"}),
        ({"job": {"operation": "migration_out"}}, {"state": "paused", "state_reason": "migration"}),
        ({"job": {"operation": "migration_out"}}, {"state_reason": "migrated"}),
        ({}, {"state": "paused", "state_reason": "starting_up"}),
        ({"state": "paused", "state_reason": "postcopy"}, {"state_reason": "postcopy"}),
        ({"state": "paused", "state_reason": "postcopy_failed"}, {"state": "paused"}),
        ({"state": "paused", "state_reason": "migration"}, {"state_reason": "migrated"}),
    ],
)
def test_a_left_over_and_a_guest_on_its_way_are_no_duplicates(here, there):
    seen = cluster(snapshot("h1", domain(**here)), snapshot("h2", domain(**there)), snapshot("h3"))
    placement = planning.make(planning.Request("drain", ["h1"]), Constraints(seen)).planned.placement
    assert len(placement.steps) + len(placement.stays) == 1


@pytest.mark.parametrize(
    ("snapshots", "text"),
    [
        (
            [snapshot("")],
            (
                "snapshots[0] is damaged: its host is not the name of the host: "
                "take a new snapshot (host_info), and give it unedited"
            ),
        ),
        (
            [snapshot("h1", domain(), domain(uuid=None))],
            (
                "snapshots[0].domains[1] is damaged: its uuid is not a text: "
                "take a new snapshot (host_info), and give it unedited"
            ),
        ),
        (
            [snapshot("h1", domain(memory_bytes="512M"))],
            (
                "snapshots[0].domains[0] is damaged: its memory_bytes is not a whole number of 0 or more: "
                "take a new snapshot (host_info), and give it unedited"
            ),
        ),
        (
            [snapshot("h1", domains="web1")],
            (
                "snapshots[0] is damaged: its domains is not a list of guests: "
                "take a new snapshot (host_info), and give it unedited"
            ),
        ),
        ([snapshot("h1"), snapshot("h1")], "there are two snapshots of h1: give one of each host, the newest"),
        (
            [snapshot("h1"), {"schema": "kvmops.snapshot/2"}],
            (
                "snapshots[1] is not a snapshot: its schema is kvmops.snapshot/2, not kvmops.snapshot/1: "
                "give what host_info returned as snapshot, of the same release of kvmops.cluster"
            ),
        ),
        (
            {"h1": None},
            (
                "snapshots[0] is not a snapshot: its schema is missing, not kvmops.snapshot/1: "
                "give what host_info returned as snapshot, of the same release of kvmops.cluster"
            ),
        ),
    ],
)
def test_what_is_no_snapshot(snapshots, text):
    with pytest.raises(PlanError) as caught:
        planning.by_host(snapshots)
    assert str(caught.value) == text
