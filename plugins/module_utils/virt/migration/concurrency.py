# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which moves of a run send at the same time. A move that shared the link shows only a part
# of the link's rate.

from __future__ import annotations

import contextlib
import threading
import typing as t


class SendingMove:
    """One move that sends memory.

    Attributes:
        shared_link: whether another move sent at any moment of the same time.
    """

    def __init__(self, moves: SendingMoves) -> None:
        self._moves = moves
        self.shared_link = False

    def end(self) -> None:
        """Its memory is transferred. A second call changes nothing."""
        self._moves.remove(self)


class SendingMoves:
    """All moves of a run that send from this host now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._moves: list[SendingMove] = []

    @contextlib.contextmanager
    def sending(self) -> t.Iterator[SendingMove]:
        """Count a move among them for the block, or until the move ends."""
        move = SendingMove(self)
        with self._lock:
            for other in self._moves:
                other.shared_link = move.shared_link = True
            self._moves.append(move)
        try:
            yield move
        finally:
            move.end()

    def remove(self, move: SendingMove) -> None:
        """Count a move no longer among them."""
        with self._lock:
            if move in self._moves:
                self._moves.remove(move)
