# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import usefulness
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.capsule_save.fake_host import (
    LIBVIRT,
    LibvirtError,
)

AGENT = "<domain><devices><channel><target name='org.qemu.guest_agent.0' state='%s'/></channel></devices></domain>"


class Guest:
    """A guest that has read or written, or whose agent is there, after so many looks.

    Args:
        reads_at, writes_at, agent_at: numbers of the look from which on it is so; agent_at None: it has no agent.
        off_at: number of the look from which on it is off.
    """

    def __init__(self, reads_at=0, agent_at=None, off_at=99, writes_at=99):
        self.reads_at, self.agent_at, self.off_at, self.writes_at = reads_at, agent_at, off_at, writes_at
        self.now = 0.0

    def XMLDesc(self, _flags):  # noqa: N802
        if self.agent_at is None:
            return "<domain/>"
        return AGENT % ("connected" if self.now >= self.agent_at else "disconnected")

    def getTime(self, _flags):  # noqa: N802
        return {}

    def blockStats(self, _target):  # noqa: N802
        if self.now >= self.off_at:
            raise LibvirtError("domain is not running")
        return (int(self.now >= self.reads_at), 4096, int(self.now >= self.writes_at), 4096, 0)

    def isActive(self):  # noqa: N802
        return int(self.now < self.off_at)


def look(guest, wait_s=10, disks=("vda",), may_be_quiet=False):
    def sleep(_seconds):
        guest.now += 1

    return usefulness.wait(guest, disks, wait_s, may_be_quiet=may_be_quiet, clock=lambda: guest.now, sleep=sleep)


@pytest.fixture(autouse=True)
def libvirt(monkeypatch):
    monkeypatch.setattr(virt, "libvirt", LIBVIRT)


def test_a_guest_without_an_agent_is_of_use_once_it_has_read():
    guest = Guest(reads_at=3)
    assert look(guest) == (True, "disk", None)
    assert guest.now == 3


def test_a_write_shows_it_as_well():
    guest = Guest(reads_at=99, writes_at=4)
    assert look(guest) == (True, "disk", None)
    assert guest.now == 4


def test_a_guest_whose_disks_are_here_may_have_nothing_to_read():
    guest = Guest(reads_at=99)
    assert look(guest, may_be_quiet=True) == (True, "quiet", None)
    assert guest.now == usefulness.QUIET_S


def test_a_quiet_guest_with_an_agent_must_answer():
    guest = Guest(reads_at=99, agent_at=6)
    assert look(guest, may_be_quiet=True) == (True, "agent and quiet", None)
    assert guest.now == 6


def test_a_quiet_guest_that_is_off_is_of_no_use():
    assert not look(Guest(reads_at=99, off_at=1), may_be_quiet=True).yes


def test_an_agent_must_answer_too():
    guest = Guest(reads_at=1, agent_at=5)
    assert look(guest) == (True, "agent and disk", None)
    assert guest.now == 5


@pytest.mark.parametrize(
    ("guest", "lacks"),
    [
        (Guest(reads_at=99), "it has not read or written its disks"),
        (Guest(agent_at=99), "its guest agent has not answered"),
        (Guest(reads_at=99, off_at=2), "it has not read or written its disks"),
    ],
)
def test_what_it_lacks_is_said_when_the_time_is_over(guest, lacks):
    assert look(guest)[::2] == (False, lacks)
    assert guest.now <= 10


def test_a_guest_that_is_off_is_not_awaited():
    guest = Guest(reads_at=99, off_at=2)
    look(guest, wait_s=1000)
    assert guest.now == 2
