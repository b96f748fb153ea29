# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import json
import signal
import sys
import threading
import types
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import Claim
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.run import journal as journals
from ansible_collections.kvmops.cluster.plugins.module_utils.run import leases, runner
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import write_durably
from ansible_collections.kvmops.cluster.plugins.module_utils.run.past_runs import list_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import is_run_locked, take_run_lock
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state, host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import job as migration
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import module_common
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import MoveContext
from ansible_collections.kvmops.cluster.plugins.modules import domain_migrate
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.builders import AWKWARD_NAMES

URI = "qemu+ssh://root@h2/system"


class World:
    def __init__(self, run_module, cluster, path):
        self.cluster, self.path = cluster, path
        self.h1, self.h2 = cluster.add_host("h1"), cluster.add_host("h2")
        self._run = run_module

    def migrate(self, guest, **arguments):
        given = {"name": "h1", "destination_uri": URI, "encryption": "off", "state_dir": str(self.path), "guest": guest}
        return self._run(domain_migrate, **{**given, **arguments})


@pytest.fixture
def world(run_module, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(host, "snapshot", functools.partial(host.snapshot, root=tmp_path))
    monkeypatch.setattr(migration, "POLL_S", 0.01)
    monkeypatch.setattr(runner, "JOIN_POLL_S", 0.01)
    monkeypatch.setattr(runner, "TAKE_AGAIN_S", 0.001)
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    yield World(run_module, cluster, tmp_path)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["web1", *AWKWARD_NAMES])
def test_a_guest_is_moved_by_its_name(world, name):
    guest = world.h1.add_guest(name)
    world.cluster.on_migrate = lambda job: job.complete(downtime=92)
    result = world.migrate(name)
    assert not result.get("failed")
    assert result["changed"]
    moved = result["migration"]
    assert (moved["outcome"], moved["downtime_ms"]) == ("moved", 92)
    assert moved["guest"] == {"name": name, "uuid": guest.uuid}
    assert (moved["source"], moved["destination"]) == ("h1", "h2")
    assert world.h2.guest(name).persistent
    assert world.h1.guests == {}


def test_a_guest_is_moved_by_its_uuid(world):
    guest = world.h1.add_guest("web1")
    world.cluster.on_migrate = lambda job: job.complete()
    assert world.migrate(guest.uuid)["migration"]["guest"]["name"] == "web1"


def test_a_guest_with_the_uuid_of_another_as_its_name_is_not_the_one_that_is_meant(world):
    guest = world.h1.add_guest("web1")
    odd = world.h1.add_guest(guest.uuid)
    world.cluster.on_migrate = lambda job: job.complete()
    assert world.migrate(guest.uuid)["migration"]["guest"]["name"] == "web1"
    assert set(world.h1.guests) == {odd.uuid}


def test_twice_is_once(world):
    world.h1.add_guest("web1")
    world.cluster.on_migrate = lambda job: job.complete()
    world.migrate("web1")
    again = world.migrate("web1")
    assert (again["changed"], again["migration"]["outcome"]) == (False, "already_there")


def test_check_mode_opens_nothing_that_could_write(world):
    world.h1.add_guest("web1")
    result = world.migrate("web1", check=True, diff=True, progress_path=str(world.path / "runs" / "progress"))
    assert (result["changed"], result["migration"]["outcome"]) == (True, "would_move")
    assert result["diff"] == {"before": {"web1": "h1"}, "after": {"web1": "h2"}}
    assert world.cluster.opened
    assert all(read_only for _uri, read_only in world.cluster.opened)
    assert world.cluster.writes == []
    assert list(world.path.iterdir()) == []


def test_check_mode_of_what_would_be_refused_fails_as_the_move_would(world):
    world.h1.add_guest("web1", state=(libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER))
    told = [world.migrate("web1", check=check)["msg"] for check in (True, False)]
    assert told[0] == told[1]
    assert told[0] == (
        "1 of 1 guests did not move. web1 (refused): web1 is paused (user): resume it (virsh resume web1)"
    )
    assert world.cluster.writes == []


def test_without_diff_there_is_none(world):
    world.h1.add_guest("web1")
    assert "diff" not in world.migrate("web1", check=True)


