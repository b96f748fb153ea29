# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import json
import threading

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import Claim
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.run import journal as journals
from ansible_collections.kvmops.cluster.plugins.module_utils.run import leases, runner
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import kept_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import write_durably
from ansible_collections.kvmops.cluster.plugins.module_utils.run.past_runs import list_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import take_run_lock
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import job as migration
from ansible_collections.kvmops.cluster.plugins.modules import plan_apply
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.builders import AWKWARD_NAMES
from ansible_collections.kvmops.cluster.tests.unit.movers import until


class World:
    def __init__(self, run_module, cluster, path):
        self.cluster, self.state_dir = cluster, path / "state"
        self.h1, self.h2 = cluster.add_host("h1"), cluster.add_host("h2")
        self._run = run_module

    def step(self, guest, source="h1", destination="h2", **changes):
        return {
            "id": f"s-{guest.uuid[:8]}",
            "guest": {"name": guest.name, "uuid": guest.uuid},
            "source": source,
            "destination": destination,
            "memory_bytes": 512 << 20,
            "intent": {**intents.normalise({"encryption": "off"}), **changes.pop("intent", {})},
            "reason": "h2 keeps the most memory free",
            "strategy": None,
            "forecast": None,
            "after": [],
            **changes,
        }

    def plan(self, *guests, **changes):
        hosts = {
            name: {
                "host_uuid": self.cluster.hosts[name].uuid,
                "connect_uri": f"qemu+ssh://root@{name}/system",
                "migration_address": None,
            }
            for name in ("h1", "h2")
        }
        return {
            "schema": "kvmops.plan/1",
            "id": "drain-h1-20261124T020000Z-3f9a",
            "goal": {"kind": "drain", "hosts": ["h1"]},
            "created_at": "2026-11-24T02:00:00Z",
            "intent": {},
            "snapshots": {},
            "hosts": hosts,
            "steps": [self.step(guest) for guest in guests],
            "stays": [],
            "off": [],
            "expected": {"seconds": None, "fits_window": None},
            **changes,
        }

    def apply(self, plan=None, **arguments):
        given = {"name": "h1", "state_dir": str(self.state_dir), "owner": "alice@admin1"}
        if plan is not None:
            given["plan"] = plan
        return self._run(plan_apply, **{**given, **arguments})


@pytest.fixture
def world(run_module, cluster, tmp_path, monkeypatch):
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setattr(host, "snapshot", functools.partial(host.snapshot, root=root))
    monkeypatch.setattr(migration, "POLL_S", 0.01)
    monkeypatch.setattr(runner, "JOIN_POLL_S", 0.01)
    monkeypatch.setattr(runner, "TAKE_AGAIN_S", 0.001)
    return World(run_module, cluster, tmp_path)


def outcomes(result):
    return [one["outcome"] for one in result["results"]]


def test_a_plan_is_carried_out_in_its_order(world):
    guests = [world.h1.add_guest(name) for name in ("web1", *AWKWARD_NAMES)]
    order = []

    def complete(job):
        order.append(job.source_guest.name)
        job.complete()

    world.cluster.on_migrate = complete
    result = world.apply(world.plan(*guests), diff=True)
    assert not result.get("failed"), result.get("msg")
    assert result["changed"]
    assert outcomes(result) == ["moved"] * len(guests)
    assert order == ["web1", *AWKWARD_NAMES]
    assert world.h1.guests == {}
    assert result["diff"]["before"] == dict.fromkeys(["web1", *AWKWARD_NAMES], "h1")
    assert result["run"]["plan"] == "drain-h1-20261124T020000Z-3f9a"
    events = [entry["event"] for entry in journals.read(result["run"]["journal"])]
    assert (events[0], events[-1]) == ("run.started", "run.finished")
    assert events.count("migration.started") == len(guests)


def test_a_start_is_on_disk_before_the_guest_moves(world):
    guest = world.h1.add_guest("web1")
    seen = []

    def look(job):
        path = RunDirectory(str(world.state_dir), "drain-h1-20261124T020000Z-3f9a").journal
        seen.extend(entry["event"] for entry in journals.read(path))
        job.complete()

    world.cluster.on_migrate = look
    world.apply(world.plan(guest))
    assert seen == ["run.started", "step.started", "migration.started"]


