# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two labs that share the tmpfs of systemd-nspawn, in every order in which they can meet."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from lab.common.settings import Settings
from lab.machine import cgroup, mount, nspawn_run, process


class Machine:
    """The mounts and the hosts of a machine that has no tmpfs on /run."""

    def __init__(self):
        self.mounts = 0
        self.hosts = {}

    def run(self, words):
        if words[0] == "mount":
            self.mounts += 1
        return SimpleNamespace(stdout="tmpfs\n" if self.mounts else "ext2/ext3\n")

    def mounted(self):
        return [(nspawn_run.MARK, nspawn_run.PLACE, "tmpfs")] * self.mounts

    def unmount(self, place):
        self.mounts -= 1

    def of_other_labs(self, settings):
        return [name for lab, names in self.hosts.items() if lab != settings.instance for name in names]


@pytest.fixture
def machine(tmp_path, monkeypatch):
    made = Machine()
    monkeypatch.setattr(nspawn_run, "RECORDS", tmp_path)
    monkeypatch.setattr(nspawn_run, "PLACE", tmp_path / "nspawn")
    monkeypatch.setattr(nspawn_run, "run", made.run)
    monkeypatch.setattr(mount, "mounted", made.mounted)
    monkeypatch.setattr(mount, "unmount", made.unmount)
    monkeypatch.setattr(cgroup, "of_other_labs", made.of_other_labs)
    return made


def lab(tmp_path, number):
    return Settings(tmp_path / f"state-{number}", tmp_path / "cache", number)


@pytest.fixture
def one(tmp_path):
    return lab(tmp_path, 1)


@pytest.fixture
def two(tmp_path):
    return lab(tmp_path, 2)


def come_up(machine, settings):
    with nspawn_run.used(settings):
        nspawn_run.ensure(settings)
        machine.hosts[settings.instance] = ["h1"]


def begin_to_go(machine, settings):
    """Take the hosts away; return what ends the command."""
    command = contextlib.ExitStack()
    command.enter_context(nspawn_run.used(settings))
    machine.hosts.pop(settings.instance)
    return command


def test_it_is_mounted_once_for_all_labs_and_gone_after_the_last(machine, one, two):
    come_up(machine, one)
    come_up(machine, two)
    assert machine.mounts == 1

    for settings, mounts in ((one, 1), (two, 0)):
        with begin_to_go(machine, settings):
            nspawn_run.let_go(settings)
        assert machine.mounts == mounts
        assert not nspawn_run.is_left(settings)


def test_of_two_that_go_down_at_once_the_last_one_unmounts_it_and_nobody_finds_it_left(machine, one, two):
    come_up(machine, one)
    come_up(machine, two)
    first, second = begin_to_go(machine, one), begin_to_go(machine, two)

    nspawn_run.let_go(one)
    assert machine.mounts == 1
    assert not nspawn_run.is_left(one), "the other lab is still at it"
    nspawn_run.let_go(two)
    first.close()
    second.close()

    assert machine.mounts == 0
    assert not nspawn_run.is_left(two)


def test_a_lab_that_is_coming_up_keeps_it(machine, one, two):
    come_up(machine, one)
    with nspawn_run.used(two):
        nspawn_run.ensure(two)
        with begin_to_go(machine, one):
            nspawn_run.let_go(one)
        assert machine.mounts == 1, "the hosts of the second lab would not boot"
        assert not nspawn_run.is_left(one)


def test_a_command_that_was_killed_does_not_use_it(machine, one, two, monkeypatch):
    come_up(machine, one)
    killed = nspawn_run.used(two)
    killed.__enter__()
    monkeypatch.setattr(process, "start_time", lambda pid: None)

    with begin_to_go(machine, one):
        nspawn_run.let_go(one)

    assert machine.mounts == 0


def test_what_nobody_uses_and_nobody_unmounted_is_left(machine, one):
    come_up(machine, one)
    machine.hosts.clear()

    assert nspawn_run.is_left(one)


def test_what_a_killed_container_left_is_unmounted_and_nothing_of_others(tmp_path, monkeypatch):
    """nspawn 256 and later would refuse to start the same host again."""
    exports = nspawn_run.PLACE / "unix-export"
    mounts = [("tmpfs", exports / name, "tmpfs") for name in ("kvl1-h1", "kvl1-h10", "kvl2-h1", "other")]
    mounts.append((nspawn_run.MARK, nspawn_run.PLACE, "tmpfs"))
    monkeypatch.setattr(mount, "mounted", lambda: mounts)
    gone = []
    monkeypatch.setattr(mount, "unmount", gone.append)

    nspawn_run.forget(lab(tmp_path, 1), "h1")
    assert gone == [exports / "kvl1-h1"]
    assert nspawn_run.left_by(lab(tmp_path, 1)) == [exports / "kvl1-h1", exports / "kvl1-h10"]
