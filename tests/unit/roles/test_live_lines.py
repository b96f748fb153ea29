# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What ansible-playbook itself shows in a terminal while plan_apply works on two hosts at once.

A stand-in for the module writes the lines; all else is real.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import termios
import time

import pytest
import yaml

from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, plan_document, snapshot
from ansible_collections.kvmops.cluster.tests.unit.plugins.plugin_utils.terminal.screen import Screen
from harness.ansible import environment, program

WIDTH, HEIGHT = 100, 30
PATIENCE_S = 300.0
MODULE = """#!/usr/bin/python
from __future__ import annotations

import os
import signal
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress

NAMES = ("name", "plan", "connect", "owner", "state_dir", "progress_path")


def main():
    module = AnsibleModule(argument_spec={name: {"type": "raw"} for name in NAMES})
    folder = module.params["state_dir"]
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_more: stopped.append(True))
    os.makedirs(folder, exist_ok=True)
    progress = Progress(f"{folder}/progress.jsonl")
    os.symlink(f"{folder}/progress.jsonl", module.params["progress_path"])
    progress.begin(os.getpid())
    for step in module.params["plan"]["steps"]:
        if step["source"] != module.params["name"]:
            continue
        progress.write("pre-copy", "42 %, 22.8 MiB/s", step=step, percent=42, eta_s=3)
        # Until the test has seen it.
        while not stopped and not os.path.exists(f"{folder}/go"):
            time.sleep(0.1)
        if not stopped:
            progress.write("done", "moved", step=step)
    open(f"{folder}/over", "w").close()
    progress.end()
    module.exit_json(changed=True)


main()
"""


class Terminal:
    """ansible-playbook in a terminal of its own."""

    def __init__(self, words, variables, folder):
        self.screen = Screen(WIDTH, HEIGHT)
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:  # pragma: no cover  (this is the other process)
            os.chdir(folder)
            # The terminal has its size first.
            os.read(0, 1)
            os.execve(words[0], words, variables)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
        os.write(self._terminal, b"\n")

    def wait_for(self, pattern):
        """Wait until the screen has shown this."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            if any(re.search(pattern, "\n".join(lines)) for lines in [*self.screen.seen[-20:], self.screen.lines()]):
                return
            self._read()
        raise AssertionError("\n".join(self.screen.all_lines()))

    def finish(self):
        """Wait for the end; return the exit status."""
        end = time.monotonic() + PATIENCE_S
        while self._read():
            assert time.monotonic() < end, "\n".join(self.screen.all_lines())
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def press_ctrl_c(self):
        os.write(self._terminal, b"\x03")

    def _read(self):
        """Take what is there; returns whether more may come."""
        if not select.select([self._terminal], [], [], 1.0)[0]:
            return True
        try:
            piece = os.read(self._terminal, 65536)
        except OSError:
            return False
        self.screen.feed(piece.decode())
        return bool(piece)


@pytest.fixture
def terminal(hosts, tmp_path):
    hosts.pretend("plan_apply", MODULE)
    seen = cluster(snapshot("a", domain("web1"), domain("web2")), snapshot("b", domain("db1")), snapshot("c"))
    plan, other = plan_document(seen, host="a"), plan_document(seen, host="b")
    plan["hosts"] |= other["hosts"]
    plan["steps"] += [{**step, "id": f"b-{step['id']}"} for step in other["steps"]]
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    task = {"plan_path": str(tmp_path / "plan.json"), "state_dir": "{{ kvmops_cluster_state_dir }}"}
    task["connect"] = plan["hosts"]
    play = {"name": "Work", "hosts": "a,b", "gather_facts": False}
    play["tasks"] = [{"name": "Move the guests", "kvmops.cluster.plan_apply": task}]
    (tmp_path / "move.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    words = [program("ansible-playbook"), "-i", str(tmp_path / "inventory.yml"), str(tmp_path / "move.yml")]
    mine = environment(TERM="xterm", CI="", ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "collections"), NO_COLOR="1")
    return Terminal(words, mine, tmp_path)


def test_two_hosts_share_the_lines_and_nothing_is_left_of_them(terminal, tmp_path):
    terminal.wait_for(r"a: web1 -> \S+ +pre-copy .*42 %[^$]*b: db1 -> \S+ +pre-copy .*42 %[^$]*0 of 3 guests, 28 %")
    for host in "ab":
        (tmp_path / host / "go").touch()

    assert terminal.finish() == 0
    lines = terminal.screen.all_lines()
    assert [line for line in lines if re.search("42 %|of 3 guests", line)] == []
    assert [line for line in lines if "| done       | moved" in line and line.startswith("a: web1 -> ")] != []
    assert {"changed: [a]", "changed: [b]"} <= set(lines)
    assert terminal.screen.region == (0, HEIGHT - 1)


def test_ctrl_c_leaves_a_clean_terminal_and_stops_the_job_as_always(terminal, tmp_path):
    terminal.wait_for("0 of 3 guests, 28 %")
    terminal.press_ctrl_c()

    assert terminal.finish() == 99
    lines = terminal.screen.all_lines()
    assert [line for line in lines if re.search("42 %|of 3 guests", line)] == []
    assert "a: interrupted. No further move starts there" in " ".join(" ".join(lines).split())
    assert terminal.screen.region == (0, HEIGHT - 1)
    end = time.monotonic() + PATIENCE_S
    while not all((tmp_path / host / "over").exists() for host in "ab"):
        assert time.monotonic() < end
        time.sleep(0.1)