def test_the_same_plan_again_changes_nothing(world):
    guest = world.h1.add_guest("web1")
    world.cluster.on_migrate = lambda job: job.complete()
    plan = world.plan(guest)
    world.apply(plan)
    again = world.apply(plan)
    assert (again["changed"], outcomes(again)) == (False, ["already_there"])


def test_check_mode_opens_nothing_that_could_write_and_keeps_no_record(world):
    guests = [world.h1.add_guest("web1"), world.h1.add_guest("web2")]
    result = world.apply(world.plan(*guests), check=True, diff=True)
    assert (result["changed"], outcomes(result)) == (True, ["would_move", "would_move"])
    assert result["diff"] == {
        "before": {"web1": "h1", "web2": "h1"},
        "after": {"web1": "h2", "web2": "h2"},
    }
    assert world.cluster.opened
    assert all(read_only for _uri, read_only in world.cluster.opened)
    assert world.cluster.writes == []
    assert not world.state_dir.exists()


def sent_by_a_run_that_died(world, name="old1", state=libvirt.VIR_DOMAIN_RUNNING):
    """A guest that is at its destination, and a record of what its source kept of it."""
    guest = world.h2.add_guest(name, state=(state, 1))
    kept_settings.store(
        str(world.state_dir),
        {
            "schema": kept_settings.SCHEMA,
            "name": name,
            "uuid": guest.uuid,
            "source": "h1",
            "destination": "h2",
            "autostart": True,
            "checkpoints": ["not a checkpoint"],
        },
    )
    return guest


def test_what_a_run_that_died_had_on_record_is_set_before_anything_is_moved(world):
    old = sent_by_a_run_that_died(world)
    guest = world.h1.add_guest("web1")
    world.cluster.on_migrate = lambda job: job.complete()
    result = world.apply(world.plan(guest))
    assert outcomes(result) == ["moved"]
    assert old.autostart
    told = [entry for entry in journals.read(result["run"]["journal"]) if entry["event"] == "settings.handed_over"]
    assert [(one["data"]["uuid"], one["data"]["corrected"]) for one in told] == [(old.uuid, ["set autostart on h2"])]
    assert kept_settings.guests(str(world.state_dir)) == []


def test_what_a_run_that_died_has_left_is_told_and_set_by_a_plan_without_steps(world):
    old = sent_by_a_run_that_died(world)
    assert world.apply(attach_only=True)["unfinished"] == [old.uuid]
    assert world.apply(world.plan())["results"] == []
    assert old.autostart
    assert world.apply(attach_only=True)["unfinished"] == []


@pytest.mark.parametrize("where", ["off there", "still here"])
def test_what_is_on_record_is_not_set_for_a_guest_that_has_not_arrived(world, where):
    state = libvirt.VIR_DOMAIN_SHUTOFF if where == "off there" else libvirt.VIR_DOMAIN_RUNNING
    old = sent_by_a_run_that_died(world, state=state)
    if where == "still here":
        world.h1.add_guest("old1", uuid=old.uuid)
    world.apply(world.plan())
    assert not old.autostart
    assert kept_settings.guests(str(world.state_dir)) == [old.uuid]


def test_a_plan_with_a_step_that_makes_no_sense_moves_nobody(world):
    good, bad = world.h1.add_guest("web1"), world.h1.add_guest("web2")
    plan = world.plan(good)
    plan["steps"].append(world.step(bad, intent={"max_downtime_ms": "soon"}))
    world.cluster.on_migrate = lambda job: job.complete()
    for check in (True, False):
        result = world.apply(plan, check=check)
        assert "the plan is damaged: steps[1].intent makes no sense: max_downtime_ms must be" in result["msg"]
        assert "results" not in result
    assert world.cluster.writes == []


def test_what_failed_is_summed_up_and_what_moved_has_changed(world):
    guests = [world.h1.add_guest(name) for name in ("web1", "web2", "web3")]

    def end(job):
        if job.source_guest.name == "web2":
            job.fail(9, "operation failed: Broken pipe")
        else:
            job.complete()

    world.cluster.on_migrate = end
    result = world.apply(world.plan(*guests))
    assert result["failed"]
    assert result["changed"]
    assert outcomes(result) == ["moved", "failed", "moved"]
    assert result["msg"] == (
        "1 of 3 guests did not move. web2 (failed): operation failed: Broken pipe. It still runs where it was."
    )


