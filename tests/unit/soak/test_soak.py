# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from tools import results

from soak import cli
from soak.parts import PARTS, Part
from soak.progress import Progress, tree_of

TWO = [Part("faults", "Faults.", 1, ("true",)), Part("units", "Units.", 1, ("true",))]
PASSED = '<testsuite><testcase classname="m" name="a" time="1"/></testsuite>'


def progress(folder, tree="t1"):
    return Progress(folder / "passed.json", tree)


def no_tests(part, junit):
    return part.name != "faults"


def test_parts_have_different_names_and_a_purpose():
    assert len({part.name for part in PARTS}) == len(PARTS)
    assert all(part.purpose.endswith(".") and part.minutes > 0 and part.command for part in PARTS)


def test_all_parts_run_also_after_one_has_failed(tmp_path):
    ended = cli.run_parts(TWO, progress(tmp_path), tmp_path, no_tests)

    assert [(one.part.name, one.verdict) for one in ended] == [("faults", "FAILED"), ("units", "passed")]


def test_what_has_passed_is_not_run_again(tmp_path):
    cli.run_parts(TWO, progress(tmp_path), tmp_path, no_tests)

    ended = cli.run_parts(TWO, progress(tmp_path), tmp_path, no_tests)

    assert [(one.part.name, one.verdict) for one in ended] == [("faults", "FAILED"), ("units", "passed before")]


def test_what_was_stopped_is_run_again(tmp_path):
    def stopped(part, junit):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cli.run_parts(TWO, progress(tmp_path), tmp_path, stopped)

    assert progress(tmp_path).passed() == []


def test_a_part_that_fails_later_has_not_passed(tmp_path):
    kept = progress(tmp_path)
    kept.note("units", ok=True)
    kept.note("faults", ok=True)
    kept.note("units", ok=False)

    assert kept.passed() == ["faults"]


@pytest.mark.parametrize("text", ['{"tree": "other", "passed": ["units"]}', "{", "[]", '{"tree": "t1"}'])
def test_what_passed_with_other_content_or_is_damaged_does_not_count(tmp_path, text):
    (tmp_path / "passed.json").write_text(text, encoding="utf-8")

    assert progress(tmp_path).passed() == []


def test_a_part_without_tests_counts_as_one(tmp_path):
    cli.run_parts(TWO, progress(tmp_path), tmp_path, no_tests)

    assert results.count([test for part in TWO for test in cli.tests_in(tmp_path / part.name)]) == (1, 1, 0)


@pytest.mark.parametrize(("ok", "counted"), [(True, (1, 0, 0)), (False, (1, 1, 0))])
def test_a_part_with_tests_counts_itself_only_if_it_failed_without_one_that_did(tmp_path, ok, counted):
    def with_a_test(part, junit):
        (junit / "1").mkdir()
        (junit / "1/integration.xml").write_text(PASSED, encoding="utf-8")
        return ok

    cli.run_parts(TWO[:1], progress(tmp_path), tmp_path, with_a_test)

    assert results.count(cli.tests_in(tmp_path / "faults")) == counted


def test_a_part_runs_as_often_as_it_asks_for_until_it_fails(tmp_path):
    count = ("sh", "-c", f'ls "$JUNIT/.." >> {tmp_path}/ran; test "$(wc -l < {tmp_path}/ran)" -lt 3')

    assert not cli.carry_out(Part("often", "Often.", 1, count, times=5), tmp_path / "junit")
    assert (tmp_path / "ran").read_text(encoding="utf-8").split() == ["1", "1", "2"]


def test_the_name_of_the_content_changes_with_it_and_nothing_is_left(tmp_path):
    def git(*words):
        return subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    git("init", "-q")
    (tmp_path / "a").write_text("one", encoding="utf-8")
    git("add", "a")
    git("commit", "-qm", "one")
    first = tree_of(tmp_path)
    (tmp_path / "b").write_text("new", encoding="utf-8")
    second = tree_of(tmp_path)
    status = git("status", "--porcelain")
    git("add", "b")
    git("commit", "-qm", "two")

    assert first != second
    assert tree_of(tmp_path) == second == git("rev-parse", "HEAD^{tree}").strip()
    assert status == "?? b\n"


ENDED = """
import os, sys
from harness.session import ended_like_ctrl_c
from soak import cli
with ended_like_ctrl_c():
    cli.run_to_its_end(["sh", "-c", "sleep 600 & echo $! > $0.new; mv $0.new $0; wait", sys.argv[1]], os.environ)
"""


def wait_until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_part_ends_with_all_that_it_started_when_the_soak_is_told_to_end(tmp_path):
    note = tmp_path / "pid"
    soak = subprocess.Popen(
        [sys.executable, "-c", ENDED, str(note)], cwd=cli.CHECKOUT / "tests", stderr=subprocess.PIPE
    )
    wait_until(note.exists)
    started = Path(f"/proc/{note.read_text().strip()}")
    assert started.exists()
    soak.terminate()
    assert b"KeyboardInterrupt" in soak.communicate(timeout=60)[1]
    wait_until(lambda: not started.exists())
