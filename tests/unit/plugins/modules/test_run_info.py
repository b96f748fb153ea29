# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host tells of the run that is at work on it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import Claim
from ansible_collections.kvmops.cluster.plugins.module_utils.run import leases
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import write_durably
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunDirectory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_lock import take_run_lock
from ansible_collections.kvmops.cluster.plugins.module_utils.run.watch.at_work import at_work, lease_holder, results_of
from ansible_collections.kvmops.cluster.plugins.modules import run_info
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, plan_document, snapshot, step_result
from ansible_collections.kvmops.cluster.tests.unit.docs.test_schemas import check

PLAN = plan_document(cluster(snapshot("h1", domain("web1"), domain("web2")), snapshot("h2")))
FIRST = PLAN["steps"][0]


class Run:
    """A run that is at work on a host."""

    def __init__(self, state_dir):
        self.state_dir = str(state_dir)
        self.lock = take_run_lock(self.state_dir, PLAN["id"], "alice@admin1")
        self.directory = RunDirectory(self.state_dir, PLAN["id"])
        self.directory.make(PLAN)
        self.progress = Progress(self.directory.progress)
        self.progress.begin(os.getpid(), [step["id"] for step in PLAN["steps"]])


@pytest.fixture
def run(tmp_path):
    made = Run(tmp_path)
    yield made
    made.progress.end()
    made.lock.release()


def test_where_nobody_is_at_work_nothing_is_told_and_nothing_is_made(tmp_path):
    assert at_work(str(tmp_path / "none")) is None
    assert lease_holder(str(tmp_path / "none"), "h1") is None
    assert not (tmp_path / "none").exists()


def test_a_run_is_told_with_its_last_lines(run):
    run.progress.write("pre-copy", "42 %", step=FIRST, percent=42, eta_s=2, rate_bytes_per_s=5)
    told = at_work(run.state_dir)
    assert (told["plan"], told["owner"], told["guests"], told["ended"]) == (PLAN["id"], "alice@admin1", 2, 0)
    assert (told["steps"][0]["guest"], told["steps"][0]["percent"]) == (FIRST["guest"]["name"], 42)
    assert told["progress_bytes"] == Path(told["progress"]).stat().st_size
    check("run_progress", told)


def test_every_line_of_a_progress_file_fits_its_schema(run):
    run.progress.write("pre-copy", "42 %", step=FIRST, percent=42, eta_s=2)
    run.progress.write("setup", "of no guest")
    run.progress.end()
    lines = list(map(json.loads, Path(run.directory.progress).read_text(encoding="utf-8").splitlines()))
    assert [line["phase"] for line in lines] == ["job", "pre-copy", "setup", "end"]
    for line in lines:
        check("progress", line)


def test_a_part_of_a_line_is_left_for_later_and_garbage_is_left_out(run):
    run.progress.write("pre-copy", "42 %", step=FIRST, percent=42)
    with Path(run.directory.progress).open("a", encoding="utf-8") as file:
        file.write('garbage\n{"guest": 5}\n{"guest": "half')
    told = at_work(run.state_dir)
    assert told["steps"][0]["percent"] == 42
    assert told["progress_bytes"] == Path(told["progress"]).stat().st_size - len('{"guest": "half')


def test_a_run_that_was_killed_is_not_at_work(run):
    run.lock.release()
    assert at_work(run.state_dir) is None
    run.lock = take_run_lock(run.state_dir, PLAN["id"], "bob")


def test_results_are_there_when_the_run_has_ended(run):
    assert results_of(run.state_dir, PLAN["id"]) is None
    results = [step_result(step) for step in PLAN["steps"]]
    write_durably(run.directory.result, {"schema": "kvmops.result/1", "results": results, "run": {}})
    assert results_of(run.state_dir, PLAN["id"]) == results


def test_who_has_the_host(tmp_path):
    leases.take(str(tmp_path), Claim(host="h1", owner="alice@admin1", run="drain-h1", purpose="RAM", hosts=("h1",)))
    told = lease_holder(str(tmp_path), "h1")
    assert (told["owner"], told["run"], told["purpose"]) == ("alice@admin1", "drain-h1", "RAM")
    leases.release(str(tmp_path), Claim(host="h1", owner="alice@admin1", run="drain-h1"))
    assert lease_holder(str(tmp_path), "h1") is None


@pytest.mark.parametrize("content", ["", "garbage", '{"schema": "kvmops.lease/1", "owner": 5}'])
def test_a_lease_that_cannot_be_read_is_nobodys(tmp_path, content):
    (tmp_path / "lease.json").write_text(content)
    assert lease_holder(str(tmp_path), "h1") is None


def test_the_module_tells_all_of_that(run, run_module):
    told = run_module(run_info, state_dir=run.state_dir, name="h1", plan=PLAN["id"])
    assert told["at_work"]["plan"] == PLAN["id"]
    assert (told["lease"], told["outcomes"], told["events"], told["changed"]) == (None, None, {}, False)
    assert [one["plan"] for one in told["runs"]] == [PLAN["id"]]


def test_looking_changes_no_file(run, run_module):
    before = changed_at(run.state_dir)
    assert len(before) > 2
    run_module(run_info, state_dir=run.state_dir, name="h1", plan=PLAN["id"])
    assert changed_at(run.state_dir) == before


def changed_at(folder):
    return {path: path.stat().st_mtime_ns for path in Path(folder).rglob("*")}