def test_only_the_steps_of_this_host_are_carried_out(world):
    here, there = world.h1.add_guest("web1"), world.h2.add_guest("web2")
    plan = world.plan(here)
    plan["steps"].append(world.step(there, source="h2", destination="h1"))
    world.cluster.on_migrate = lambda job: job.complete()
    assert [one["guest"]["name"] for one in world.apply(plan)["results"]] == ["web1"]
    assert world.h2.guest("web2") is there


def test_a_plan_without_steps_for_this_host_does_nothing(world):
    result = world.apply(world.plan())
    assert (result["changed"], result["results"]) == (False, [])


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"schema": "kvmops.plan/2"}, "plan_version", "the plan has version 2, and this release"),
        ({"schema": "kvmops.report/1"}, "not_a_plan", "this is not a plan but a kvmops.report/1"),
        ({"schema": None}, "not_a_plan", "this is not a plan"),
        ({"steps": None}, "plan_invalid", "the plan is damaged: steps must be a list, not null"),
        ({"id": "../../etc"}, "plan_invalid", "it names a directory"),
    ],
)
def test_a_plan_that_cannot_be_used(world, changes, code, words):
    result = world.apply(world.plan(world.h1.add_guest("web1"), **changes))
    assert result["failed"]
    assert result["refusal"]["code"] == code
    assert words in result["msg"]
    assert world.cluster.writes == []
    assert not world.state_dir.exists()


def test_a_plan_that_lacks_a_part(world):
    plan = world.plan(world.h1.add_guest("web1"))
    del plan["steps"][0]["guest"]["uuid"]
    assert "steps[0].guest.uuid is missing" in world.apply(plan)["msg"]


def test_a_plan_for_another_cluster(world):
    result = world.apply(world.plan(world.h1.add_guest("web1")), name="h9")
    assert result["refusal"]["code"] == "other_cluster"
    assert "it does not know h9, only h1, h2" in result["msg"]


def test_a_plan_for_a_host_that_was_installed_anew(world):
    plan = world.plan(world.h1.add_guest("web1"))
    plan["hosts"]["h1"]["host_uuid"] = "5b5e2c0c-0000-0000-0000-000000000000"
    result = world.apply(plan)
    assert result["refusal"]["code"] == "host_reinstalled"
    assert world.cluster.writes == []


def test_a_destination_without_a_way_to_it_is_refused_and_not_this_host(world):
    plan = world.plan(world.h1.add_guest("web1"))
    plan["hosts"]["h2"]["connect_uri"] = None
    result = world.apply(plan)
    assert outcomes(result) == ["refused"]
    assert "the plan does not say how to reach h2" in result["msg"]
    assert world.cluster.writes == []


def test_another_plan_that_is_being_carried_out_is_named(world):
    lease = take_run_lock(str(world.state_dir), "evacuate-1", "bob@admin2")
    result = world.apply(world.plan(world.h1.add_guest("web1")))
    lease.release()
    assert result["refusal"]["code"] == "busy"
    assert "plan evacuate-1 of bob@admin2 is being carried out here since" in result["msg"]
    assert world.cluster.writes == []


@pytest.mark.parametrize("check", [False, True])
def test_devices_that_may_be_others_at_the_destination_are_refused_before_anything_starts(world, check):
    plan = world.plan(world.h1.add_guest("web1"))
    result = world.apply(plan, shared_devices=["/dev/disk/by-id/*", "/dev/*"], check=check)
    assert result["refusal"]["code"] == "bad_option"
    assert "shared_devices has '/dev/*', which can match /dev/sd...; the kernel gives such names" in result["msg"]
    assert (world.cluster.opened, world.cluster.writes) == ([], [])


