# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import os

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import owned_terminal
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.owned_terminal import Facts, may_rewrite

SURE = Facts(
    wanted=True,
    verbosity=0,
    callback="default",
    variables={"TERM": "xterm-256color", "CI": ""},
    is_worker=True,
    is_owned=True,
    can=True,
)


@pytest.mark.parametrize("callback", ["default", "ansible.builtin.default", "community.general.yaml", "minimal"])
def test_lines_are_rewritten_where_that_is_sure_to_work(callback):
    assert may_rewrite(dataclasses.replace(SURE, callback=callback))


@pytest.mark.parametrize(
    "change",
    [
        {"wanted": False},
        {"verbosity": 1},
        {"callback": "awx_display"},
        {"callback": "community.general.dense"},
        {"callback": "ansible.posix.json"},
        {"variables": {}},
        {"variables": {"TERM": "dumb"}},
        {"variables": {"TERM": "xterm", "CI": "true"}},
        {"variables": {"TERM": "xterm", "AWX_ISOLATED_DATA_DIR": "/runner"}},
        {"is_worker": False},
        {"is_owned": False},
        {"can": False},
    ],
)
def test_one_doubt_is_enough_for_plain_lines(change):
    assert not may_rewrite(dataclasses.replace(SURE, **change))


TERMINAL = os.makedev(136, 5)


def stat(state="S", group=70, terminal=TERMINAL, foreground=70, name="ansible-playbook"):
    """What /proc has of a process; the kernel packs the terminal's number in its own way."""
    major, minor = os.major(terminal), os.minor(terminal)
    packed = (minor & 0xFF) | (major << 8) | ((minor & ~0xFF) << 12)
    return f"4711 ({name}) {state} 1 {group} 60 {packed} {foreground} 4194560 1 2 3\n"


@pytest.mark.parametrize("name", ["ansible-playbook", "a) S 1 (b", "x y"])
def test_a_process_in_the_foreground_has_its_terminal(name):
    assert owned_terminal.is_foreground(stat(name=name), TERMINAL)


@pytest.mark.parametrize(
    "change",
    [{"state": "T"}, {"foreground": 71}, {"foreground": -1}, {"terminal": os.makedev(136, 6)}, {"terminal": 0}],
    ids=["stopped", "in the background", "no terminal", "another terminal", "none"],
)
def test_any_other_has_it_not(change):
    assert not owned_terminal.is_foreground(stat(**change), TERMINAL)


def test_a_terminal_with_a_large_number_is_known():
    assert owned_terminal.is_foreground(stat(terminal=os.makedev(136, 70000)), os.makedev(136, 70000))


def test_a_process_that_is_no_worker_has_no_terminal():
    assert owned_terminal.find_terminal() is None


def test_a_file_is_no_terminal(tmp_path, monkeypatch):
    monkeypatch.setattr(owned_terminal.os, "getppid", os.getpid)
    with (tmp_path / "log").open("w") as log:
        before = os.dup(1)
        os.dup2(log.fileno(), 1)
        try:
            terminal = owned_terminal.OwnedTerminal(os.getpid())
            found = terminal.is_owned(), terminal.size()
            terminal.close()
        finally:
            os.dup2(before, 1)
            os.close(before)
    assert found == (False, None)
