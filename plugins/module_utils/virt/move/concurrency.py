# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: who else was sending while a guest moved. What such a move shows of the link is a share.

from __future__ import annotations

import contextlib
import threading
import typing as t


class Place:
    """One move's place among those that send."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        #: whether anybody else sent for any of that time
        self.crowded = False

    def leave(self) -> None:
        """Its memory is over; leaving twice changes nothing."""
        self._crowd.leave(self)


class Crowd:
    """All that send from this host in a run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: list[Place] = []

    @contextlib.contextmanager
    def sending(self) -> t.Iterator[Place]:
        """Be among them for so long, or until the place is left."""
        place = Place(self)
        with self._lock:
            for other in self._places:
                other.crowded = place.crowded = True
            self._places.append(place)
        try:
            yield place
        finally:
            place.leave()

    def leave(self, place: Place) -> None:
        """Be no longer among them."""
        with self._lock:
            if place in self._places:
                self._places.remove(place)