def test_a_failure_says_what_libvirt_said(world):
    world.h1.add_guest("web1")
    world.cluster.on_migrate = lambda job: job.fail(9, "operation failed: Broken pipe")
    result = world.migrate("web1", diff=True)
    assert result["failed"]
    assert not result["changed"]
    assert result["msg"] == (
        "1 of 1 guests did not move. web1 (failed): operation failed: Broken pipe. It still runs where it was."
    )
    assert result["migration"]["outcome"] == "failed"
    assert result["diff"] == {"before": {}, "after": {}}


def test_a_guest_that_is_unclear_says_what_to_look_at(world, monkeypatch):
    monkeypatch.setattr(guest_state, "POLL_S", 10.0)
    world.h1.add_guest("web1")

    def lost(job):
        job.fail_unclear()
        world.h2.stop_daemon()

    world.cluster.on_migrate = lost
    monkeypatch.setattr(module_common, "MoveContext", functools.partial(MoveContext, clock=Fast()))
    result = world.migrate("web1")
    assert result["migration"]["outcome"] == "unclear"
    assert "bring h2 back, then compare virsh domstate --reason web1 on both hosts" in result["msg"]


class Fast:
    """A clock that goes a minute further at each look."""

    def __init__(self):
        self._now = 0.0

    def __call__(self):
        self._now += 60.0
        return self._now


def test_a_name_that_nobody_knows_is_met_with_the_nearest(world):
    world.h1.add_guest("web1")
    result = world.migrate("wbe1")
    assert result["msg"] == "there is no guest wbe1 on h1, nor on h2: did you mean web1?"
    assert result["refusal"]["code"] == "unknown_guest"
    long = world.migrate("x" * 5000)
    assert len(long["msg"]) < 500


@pytest.mark.parametrize("check", [False, True])
def test_a_destination_that_cannot_be_reached(world, check):
    world.h1.add_guest("web1")
    result = world.migrate("web1", destination_uri="qemu+ssh://root@h9/system", check=check)
    assert result["failed"]
    assert "Could not resolve hostname h9" in result["msg"]
    assert result["msg"].endswith("make the name resolvable on the source host, or use an address in the URI")
    assert world.cluster.writes == []


@pytest.mark.parametrize("uri", ["qemu:///system", "qemu+ssh://root@h1/system"])
def test_a_destination_that_is_this_very_host(world, uri):
    world.h1.add_guest("web1")
    result = world.migrate("web1", destination_uri=uri, destination="h1-again")
    assert result["failed"]
    assert "same host" in result["msg"]
    assert world.cluster.writes == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_downtime_ms": 0}, "max_downtime_ms must be a whole number from 1 to 2000000"),
        ({"deadline_s": 0}, "deadline_s must be a whole number of at least 1"),
        ({"incoming_limit": 0}, "incoming_limit is 0, and 1 is the least it can be"),
        ({"reserve_mib": -1}, "reserve_mib is -1, and 0 is the least it can be"),
        (
            {"shared_devices": ["/dev/sdb"]},
            "shared_devices has '/dev/sdb', which can match /dev/sd...; the kernel gives",
        ),
        ({"encryption": "maybe"}, "value of encryption must be one of"),
    ],
)
def test_an_option_that_makes_no_sense(world, arguments, words):
    world.h1.add_guest("web1")
    result = world.migrate("web1", **arguments)
    assert result["failed"]
    assert words in result["msg"]
    assert world.cluster.writes == []


def test_the_lines_are_written_where_the_controller_reads_them(world):
    world.h1.add_guest("web1")
    world.cluster.on_migrate = lambda job: job.complete()
    progress = world.path / "state" / "progress-1"
    world.migrate("web1", progress_path=str(progress))
    lines = [json.loads(line) for line in progress.read_text().splitlines()]
    assert (lines[0]["phase"], lines[-2]["phase"], lines[-1]["phase"]) == ("job", "done", "end")


def test_lines_that_cannot_be_written_stop_nothing(world):
    world.h1.add_guest("web1")
    world.cluster.on_migrate = lambda job: job.complete()
    assert world.migrate("web1", progress_path="/proc/nowhere/progress")["migration"]["outcome"] == "moved"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_aborts_the_move_and_the_guest_stays(world, number):
    guest = world.h1.add_guest("web1")
    # A signal sent to the process is taken by its main thread, which is the one that watches.
    world.cluster.on_migrate = lambda _job: signal.pthread_kill(threading.main_thread().ident, number)
    result = world.migrate("web1")
    assert "given up: interrupted" in result["msg"]
    assert guest.state[0] == libvirt.VIR_DOMAIN_RUNNING
    assert world.h2.guests == {}


