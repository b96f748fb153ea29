# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import child_process


def test_a_child_has_the_environment_of_the_daemon_and_no_other(monkeypatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/operators-agent")
    (end,) = child_process.run_all(
        [lambda say: say(dict(os.environ))], timeout_s=5, environment={"PATH": "/usr/bin", "HOME": "/root"}
    )
    assert end == child_process.Ended([{"PATH": "/usr/bin", "HOME": "/root"}], False, None)


def test_a_child_that_starts_programs_is_ended_with_them(tmp_path):
    mark = tmp_path / "pid"

    def work(say):
        say("first")
        if os.fork() == 0:
            mark.write_text(str(os.getpid()))
            time.sleep(60)
        time.sleep(60)

    (end,) = child_process.run_all([work], timeout_s=1)
    assert end == child_process.Ended(["first"], True, None)
    deadline = time.monotonic() + 50
    while time.monotonic() < deadline and _runs(int(mark.read_text())):
        time.sleep(0.05)
    assert not _runs(int(mark.read_text()))


def test_a_child_that_fails_says_why():
    (end,) = child_process.run_all([lambda say: 1 / 0], timeout_s=5)
    assert "ZeroDivisionError" in end.error


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False