@pytest.mark.parametrize("window", [0, -1])
def test_a_window_that_lets_nobody_through(world, window):
    result = world.apply(world.plan(), window=window)
    assert f"window is {window}, and 1 is the least it can be" in result["msg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "there is nothing to carry out: give plan or plan_path"),
        ({"attach_only": False}, "there is nothing to carry out: give plan or plan_path"),
        ({"plan_path": "/plans/x.json"}, "plan_path is a file on the controller, which reads it"),
        ({"plan": {}, "plan_path": "/plans/x.json"}, "mutually exclusive"),
        ({"plan": {}, "attach_only": True}, "mutually exclusive"),
    ],
)
def test_what_is_asked_for_must_be_one_thing(world, arguments, words):
    result = world.apply(**arguments)
    assert result["failed"]
    assert words in result["msg"]


def test_records_that_cannot_be_kept_are_a_reason(world, tmp_path):
    (tmp_path / "file").write_text("")
    result = world.apply(world.plan(world.h1.add_guest("web1")), state_dir=str(tmp_path / "file" / "x"))
    assert result["refusal"]["code"] == "state_dir"
    assert world.cluster.writes == []


def test_so_many_runs_are_kept_as_the_operator_wants(world):
    for number in range(4):
        world.apply(world.plan(id=f"p{number}"), keep_runs=2)
    kept = sorted(path.name for path in (world.state_dir / "runs").iterdir())
    assert kept == ["p2", "p3"]
    world.apply(world.plan(id="p9"), keep_runs=1, check=True)
    assert sorted(path.name for path in (world.state_dir / "runs").iterdir()) == kept


@pytest.mark.parametrize("option", ["keep_runs", "keep_days"])
def test_less_than_nothing_cannot_be_kept(world, option):
    result = world.apply(world.plan(), **{option: -1})
    assert f"{option} is -1, and 0 is the least it can be" in result["msg"]


def test_when_a_guest_moved_is_summed_up_in_the_result(world):
    world.cluster.on_migrate = lambda job: job.complete()
    plan = world.plan(world.h1.add_guest("web1"))
    result = world.apply(plan)
    with_moves = json.loads((world.state_dir / "runs" / plan["id"] / "result.json").read_text("utf-8"))
    (step,) = list_runs(str(world.state_dir))[0]["steps"]
    assert with_moves["run"]["moved_at"] == {plan["steps"][0]["id"]: step["moved_at"]}
    assert "moved_at" not in result["run"]


def test_lines_of_all_guests_are_written_for_the_controller(world, tmp_path):
    world.cluster.on_migrate = lambda job: job.complete()
    link = tmp_path / "progress-1"
    world.apply(world.plan(world.h1.add_guest("web1")), progress_path=str(link))
    phases = [json.loads(line)["phase"] for line in link.read_text().splitlines()]
    assert (phases[0], phases[-2], phases[-1]) == ("job", "done", "end")


# --- joining a run ----------------------------------------------------------------------------------------------------


def test_without_a_run_there_is_nothing_to_join(world):
    result = world.apply(attach_only=True)
    assert (result["changed"], result["results"]) == (False, [])
    assert result["run"] == {"plan": None, "attached": False}
    assert result["unfinished"] == []
    assert not world.state_dir.exists()


def test_a_run_that_is_at_work_is_told_of_in_check_mode(world):
    lease = take_run_lock(str(world.state_dir), "drain-1", "bob@admin2")
    result = world.apply(attach_only=True, check=True, progress_path="/nowhere/x")
    lease.release()
    assert result["run"] == {"plan": "drain-1", "attached": True}


@pytest.mark.parametrize("dies", [False, True])
def test_a_run_that_is_at_work_is_awaited(world, tmp_path, dies):
    state_dir = str(world.state_dir)
    lease = take_run_lock(state_dir, "drain-1", "bob@admin2")
    directory = RunDirectory(state_dir, "drain-1")
    directory.make({"id": "drain-1"})
    guest = world.h1.add_guest("web1")
    results = [step_result(world.step(guest), "moved")]

    def end():
        if not dies:
            document = {"schema": runner.RESULT_SCHEMA, "results": results, "run": {"plan": "drain-1"}}
            write_durably(directory.result, document)
        lease.release()

    threading.Timer(0.05, end).start()
    result = world.apply(attach_only=True, progress_path=str(tmp_path / "link"))
    if dies:
        assert result["refusal"]["code"] == "run_died"
        assert result["refusal"]["reason"].startswith("the run of plan drain-1 ended without a result")
        assert "run the plan again" in result["refusal"]["remedy"]
    else:
        assert (outcomes(result), result["run"]) == (["moved"], {"plan": "drain-1", "attached": True})


