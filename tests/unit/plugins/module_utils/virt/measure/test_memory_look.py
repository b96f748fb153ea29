# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import memory_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure.memory_look import LANES, MemoryLook

#: Longer than any of these tests takes.
LONG_S = 60.0


class Guest:
    """A guest whose memory is read by a call that the test decides on."""

    def __init__(self, number, peek):
        self.number = number
        self.peek = peek
        self.peeks = 0

    def UUIDString(self):  # noqa: N802
        return f"uuid-{self.number}"

    def info(self):
        return [1, 65536, 65536, 1, 0]

    def memoryPeek(self, start, size, flags):  # noqa: N802
        self.peeks += 1
        return self.peek(size)


@pytest.fixture
def hanging(monkeypatch, cluster):
    """A call that hangs until the test is over."""
    monkeypatch.setattr(memory_look, "ANSWER_TIMEOUT_S", 0.1)
    over = threading.Event()
    yield lambda size: over.wait(LONG_S) and bytes(size)
    over.set()


def test_several_guests_are_read_at_once(cluster):
    together = threading.Barrier(LANES)

    class Waiting(Guest):
        """A guest whose first call is not answered before others are called."""

        def memoryPeek(self, start, size, flags):  # noqa: N802
            if not self.peeks:
                together.wait(LONG_S)
            return super().memoryPeek(start, size, flags)

    look = MemoryLook()
    look.first([Waiting(number, bytes) for number in range(LANES)], 1.0)
    assert not together.broken
    assert sorted(look.samples()) == [f"uuid-{number}" for number in range(LANES)]


def test_guests_that_hang_are_left_behind_and_never_so_many_that_the_connection_is_full(hanging):
    look = MemoryLook()
    silent = [Guest(number, hanging) for number in range(5)]
    answering = [Guest(number, bytes) for number in range(10, 13)]
    for dummy in range(4):
        look.first([*silent, *answering], 0.3)
    assert sum(guest.peeks for guest in silent) <= LANES
    assert all(guest.peeks <= 1 for guest in silent)
    look.second(0.1)
    assert all(uuid.startswith("uuid-1") for uuid in look.samples())


def test_one_guest_that_hangs_does_not_keep_the_others_from_being_read(hanging):
    look = MemoryLook()
    guests = [Guest(0, hanging), *(Guest(number, bytes) for number in range(1, 7))]
    for dummy in range(2):
        look.first(guests, 1.0)
    look.second(1.0)
    assert set(look.samples()) == {f"uuid-{number}" for number in range(1, 7)}
