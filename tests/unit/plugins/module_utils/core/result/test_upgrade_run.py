# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.shutdown_consent import consented
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_record import (
    NONE,
    RecordUpdate,
    advanced,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_status import lines, upgrade_status
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_verdict import (
    lost_features,
    reasons_to_stay_closed,
)
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, path, snapshot, uuid_of

NEW = {"libvirt": "11.3.0", "qemu": "11.1.3"}
HOSTS = ["h1", "h2", "h3"]


def kept(run="r1", phase="upgraded", at="2026-11-24T02:00:00Z", qemu="11.1.3"):
    return {**NONE, "run": run, "phase": phase, "at": at, "qemu": qemu}


def found(records, wanted="", upgraded=("h1",)):
    seen = cluster(*(snapshot(host, **({"versions": NEW} if host in upgraded else {})) for host in HOSTS))
    return upgrade_status(HOSTS, {**dict.fromkeys(HOSTS, NONE), **records}, seen, wanted=wanted, fresh="new")


# ---- what is on record -----------------------------------------------------------------------------------------------


def test_a_record_goes_through_a_run():
    guests = [{"name": "web1", "uuid": "u1", "source": "h1"}]
    waiting = advanced(NONE, RecordUpdate("r1", "waiting", owner="alice", qemu="10.0.13", guests=guests), "t1")
    begun = advanced(waiting, RecordUpdate("r1", "begun", stopped=[{"name": "gpu1", "uuid": "u2"}]), "t2")
    assert (begun["phase"], begun["at"], begun["owner"], begun["guests"]) == ("begun", "t2", "alice", guests)
    done = advanced(begun, RecordUpdate("r1", "upgraded", qemu="11.1.3", stopped=[]), "t3")
    assert (done["phase"], done["qemu"], done["stopped"], done["guests"]) == ("upgraded", "11.1.3", [], guests)


def test_a_run_that_goes_on_keeps_what_it_knew_when_it_began():
    begun = {**kept(phase="begun", qemu="10.0.13"), "guests": [{"name": "web1", "uuid": "u1", "source": "h1"}]}
    assert advanced(begun, RecordUpdate("r1", "waiting", qemu="11.1.3", guests=[]), "later") == begun


def test_another_run_forgets_all_but_guests_that_wait_to_be_started_and_that_the_host_was_begun():
    stopped = [{"name": "gpu1", "uuid": "u2"}]
    before = {
        **kept(phase="begun"),
        "guests": [{"name": "web1", "uuid": "u1"}],
        "stopped": stopped,
        "health": {"qemu": "1"},
        "broken_ways": [["h1", "h9"]],
    }
    after = advanced(before, RecordUpdate("r2", "waiting", owner="bob", broken_ways=[["h1", "h3"]]), "later")
    assert (after["run"], after["guests"], after["health"], after["stopped"]) == ("r2", [], None, stopped)
    assert (after["phase"], after["broken_ways"]) == ("begun", [["h1", "h9"]])
    assert advanced(kept(phase="upgraded"), RecordUpdate("r2", "waiting"), "later")["phase"] == "waiting"


def test_the_same_again_changes_nothing_not_even_the_time():
    record = advanced(NONE, RecordUpdate("r1", "begun"), "t1")
    assert advanced(record, RecordUpdate("r1", "begun"), "t2") == record


# ---- where a run stands ----------------------------------------------------------------------------------------------


def test_a_first_run():
    assert found({}) == ("new", False, [], [], HOSTS)


def test_a_run_that_stopped_goes_on():
    stands = found(
        {"h1": kept(), "h2": kept(phase="begun", qemu="10.0.13"), "h3": kept(phase="waiting", qemu="10.0.13")}
    )
    assert stands == ("r1", True, ["h1"], ["h2"], ["h2", "h3"])


def test_where_it_stands_is_told():
    seen = cluster(snapshot("h1", versions=NEW), snapshot("h2"), snapshot("h3"))
    stands = found({"h1": kept(), "h2": kept(phase="begun", qemu="10.0.13")})
    assert lines(stands, seen) == [
        "Rolling upgrade r1 goes on",
        "  done: h1 (QEMU 11.1.3)",
        "  begun earlier, comes first: h2 (QEMU 10.0.13)",
        "  to do: h3 (QEMU 10.0.13)",
    ]


def test_a_host_without_the_qemu_that_it_was_upgraded_to_is_done_again():
    assert found({"h1": kept()}, upgraded=()).left == HOSTS


def test_a_run_that_is_over_does_not_go_on():
    assert found({host: kept(phase="over") for host in HOSTS}, upgraded=HOSTS) == ("new", False, [], [], HOSTS)


def test_a_run_that_is_over_and_named_again_has_nothing_to_do():
    stands = found({host: kept(phase="over") for host in HOSTS}, wanted="r1", upgraded=HOSTS)
    assert (stands.done, stands.left) == (HOSTS, [])


def test_of_two_runs_that_stopped_the_later_goes_on():
    stands = found(
        {"h1": kept("old", at="2026-11-23T00:00:00Z"), "h2": kept("late", "begun", at="2026-11-24T00:00:00Z")}
    )
    assert (stands.run, stands.done, stands.begun) == ("late", [], ["h2"])


def test_hosts_that_an_ended_run_left_out_do_not_bring_it_back():
    """Else all hosts that it has done would count as done for ever."""
    left_out = {"h1": kept(phase="over"), "h2": kept(phase="waiting", qemu="10.0.13"), "h3": kept(phase="over")}
    assert found(left_out, upgraded=("h1", "h3")) == ("new", False, [], [], HOSTS)
    by_name = found(left_out, upgraded=("h1", "h3"), wanted="r1")
    assert (by_name.done, by_name.left) == (["h1", "h3"], ["h2"])


def test_a_run_that_began_no_host_does_not_go_on():
    waiting = kept(phase="waiting", qemu="10.0.13")
    assert found(dict.fromkeys(HOSTS, waiting), upgraded=()) == ("new", False, [], [], HOSTS)


@pytest.mark.parametrize("wanted", ["", "again"])
def test_a_host_that_another_run_has_begun_comes_first_whatever_it_was_left_for(wanted):
    stands = found({"h1": kept(phase="over"), "h2": kept(phase="begun", qemu="10.0.13")}, wanted=wanted)
    assert stands == (wanted or "new", False, [], ["h2"], HOSTS)


def test_a_host_with_guests_that_wait_to_be_started_comes_first_whatever_its_phase():
    stopped = [{"name": "gpu1", "uuid": "u2"}]
    stands = found({"h1": {**kept(), "stopped": stopped}, "h2": {**kept(phase="waiting"), "stopped": stopped}})
    assert (stands.done, stands.begun, stands.left) == ([], ["h1", "h2"], HOSTS)


# ---- who may be shut down --------------------------------------------------------------------------------------------


def stay(name, host="h1"):
    why = {"code": "hostdev", "reason": f"a device is passed through to {name}", "remedy": "detach it"}
    return {"guest": {"name": name, "uuid": uuid_of(name)}, "host": host, "refusals": [why]}


def sorted_out(guest, intent):
    seen = cluster(snapshot("h1", guest), snapshot("h2"))
    return consented([stay(guest["name"])], seen, intent)


@pytest.mark.parametrize(
    ("own", "run", "permitted"),
    [
        ({}, {}, False),
        ({"allow_shutdown": True}, {}, True),
        ({}, {"allow_shutdown": True}, True),
        ({"allow_shutdown": True}, {"allow_shutdown": False}, False),
        ({"allow_shutdown": False}, {"allow_shutdown": True}, False),
    ],
)
def test_a_guest_is_shut_down_only_with_consent(own, run, permitted):
    consent = sorted_out(domain("gpu1", intent=own), run)
    assert [guest["name"] for guest in consent.stop] == (["gpu1"] if permitted else [])
    assert len(consent.blocked) == (0 if permitted else 1)


@pytest.mark.parametrize(
    ("changes", "code"), [({"persistent": False}, "transient"), ({"state": "paused"}, "does_not_run")]
)
def test_a_guest_that_would_not_come_back_is_not_shut_down(changes, code):
    consent = sorted_out(domain("gpu1", **changes), {"allow_shutdown": True})
    assert consent.stop == []
    assert [why["code"] for why in consent.blocked[0]["refusals"]] == ["hostdev", code]


def test_a_guest_of_another_manager_is_not_shut_down_for_it_would_be_started_elsewhere():
    owned = domain("gpu1", managed_by="pacemaker")
    consent = sorted_out(owned, {"allow_shutdown": True})
    assert consent.stop == []
    assert [why["code"] for why in consent.blocked[0]["refusals"]] == ["hostdev", "managed"]
    assert [guest["name"] for guest in sorted_out(owned, {"allow_shutdown": True, "allow_managed": True}).stop] == [
        "gpu1"
    ]


def test_while_a_host_is_silent_nobody_is_shut_down_for_nobody_could_be_started_again():
    seen = cluster(snapshot("h1", domain("gpu1")), snapshot("h2"))
    consent = consented([stay("gpu1")], seen, {"allow_shutdown": True}, silent=["h3"])
    assert consent.stop == []
    assert consent.blocked[0]["refusals"][-1] == {
        "code": "host_silent",
        "reason": "if gpu1 were shut down, it could not be started again while h3 does not answer, because it may run"
        " there by then",
        "remedy": "bring h3 back, or take it out of the inventory if it is gone for good; then run the same again",
    }
    # Whatever else keeps it is told first: that is what an operator can do something about.
    refused = consented([stay("gpu1")], seen, {}, silent=["h3"]).blocked[0]["refusals"][-1]
    assert refused["code"] == "no_consent"


def test_a_guest_that_nobody_sees_is_not_shut_down():
    consent = consented([stay("ghost")], cluster(snapshot("h1")), {"allow_shutdown": True})
    assert consent.blocked[0]["refusals"][-1]["reason"] == "ghost is on no host that answers"


def test_without_consent_it_is_said_how_to_give_it():
    consent = sorted_out(domain("gpu1"), {})
    assert consent.blocked[0]["refusals"][-1] == {
        "code": "no_consent",
        "reason": "it is not permitted to shut gpu1 down while its host is away",
        "remedy": "permit it: allow_shutdown in its own intent, or -e rolling_upgrade_allow_shutdown=true for all",
    }


# ---- whether a host is well ------------------------------------------------------------------------------------------


def test_what_a_host_had_and_has_no_more():
    before = {**NEW, "pools": ["images", "iso"], "networks": ["default"], "mounts": ["/shared"]}
    assert lost_features(before, {**before, "qemu": "11.2.0", "pools": ["images", "iso", "more"]}) == []
    assert lost_features(
        before, {"libvirt": "9.0.0", "qemu": "11.1.3", "pools": ["iso"], "networks": [], "mounts": []}
    ) == [
        "libvirt is 9.0.0, and was 11.3.0 before",
        "the storage pool images is not active",
        "the network default is not active",
        "the shared storage at /shared is not mounted",
    ]


def ways(*pairs, **broken):
    return [path(source, destination, **broken) for source, destination in pairs]


ALL = [("h1", "h2"), ("h2", "h1"), ("h1", "h3"), ("h3", "h1")]


def judged(paths, hosts=("h1",), well=("h1",), said=None, answering=("h1", "h2", "h3"), before=()):
    seen = cluster(*(snapshot(host) for host in answering))
    return reasons_to_stay_closed(hosts, well=well, said=said or {}, snapshots=seen, paths=paths, before=before)


def test_a_host_that_is_proven_well_may_be_opened():
    assert judged(ways(*ALL)) == {}


def test_a_way_that_was_not_tried_is_no_proof():
    assert judged(ways(*ALL[:3])) == {"h1": ["the path from h3 to h1 does not work: it could not be tried"]}


def test_a_way_that_does_not_work_says_why():
    checks = [
        {"check": "connect", "ok": False, "code": "x", "reason": "Host key verification failed", "remedy": "add it"}
    ]
    broken = ways(*ALL[:3]) + ways(ALL[3], ok=False, checks=checks)
    assert judged(broken) == {"h1": ["the path from h3 to h1 does not work: Host key verification failed"]}


def test_a_way_that_did_not_work_before_either_is_no_fault_of_the_upgrade():
    broken = ways(*ALL[:2]) + ways(*ALL[2:], ok=False, checks=[])
    assert list(judged(broken, before=[["h1", "h3"]])) == ["h1"]
    assert judged(broken, before=[["h1", "h3"], ["h3", "h1"]]) == {}


def test_a_host_that_failed_says_what_failed_and_one_that_says_nothing_is_not_well():
    both = ways(*ALL, ("h2", "h3"), ("h3", "h2"))
    found_out = judged(both, hosts=("h1", "h2"), well=(), said={"h1": "host | Upgrade: no space left"})
    assert found_out == {"h1": ["host | Upgrade: no space left"], "h2": ["it does not answer any more"]}


def test_a_host_that_does_not_answer_is_not_well_and_does_not_spoil_the_other():
    found_out = judged(ways(("h2", "h3"), ("h3", "h2")), hosts=("h1", "h2"), well=("h1", "h2"), answering=["h2", "h3"])
    assert found_out == {"h1": ["its libvirtd does not answer"]}
