# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: who may use the link. Turns are taken in the order in which they were queued for.

from __future__ import annotations

import threading

#: Whether the run is being stopped is looked at this often.
POLL_S = 0.5


class LinkSlots:
    """So many at a time, in their order.

    Args:
        places: at once.
        stopping: when set, nobody gets a turn any more.
    """

    def __init__(self, places: int, stopping: threading.Event) -> None:
        self._free = places
        self._stopping = stopping
        self._changed = threading.Condition()
        self._waiting: list[str] = []
        self._taken: set[str] = set()

    def queue(self, name: str) -> None:
        """Stand in line. Call it in the order that is wanted."""
        with self._changed:
            self._waiting.append(name)

    def take(self, name: str) -> bool:
        """Wait for the turn and take it; False when the run is being stopped. Taking it twice changes nothing.

        False as well once it was given back: it is not to be had again.
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

    def leave(self, name: str) -> None:
        """Give the turn back, or leave the line without having had it."""
        with self._changed:
            if name in self._taken:
                self._taken.discard(name)
                self._free += 1
            elif name in self._waiting:
                self._waiting.remove(name)
            self._changed.notify_all()
