# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress

STEP = {"id": "s001", "guest": {"name": "web1", "uuid": "u-1"}, "destination": "h2"}
OTHER = {**STEP, "id": "s002"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "progress.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_first_line_says_whom_to_signal_and_the_last_that_it_is_over(path):
    progress = Progress(str(path))
    progress.begin(4711)
    progress.write("pre-copy", "42 %", step=STEP, level=1, percent=42, eta_s=2)
    progress.end()
    first, middle, last = lines(path)
    assert (first["phase"], first["pid"]) == ("job", 4711)
    assert last["phase"] == "end"
    middle.pop("at")
    assert middle == {
        "schema": "kvmops.progress/1",
        "step": "s001",
        "guest": "web1",
        "destination": "h2",
        "phase": "pre-copy",
        "percent": 42,
        "rate_bytes_per_s": None,
        "remaining_bytes": None,
        "iteration": None,
        "eta_s": 2,
        "level": 1,
        "message": "42 %",
    }


def test_a_line_is_there_as_soon_as_it_is_written(path):
    progress = Progress(str(path))
    progress.write("setup", "x")
    assert len(lines(path)) == 1
    progress.end()


def test_it_tells_of_this_run_only(path):
    path.write_text("of an earlier run\n")
    Progress(str(path)).end()
    assert [line["phase"] for line in lines(path)] == ["end"]


def test_what_comes_after_the_end_goes_nowhere(path):
    progress = Progress(str(path))
    progress.end()
    progress.write("done", "late")
    progress.end()
    assert [line["phase"] for line in lines(path)] == ["end"]


def test_one_figure_a_guest_and_phase_in_three_seconds(path):
    now = [100.0]
    progress = Progress(str(path), every_s=3.0, clock=lambda: now[0])
    asked = []
    for at, step, phase in [
        (0.0, STEP, "pre-copy"),
        (0.1, STEP, "pre-copy"),
        (0.2, OTHER, "pre-copy"),
        (0.3, STEP, "post-copy"),
        (0.4, STEP, "pre-copy"),
        (3.3, STEP, "pre-copy"),
        (3.5, STEP, "pre-copy"),
        (6.6, STEP, "pre-copy"),
    ]:
        now[0] = 100.0 + at
        asked.append(progress.due(step, phase))
    assert asked == [True, False, True, True, True, False, True, True]
    progress.end()


@pytest.mark.parametrize("where", [None, "/proc/nowhere/progress.jsonl"])
def test_nobody_needs_to_watch(where):
    progress = Progress(where)
    progress.begin(1)
    progress.write("setup", "x")
    progress.end()


def test_a_full_disk_stops_nothing(path):
    progress = Progress(str(path))

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    progress._file.close()
    progress._file = type(
        "Full", (), {"closed": False, "write": full, "flush": full, "close": lambda _self: full("")}
    )()
    progress.write("setup", "x")
    progress.end()
