# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reads a disk that is at the source, some pieces ahead, at a rate, and through cuts.

from __future__ import annotations

import collections
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import EXPORT_NAME
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.nbd_client import (
    NbdClient,
    NbdEndedError,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.token_bucket import TokenBucket

#: So much is asked for before it is needed: what a line of 400 Mbit/s with a round trip of 160 ms has under way.
AHEAD_BYTES = 8 * 1024**2
#: With headers of TCP and ssh, a byte of content takes so much of the link.
OVERHEAD = 1.05
POLL_MS = 500
#: Connections that end one after the other without a byte have another reason than the link.
TRIES = 5

Piece = tuple[int, int]


class _Asked(t.NamedTuple):
    piece: Piece
    number: int


class ExportReader:
    """One disk.

    Args:
        socket: of the forwarder, on which the disk is.
        size_bytes: of the disk.
        bytes_per_s: the rate; None: no limit.
        reach: makes sure of the export, and waits for a source that does not answer.
        check: raises when the operator wants it to stop.
        connect: makes a connection to a socket.
        clock: monotonic seconds.
        sleep: waits so many seconds.

    Attributes:
        read_bytes: what was read so far.
    """

    def __init__(
        self,
        socket: str,
        size_bytes: int,
        bytes_per_s: float | None,
        reach: t.Callable[[], None],
        check: t.Callable[[], None],
        connect: t.Callable[[str, str], NbdClient] = NbdClient,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._socket = socket
        self._size_bytes = size_bytes
        self._reach = reach
        self._check = check
        self._connect = connect
        self._clock = clock
        self._sleep = sleep
        self._bucket = TokenBucket(bytes_per_s, clock())
        self._bucket.overhead = OVERHEAD
        self._client: NbdClient | None = None
        self._ahead: collections.deque[Piece] = collections.deque()
        self._asked: collections.deque[_Asked] = collections.deque()
        self._failed = 0
        self.read_bytes = 0

    def __enter__(self) -> ExportReader:
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()

    def expect(self, pieces: t.Iterable[Piece]) -> None:
        """Say what will be read: offsets and lengths, in this order."""
        self._ahead = collections.deque(pieces)

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes from there on.

        Raises:
            CapsuleError: the source does not give them.
        """
        while True:
            self._check()
            try:
                return self._read((offset, length))
            except NbdEndedError as error:
                self._again(error)

    def _read(self, piece: Piece) -> bytes:
        client = self._connected()
        if not self._asked or self._asked[0].piece != piece:
            client = self._begin_at(piece)
        self._ask(client)
        content = client.answer(self._asked[0].number, POLL_MS)
        while content is None:
            self._check()
            content = client.answer(self._asked[0].number, POLL_MS)
        self._asked.popleft()
        self._failed = 0
        self.read_bytes += piece[1]
        return content

    def _begin_at(self, piece: Piece) -> NbdClient:
        """Another piece is wanted than was expected: what is under way is of no use."""
        if self._asked:
            self._close()
        if piece in self._ahead:
            while self._ahead[0] != piece:
                self._ahead.popleft()
        else:
            self._ahead.appendleft(piece)
        return self._connected()

    def _ask(self, client: NbdClient) -> None:
        """Ask for pieces, as many as the rate and the room for what is under way permit; for one at least."""
        while self._ahead:
            under_way = sum(one.piece[1] for one in self._asked)
            wait_s = self._bucket.wait_s(self._clock())
            if self._asked and (wait_s or under_way + self._ahead[0][1] > AHEAD_BYTES):
                return
            if wait_s:
                self._sleep(wait_s)
            offset, length = self._ahead[0]
            self._asked.append(_Asked((offset, length), client.ask(offset, length)))
            self._ahead.popleft()
            self._bucket.sent(length, self._clock())

    def _connected(self) -> NbdClient:
        if self._client is not None:
            return self._client
        client = self._connect(self._socket, EXPORT_NAME)
        if client.size_bytes != self._size_bytes:
            client.close()
            raise CapsuleError(
                "export_differs",
                f"the disk at the source has {client.size_bytes} bytes, and the capsule says {self._size_bytes}",
                "let the source export the images of this very capsule (capsule_export with ticket and guest)",
            )
        self._client = client
        return client

    def _again(self, error: NbdEndedError) -> None:
        """The connection has ended: begin a new one once the source answers."""
        self._close()
        self._failed += 1
        if self._failed > TRIES:
            raise CapsuleError(
                "export_fails",
                f"the source answers, but ends each connection to the disk ({error})",
                "see why on the source: journalctl -t sshd, qemu-nbd; then run it again",
            ) from error
        self._reach()

    def _close(self) -> None:
        for one in reversed(self._asked):
            self._ahead.appendleft(one.piece)
        self._asked.clear()
        if self._client is not None:
            self._client.close()
            self._client = None
