# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import threading
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.run import guest_runs, runner
from ansible_collections.kvmops.cluster.plugins.module_utils.run import journal as journals
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import write_durably
from ansible_collections.kvmops.cluster.plugins.module_utils.run.retention import Retention
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory, RunError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import is_run_locked, take_run_lock


def step(number):
    return {
        "id": f"s{number}",
        "guest": {"name": f"web{number}", "uuid": f"u-{number}"},
        "source": "h1",
        "destination": "h2",
        "after": [],
    }


class World:
    """One host on which runs are made."""

    def __init__(self, path):
        self.state_dir = str(path / "state")
        self.moved = []
        self.on_move = None

    def move(self, step, transferred, take_link_slot, nearly_transferred, step_aside):
        if not take_link_slot():
            return step_result(step, "not_started")
        self.moved.append(step["id"])
        if self.on_move:
            self.on_move(step)
        return step_result(step, "moved")

    def request(self, plan="p1", **changes):
        given = {
            "plan": {"id": plan},
            "steps": [step(1), step(2)],
            "owner": "alice@admin1",
            "state_dir": self.state_dir,
            "progress_path": None,
            "window": 1,
        }
        return runner.Request(**{**given, **changes})

    def run(self, stop=None, **changes):
        @contextlib.contextmanager
        def make_mover(_journal, _progress, _stop):
            yield self

        return runner.run(self.request(**changes), make_mover, stop or runner.Stop())

    def events(self, plan="p1"):
        return [entry["event"] for entry in journals.read(RunDirectory(self.state_dir, plan).journal)]


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "JOIN_POLL_S", 0.01)
    monkeypatch.setattr(runner, "TAKE_AGAIN_S", 0.001)
    return World(tmp_path)


def test_a_run_carries_out_its_steps_and_leaves_its_records(world):
    document = world.run()
    assert [result["outcome"] for result in document["results"]] == ["moved", "moved"]
    directory = RunDirectory(world.state_dir, "p1")
    assert document["run"] == {
        "plan": "p1",
        "attached": False,
        "journal": directory.journal,
        "finished_at": document["run"]["finished_at"],
    }
    assert world.events() == ["run.started", "step.finished", "step.finished", "run.finished"]
    assert json.loads(Path(directory.result).read_text())["results"] == document["results"]
    assert not is_run_locked(world.state_dir)


def test_the_lease_is_held_while_it_runs(world):
    held = []
    world.on_move = lambda _step: held.append(is_run_locked(world.state_dir))
    world.run()
    assert held == [True, True]


def test_each_guest_is_in_the_index_of_past_runs(world):
    world.run()
    assert [guest_runs.runs_of(world.state_dir, f"u-{number}") for number in (1, 2, 3)] == [["p1"], ["p1"], []]
    assert guest_runs.unindexed(world.state_dir) == []


def test_a_run_that_ends_removes_old_ones_and_never_itself(world):
    for plan in ("p1", "p2", "p3"):
        world.run(plan=plan, keep=Retention(2, 0))
    world.run(plan="p1", keep=Retention(1, 0))
    assert [path.name for path in (Path(world.state_dir) / "runs").iterdir()] == ["p1"]


def test_a_fault_while_old_runs_are_removed_hides_no_result(world, monkeypatch):
    monkeypatch.setattr(runner, "tidy", lambda *_arguments: 1 / 0)
    assert [result["outcome"] for result in world.run()["results"]] == ["moved", "moved"]
    assert not is_run_locked(world.state_dir)


def test_the_same_plan_again_continues_the_journal(world):
    world.run()
    world.run()
    entries = journals.read(RunDirectory(world.state_dir, "p1").journal)
    assert [entry["seq"] for entry in entries] == list(range(1, 9))


def test_the_lines_are_where_the_controller_looks_for_them(world, tmp_path):
    link = tmp_path / "link"
    world.run(progress_path=str(link))
    phases = [json.loads(line)["phase"] for line in link.read_text().splitlines()]
    assert (phases[0], phases[-1]) == ("job", "end")


def test_a_place_for_the_lines_that_cannot_be_stops_nothing(world):
    assert len(world.run(progress_path="/proc/nowhere/link")["results"]) == 2


def test_another_plan_finds_the_host_busy_and_is_told_by_whom(world):
    lease = take_run_lock(world.state_dir, "p0", "bob@admin2")
    with pytest.raises(RunError) as why:
        world.run()
    assert why.value.refusal["code"] == "busy"
    assert why.value.refusal["reason"].startswith("plan p0 of bob@admin2 is being carried out here since 20")
    assert why.value.refusal["reason"].endswith(f"(process {os.getpid()})")
    assert world.moved == []
    lease.release()