def test_a_guest_that_a_dead_run_had_under_way_is_joined(world):
    guest = world.h1.add_guest("web1")
    domain = libvirt.open("qemu:///system").lookupByName("web1")
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_PERSIST_DEST
    uri = "qemu+ssh://root@h2/system"
    moving = threading.Thread(target=domain.migrateToURI3, args=(uri, {}, flags), daemon=True)
    moving.start()
    job = guest.wait_for_job()
    path = RunDirectory(str(world.state_dir), "drain-h1-20261124T020000Z-3f9a").journal

    def complete_once_joined():
        until(lambda: "run.attached" in [entry["event"] for entry in journals.read(path)])
        job.complete()

    threading.Thread(target=complete_once_joined, daemon=True).start()
    result = world.apply(world.plan(guest))
    moving.join(5)
    assert outcomes(result) == ["moved"]
    assert [call for _host, call in world.cluster.writes].count("virDomainMigrateToURI3") == 1
    assert world.h1.guests == {}


ALICE = Claim("h1", "alice@admin1", "drain-h1", ttl_s=600)
BOB = Claim("h1", "bob@admin2", "rebalance-7", "nightly rebalance", force=True)


def test_a_run_that_has_the_host_carries_its_plan_out_and_keeps_the_lease(world):
    guest = world.h1.add_guest("web1")
    taken = leases.take(str(world.state_dir), ALICE).after
    world.cluster.on_migrate = lambda job: job.complete()
    result = world.apply(world.plan(guest), fence=taken["fence"])
    assert outcomes(result) == ["moved"]
    kept = leases.load(str(world.state_dir), "h1")
    assert kept["expires_at"] > taken["expires_at"]
    end = dict.fromkeys(("expires_at", "expires_uptime_s"))
    assert {**kept, **end} == {**taken, **end}


@pytest.mark.parametrize("check", [True, False])
def test_a_late_writer_is_fenced_off_before_it_begins(world, check):
    guest = world.h1.add_guest("web1")
    late = leases.take(str(world.state_dir), ALICE).after["fence"]
    leases.take(str(world.state_dir), BOB)
    result = world.apply(world.plan(guest), fence=late, check=check)
    assert result["failed"]
    assert result["refusal"]["code"] == "lease_lost"
    assert "h1 was taken over by bob@admin2 for run rebalance-7 (nightly rebalance) since" in result["msg"]
    assert world.cluster.writes == []
    assert world.cluster.opened == []


def test_a_run_that_loses_the_host_ends_the_move_in_flight_and_begins_no_other(world):
    guests = [world.h1.add_guest("web1"), world.h1.add_guest("web2")]
    fence = leases.take(str(world.state_dir), ALICE).after["fence"]

    def lose_it(job):
        leases.take(str(world.state_dir), BOB)
        job.complete()

    world.cluster.on_migrate = lose_it
    result = world.apply(world.plan(*guests), fence=fence)
    assert outcomes(result) == ["moved", "refused"]
    assert [why["code"] for why in result["results"][1]["refusals"]] == ["lease_lost"]
    assert [guest.name for guest in world.h1.guests.values()] == ["web2"]
    assert leases.load(str(world.state_dir), "h1")["owner"] == "bob@admin2"


def test_without_a_fence_leases_are_not_looked_at(world):
    guest = world.h1.add_guest("web1")
    leases.take(str(world.state_dir), BOB)
    world.cluster.on_migrate = lambda job: job.complete()
    assert outcomes(world.apply(world.plan(guest))) == ["moved"]


@pytest.mark.parametrize("permitted", [None, False, True])
def test_hooks_of_guests_run_only_where_that_is_permitted(world, monkeypatch, permitted):
    seen = []
    monkeypatch.setattr(plan_apply.module_common, "mover", lambda *arguments: seen.append(arguments[-1].guest_hooks))
    asked = {} if permitted is None else {"guest_hooks": permitted}
    world.apply(world.plan(), **asked)
    assert seen == [bool(permitted)]