def test_a_lost_session_aborts_nothing(world):
    world.h1.add_guest("web1")

    def hang_up(job):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGHUP)
        job.complete()

    world.cluster.on_migrate = hang_up
    assert world.migrate("web1")["migration"]["outcome"] == "moved"


def test_every_word_of_an_intent_reaches_the_move(world, monkeypatch):
    seen = []
    real = domain_migrate.intents.normalise
    monkeypatch.setattr(domain_migrate.intents, "normalise", lambda given: seen.append(given) or real(given))
    world.h1.add_guest("web1")
    world.migrate("web1", check=True, max_downtime_ms=77, allow_postcopy=True, bandwidth_mib_s=5)
    assert set(seen[0]) == set(domain_migrate.intents.DEFAULTS)
    assert (seen[0]["max_downtime_ms"], seen[0]["allow_postcopy"], seen[0]["bandwidth_mib_s"]) == (77, True, 5)


@pytest.mark.parametrize("ports", ["49152", "49215-49152", "0-49215", "1-65536", "a-b", "-", "1-2-3"])
def test_what_is_no_range_of_ports_is_refused(world, ports):
    world.h1.add_guest("web1")
    result = world.migrate("web1", migration_ports=ports)
    assert result["failed"]
    assert f"migration_ports is {ports!r}, which is no range of ports" in result["msg"]
    assert "set migration_ports to the first and the last port, such as 49152-49215" in result["msg"]


# --- the run ----------------------------------------------------------------------------------------------------------

MOVE = "migrate-web1-20261124T020000Z-3f9a"
ALICE = Claim("h1", "alice@admin1", "migrate-web1", ttl_s=600)
BOB = Claim("h1", "bob@admin2", "rebalance-7", "nightly rebalance", force=True)


def test_the_move_is_on_record_as_a_plan_of_one_step(world):
    world.h1.add_guest("web1")
    seen = []

    def look(job):
        (journal,) = (world.path / "runs").glob("migrate-web1-*/journal.jsonl")
        seen.extend(entry["event"] for entry in journals.read(str(journal)))
        assert is_run_locked(str(world.path))
        job.complete()

    world.cluster.on_migrate = look
    result = world.migrate("web1", owner="alice@admin1")
    assert seen == ["run.started", "step.started", "migration.started"]
    assert not is_run_locked(str(world.path))
    directory = RunDirectory(str(world.path), result["run"]["plan"])
    assert (result["run"]["journal"], result["run"]["attached"]) == (directory.journal, False)
    entries = journals.read(directory.journal)
    assert (entries[0]["data"]["owner"], entries[-1]["event"]) == ("alice@admin1", "run.finished")
    plan = read_plan(Path(directory.plan).read_text("utf-8"))
    assert plan["hosts"]["h2"]["host_uuid"] == world.h2.uuid
    assert plan["steps"][0]["memory_bytes"] == 512 << 20
    (run,) = list_runs(str(world.path))
    assert (run["goal"]["kind"], run["finished"]) == ("migrate", True)
    assert run["steps"][0]["moved_at"]


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_the_records_of_a_guest_with_any_name_are_in_the_host_s_directory(world, name):
    world.h1.add_guest(name)
    world.cluster.on_migrate = lambda job: job.complete()
    plan = world.migrate(name)["run"]["plan"]
    assert [path.name for path in (world.path / "runs").iterdir()] == [plan]


def test_while_another_run_is_at_work_it_is_told_which_and_nothing_is_begun(world):
    world.h1.add_guest("web1")
    lock = take_run_lock(str(world.path), "drain-h1-1", "bob@admin2")
    result = world.migrate("web1")
    lock.release()
    assert result["refusal"]["code"] == "busy"
    assert "plan drain-h1-1 of bob@admin2 is being carried out here since" in result["msg"]
    assert world.cluster.writes == []


