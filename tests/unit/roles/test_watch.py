# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook watch, on a run that is at work on a host and that nobody here has started."""

from __future__ import annotations

import os

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import Claim
from ansible_collections.kvmops.cluster.plugins.module_utils.run import leases
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import write_durably
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import take_run_lock
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, plan_document, snapshot, step_result

PATIENCE_S = 300.0
PLAN = plan_document(cluster(snapshot("a", domain("web1"), domain("web2")), snapshot("b")), host="a")


class Run:
    """A run on host a."""

    def __init__(self, folder):
        self._lock = take_run_lock(str(folder / "a"), PLAN["id"], "alice@admin1")
        self._directory = RunDirectory(str(folder / "a"), PLAN["id"])
        self._directory.make(PLAN)
        self._progress = Progress(self._directory.progress)
        self._progress.begin(os.getpid(), [step["id"] for step in PLAN["steps"]])

    def tell(self, number, phase, message, **figures):
        self._progress.write(phase, message, step=PLAN["steps"][number], **figures)

    def end(self, *outcomes):
        results = [
            step_result(step, outcome, error=None if outcome == "moved" else "the link is down")
            for step, outcome in zip(PLAN["steps"], outcomes, strict=True)
        ]
        write_durably(self._directory.result, {"schema": "kvmops.result/1", "results": results, "run": {}})
        self.die()

    def die(self):
        self._progress.end()
        self._lock.release()


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_a_run_is_watched_to_its_end(hosts, run):
    run.tell(0, "setup", "pre-copy")
    watch = hosts.start("watch")
    watch.await_text(r"a: drain-a-\S+ of alice@admin1 since \S+: 0 of 2 guests", PATIENCE_S)
    run.tell(0, "pre-copy", "42 %", percent=42, eta_s=5)
    watch.await_text(r"a: web1 -> b \| pre-copy +\| 42 %", PATIENCE_S)
    run.tell(0, "done", "moved")
    watch.await_text(r"a: 1 of 2 guests, 50 %", PATIENCE_S)
    run.tell(1, "done", "moved")
    run.end("moved", "moved")

    outcome = watch.finish(PATIENCE_S)

    assert outcome.status == 0, outcome.text
    assert f"a: {PLAN['id']} of alice@admin1 is over: 2 guests moved." in outcome.text
    assert "No other run moves guests away from b and c." in outcome.text
    assert "gone is not watched: it cannot be reached: " in outcome.text


def test_a_run_that_did_not_move_all_guests_is_a_failure_of_the_watching_too(hosts, run):
    watch = hosts.start("watch", watch_hosts="a", watch_run="drain-a")
    watch.await_text("0 of 2 guests", PATIENCE_S)
    run.end("moved", "failed")

    outcome = watch.finish(PATIENCE_S)

    assert outcome.status == 2, outcome.text
    assert f"a: {PLAN['id']} of alice@admin1 is over: 1 of 2 guests moved." in outcome.text
    assert "web2 (failed): the link is down" in outcome.text


def test_an_interrupt_ends_the_watching_and_nothing_else(hosts, run, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    watch = hosts.start("watch", watch_hosts="a")
    watch.await_text("0 of 2 guests", PATIENCE_S)
    watch.press_ctrl_c()

    assert watch.finish(PATIENCE_S).status == 99
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")} == before
    run.die()


def test_nothing_at_work_is_said_and_is_no_failure(hosts, tmp_path):
    leases.take(str(tmp_path / "b"), Claim(host="b", owner="bob@admin2", run="drain-b", hosts=("b",)))

    outcome = hosts.start("watch").finish(PATIENCE_S)

    assert outcome.status == 0, outcome.text
    assert "No run moves guests away from a, b and c." in outcome.text
    assert "b is taken by bob@admin2 for run drain-b since " in outcome.text


def test_if_no_host_answers_nothing_is_known_and_that_is_a_failure(hosts):
    outcome = hosts.start("watch", watch_hosts="gone").finish(PATIENCE_S)

    assert outcome.status == 2, outcome.text
    assert "No host answers, so nothing is known of any run." in outcome.text


def test_a_misspelt_option_is_refused(hosts):
    outcome = hosts.start("watch", watch_host="a").finish(PATIENCE_S)

    assert outcome.status == 2, outcome.text
    assert "watch_host" in outcome.text
    assert "watch_hosts" in outcome.text
