# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the slots of the link. They are given in the order in which they were queued for.

from __future__ import annotations

import threading

#: Whether the run is being stopped is checked this often.
POLL_S = 0.5


class LinkSlots:
    """Slots of the link, given in order.

    Args:
        slots: how many there are.
        stopping: when set, nobody gets a slot any more.
    """

    def __init__(self, slots: int, stopping: threading.Event) -> None:
        self._free = slots
        self._stopping = stopping
        self._changed = threading.Condition()
        self._waiting: list[str] = []
        self._taken: set[str] = set()

    def queue(self, name: str) -> None:
        """Queue a step for a slot. Call this in the order that is wanted."""
        with self._changed:
            self._waiting.append(name)

    def queue_first(self, name: str) -> None:
        """Queue a step before all others."""
        with self._changed:
            self._waiting.insert(0, name)

    def take(self, name: str) -> bool:
        """Wait for a slot and take it; False when the run is being stopped. A second call changes nothing.

        False as well for a step that has given its slot back: it gets no other one.
        """
        with self._changed:
            while name not in self._taken:
                if self._stopping.is_set() or name not in self._waiting:
                    return False
                if self._waiting[0] == name and self._free > 0:
                    self._waiting.pop(0)
                    self._taken.add(name)
                    self._free -= 1
                    self._changed.notify_all()
                else:
                    self._changed.wait(POLL_S)
            return True

    def release(self, name: str) -> None:
        """Give the slot back, or leave the queue without a slot."""
        with self._changed:
            if name in self._taken:
                self._taken.discard(name)
                self._free += 1
            elif name in self._waiting:
                self._waiting.remove(name)
            self._changed.notify_all()