@pytest.mark.parametrize("destination", ["h2", "h3"])
def test_the_same_move_at_work_is_joined_and_another_one_is_not(world, tmp_path, destination):
    guest = world.h1.add_guest("web1")
    state_dir = str(world.path)
    lock = take_run_lock(state_dir, MOVE, "bob@admin2")
    step = {"id": "move", "guest": {"name": "web1", "uuid": guest.uuid}, "source": "h1", "destination": destination}
    directory = RunDirectory(state_dir, MOVE)
    directory.make({"id": MOVE, "goal": {"kind": "migrate", "hosts": []}, "steps": [step]})

    def end():
        moved = {"schema": runner.RESULT_SCHEMA, "results": [step_result(step, "moved")], "run": {"plan": MOVE}}
        write_durably(directory.result, moved)
        lock.release()

    threading.Timer(0.2, end).start()
    result = world.migrate("web1", progress_path=str(tmp_path / "link"))
    if destination == "h2":
        assert (result["migration"]["outcome"], result["run"]) == ("moved", {"plan": MOVE, "attached": True})
        assert (tmp_path / "link").readlink() == world.path / "runs" / MOVE / "progress.jsonl"
    else:
        assert result["refusal"]["code"] == "busy"
    assert world.cluster.writes == []


def test_records_that_cannot_be_kept_are_a_reason(world):
    world.h1.add_guest("web1")
    (world.path / "file").write_text("")
    result = world.migrate("web1", state_dir=str(world.path / "file" / "x"))
    assert result["refusal"]["code"] == "state_dir"
    assert world.cluster.writes == []


def test_a_run_that_has_the_host_moves_its_guest_and_keeps_the_lease(world):
    world.h1.add_guest("web1")
    taken = leases.take(str(world.path), ALICE).after
    world.cluster.on_migrate = lambda job: job.complete()
    assert world.migrate("web1", fence=taken["fence"])["migration"]["outcome"] == "moved"
    kept = leases.load(str(world.path), "h1")
    assert kept["expires_at"] > taken["expires_at"]
    assert kept["fence"] == taken["fence"]


@pytest.mark.parametrize("check", [False, True])
def test_a_late_writer_is_fenced_off(world, check):
    world.h1.add_guest("web1")
    late = leases.take(str(world.path), ALICE).after["fence"]
    leases.take(str(world.path), BOB)
    result = world.migrate("web1", fence=late, check=check)
    assert result["refusal"]["code"] == "lease_lost"
    assert "h1 was taken over by bob@admin2 for run rebalance-7 (nightly rebalance)" in result["msg"]
    assert (world.cluster.opened, world.cluster.writes) == ([], [])


def test_a_host_that_is_lost_on_the_way_gives_no_guest(world, monkeypatch):
    world.h1.add_guest("web1")
    fence = leases.take(str(world.path), ALICE).after["fence"]
    real = module_common.give_back_memory

    def lose(*arguments):
        leases.take(str(world.path), BOB)
        return real(*arguments)

    monkeypatch.setattr(module_common, "give_back_memory", lose)
    result = world.migrate("web1", fence=fence)
    assert (result["migration"]["outcome"], result["migration"]["refusals"][0]["code"]) == ("refused", "lease_lost")
    assert "virDomainMigrateToURI3" not in [call for _host, call in world.cluster.writes]


@pytest.mark.parametrize("permitted", [None, False, True])
def test_hooks_of_a_guest_run_only_where_that_is_permitted(world, monkeypatch, permitted):
    agent = types.SimpleNamespace(asked=[])

    def command(_domain, text, _timeout, _flags):
        agent.asked.append(json.loads(text)["execute"])
        return '{"return": {"pid": 1, "exited": true, "exitcode": 0}}'

    monkeypatch.setitem(sys.modules, "libvirt_qemu", types.SimpleNamespace(qemuAgentCommand=command))
    guest = world.h1.add_guest("web1")
    hook = '<k:guest xmlns:k="https://kvmops.cluster/xmlns/guest/1"><k:hook><k:arg>/bin/sync</k:arg></k:hook></k:guest>'
    guest.xml = guest.xml.replace("</domain>", f"<metadata>{hook}</metadata></domain>")
    world.cluster.on_migrate = lambda job: job.complete()
    moved = world.migrate("web1", **({} if permitted is None else {"guest_hooks": permitted}))["migration"]
    note = "web1 has 1 hook in its metadata, which was not run: permit it with guest_hooks"
    assert (moved["outcome"], moved["notes"]) == ("moved", [] if permitted else [note])
    assert agent.asked == (["guest-exec", "guest-exec-status"] if permitted else [])