def test_a_busy_host_whose_holder_is_not_known_is_busy_all_the_same(world):
    lease = take_run_lock(world.state_dir, "p0", "bob@admin2")
    (Path(world.state_dir) / "apply.lease").write_bytes(b"{")
    with pytest.raises(RunError, match="another plan is being carried out here"):
        world.run()
    lease.release()


class Other(threading.Thread):
    """Another run of a plan, which ends when the test has seen it."""

    def __init__(self, world, result=None):
        super().__init__(daemon=True)
        self._world, self._result = world, result
        self._lease = take_run_lock(world.state_dir, "p1", "bob@admin2")
        self._directory = RunDirectory(world.state_dir, "p1")
        self._directory.make({"id": "p1"})
        self.start()

    def run(self):
        threading.Event().wait(0.05)
        if self._result:
            write_durably(self._directory.result, self._result)
        self._lease.release()


def test_the_same_plan_is_joined_and_its_result_returned(world, tmp_path):
    results = [step_result(step(1), "moved"), step_result(step(2), "failed", error="x")]
    Other(world, {"schema": runner.RESULT_SCHEMA, "results": results, "run": {"plan": "p1", "attached": False}})
    document = world.run(progress_path=str(tmp_path / "link"))
    assert document == {"results": results, "run": {"plan": "p1", "attached": True}}
    assert world.moved == []
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("result", [None, {"schema": "kvmops.result/9", "results": []}, ["x"]])
def test_a_run_that_died_without_a_result_is_carried_on(world, result):
    Other(world, result)
    document = world.run()
    assert document["run"]["attached"] is False
    assert world.moved == ["s1", "s2"]


def test_who_only_looks_keeps_no_run_from_starting(world, monkeypatch):
    answers = [None, None]
    real = take_run_lock
    monkeypatch.setattr(runner, "take_run_lock", lambda *arguments: answers.pop() if answers else real(*arguments))
    assert len(world.run()["results"]) == 2


def test_the_first_signal_ends_it_after_the_guest_in_flight(world):
    world.on_move = lambda _step: os.kill(os.getpid(), signal.SIGTERM)
    stop = runner.Stop()
    document = world.run(stop)
    assert [result["outcome"] for result in document["results"]] == ["moved", "not_started"]
    assert (stop.stopping.is_set(), stop.aborting.is_set()) == (True, False)


def test_the_second_signal_aborts_what_is_in_flight():
    stop = runner.Stop()
    stop.on_signal(signal.SIGTERM, None)
    assert not stop.aborting.is_set()
    stop.on_signal(signal.SIGINT, None)
    assert stop.aborting.is_set()


def test_a_hangup_ends_nothing_and_all_is_as_before_afterwards(world):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)]
    world.on_move = lambda _step: os.kill(os.getpid(), signal.SIGHUP)
    assert [result["outcome"] for result in world.run()["results"]] == ["moved", "moved"]
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)] == before


def test_records_that_cannot_be_kept_are_a_reason_not_to_begin(world, tmp_path):
    (tmp_path / "file").write_text("")
    world.state_dir = str(tmp_path / "file" / "state")
    with pytest.raises(RunError) as why:
        world.run()
    assert why.value.refusal["code"] == "state_dir"
    assert "nothing was started" in why.value.refusal["reason"]
    assert world.moved == []


def full(*_arguments, **_named):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("call", ["write", "__init__"])
def test_a_full_disk_at_the_start_begins_nothing_and_lets_others_in(world, monkeypatch, call):
    monkeypatch.setattr(journals.Journal, call, full)
    with pytest.raises(RunError, match="No space left on device"):
        world.run()
    assert world.moved == []
    assert not is_run_locked(world.state_dir)


def test_a_full_disk_at_the_end_keeps_no_result_from_whoever_asked(world, monkeypatch):
    monkeypatch.setattr(runner, "write_durably", full)
    assert [result["outcome"] for result in world.run()["results"]] == ["moved", "moved"]
    assert not is_run_locked(world.state_dir)


def test_a_mover_that_cannot_be_made_lets_others_in(world):
    def no_mover():
        raise RuntimeError("no libvirt")

    @contextlib.contextmanager
    def broken(_journal, _progress, _stop):
        yield no_mover()

    with pytest.raises(RuntimeError, match="no libvirt"):
        runner.run(world.request(), broken, runner.Stop())
    assert not is_run_locked(world.state_dir)
