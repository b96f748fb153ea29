# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the sender's end of a connection to a receiver: a program whose input and output are it.

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import tempfile
import termios
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.link_socket import (
    LinkSocket,
    Traffic,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.token_bucket import TokenBucket

#: So many pieces may wait in this process before the sender must stop for it: twenty seconds, and 1 MiB. Content that
#: compresses a hundred times is compressed more slowly than a thin link could carry it; what waits is sent meanwhile.
MOST_WAITING_PIECES = 200
MOST_WAITING_BYTES = 1024**2
READ_BYTES = 256 * 1024
#: How often it is looked whether the operator wants it to stop, and what went over the link.
LOOK_S = 0.5
#: Until the kernel says more, headers of ssh, TCP and IP are taken to add so much.
FIRST_OVERHEAD = 1.06
#: From so many bytes on, the kernel's own figure is used.
OVERHEAD_FROM_BYTES = 256 * 1024
#: ssh takes megabytes ahead of a thin link, which come before anything else and which nobody sees. So it is given no
#: more than the link carries in this time, and this many bytes where that is less or not known.
AHEAD_S = 1.0
LEAST_AHEAD_BYTES = 256 * 1024
HELD_S = 0.005
#: Each time that nothing waits, the link is taken to carry so much more.
IDLE_FACTOR = 1.2
END_S = 5.0


class LinkLostError(Exception):
    """The connection ended; what is there of the text that ssh or the receiver left is in it.

    Attributes:
        status: of the program; None if it was killed.
        said: what it wrote to its error output.
        answered: whether anything came from the far end.
    """

    def __init__(self, status: int | None, said: str, answered: bool) -> None:
        super().__init__(said or f"exit status {status}")
        self.status = status
        self.said = said
        self.answered = answered


class StoppedError(Exception):
    """The operator wants it to stop."""


class Link:
    """A connection.

    Args:
        command: the program.
        bucket: holds what is sent to a rate.
        stopping: whether to stop.
        clock: monotonic seconds.

    Attributes:
        rate: bytes in a second that the link has carried while it had something to do; None: it was never kept busy.
    """

    def __init__(
        self,
        command: t.Sequence[str],
        bucket: TokenBucket,
        stopping: t.Callable[[], bool] = lambda: False,
        clock: t.Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket = bucket
        self._bucket.overhead = FIRST_OVERHEAD
        self._stopping = stopping
        self._clock = clock
        # A file and not a pipe: nobody needs to read it while the link is at work.
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the link)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, start_new_session=True
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise ValueError("the program has no pipes")
        self._in, self._out = self._process.stdout.fileno(), self._process.stdin.fileno()
        os.set_blocking(self._out, False)
        self._socket = LinkSocket(self._process.pid)
        self._waiting = bytearray()
        self._looked_at = 0.0
        self._seen: tuple[float, int] | None = None
        self._was_idle = False
        self.rate: float | None = None
        self._came = 0
        self.sent = 0

    def send(self, data: bytes) -> bytes:
        """Take bytes to send, and send them as far as rate and link permit.

        Returns:
            what came meanwhile.

        Raises:
            LinkLostError, StoppedError.
        """
        self._was_idle = self._was_idle or self._is_idle()
        self._waiting += data
        came = b""
        most = min(MOST_WAITING_BYTES, MOST_WAITING_PIECES * self._bucket.piece_bytes)
        while len(self._waiting) > most:
            came += self._turn(LOOK_S)
        before = len(self._waiting) + 1
        # As much as goes at once: while the caller reads and compresses what comes next, nothing is written.
        while len(self._waiting) < before:
            before = len(self._waiting)
            came += self._turn(0.0)
        return came

    def receive(self, least_s: float = LOOK_S) -> bytes:
        """Wait until something has come; an empty answer after this long. What waits is sent meanwhile."""
        return self._turn(least_s)

    @property
    def waiting_bytes(self) -> int:
        """Bytes that were taken and not sent yet."""
        return len(self._waiting)

    def traffic(self) -> Traffic:
        """What went over the link. Where the kernel does not tell, what was written and read."""
        return self._socket.traffic() or Traffic(self.sent, self._came)

    def _turn(self, most_s: float) -> bytes:
        """Send and read what is possible now; wait for it so long at most."""
        self._look()
        now = self._clock()
        pause = self._bucket.wait_s(now) if self._waiting else 0.0
        if self._waiting and not pause and self._is_ahead():
            pause = HELD_S
        writers = [self._out] if self._waiting and not pause else []
        wait = 0.0 if writers and not most_s else min(most_s, pause) if pause else most_s
        readable, writable, dummy = select.select([self._in], writers, [], wait)
        if writable:
            self._write()
        if not readable:
            return b""
        data = os.read(self._in, READ_BYTES)
        if not data:
            raise self._lost()
        self._came += len(data)
        return data

    def _is_idle(self) -> bool:
        """Whether the link has carried all that it was given, and could have had more."""
        if self._bucket.wait_s(self._clock()) or self._is_ahead():
            return False
        # ssh leaves what it cannot send where it is.
        (unread,) = struct.unpack("=i", fcntl.ioctl(self._out, termios.FIONREAD, bytes(4)))
        return not unread

    def _is_ahead(self) -> bool:
        """Whether ssh still has enough that the link has not carried."""
        traffic = self._socket.traffic()
        if traffic is None:
            return False
        ahead = self.sent * self._bucket.overhead - traffic.out
        return ahead > max(LEAST_AHEAD_BYTES, AHEAD_S * (self.rate or 0.0))

    def _write(self) -> None:
        piece = bytes(self._waiting[: self._bucket.piece_bytes])
        try:
            count = os.write(self._out, piece)
        except BlockingIOError:
            return
        except BrokenPipeError:
            # What the far end has said before it ended is worth more than that it ended.
            self._waiting.clear()
            return
        del self._waiting[:count]
        self.sent += count
        self._bucket.sent(count, self._clock())

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        if self._stopping():
            raise StoppedError
        if self._socket.attach():
            traffic = self._socket.traffic()
            if traffic and self.sent >= OVERHEAD_FROM_BYTES:
                self._bucket.overhead = min(2.0, max(1.0, traffic.out / self.sent))
        self._measure(now)

    def _measure(self, now: float) -> None:
        """See what the link carries. It counts from one look to the next, if the link had something to do all the time.

        Otherwise the time went into reading and compressing. To take that for the link's rate would have what follows
        compressed even harder, and so on.
        """
        out = self.traffic().out
        if not self._waiting or self._was_idle:
            self._seen, self._was_idle = None, False
            if self.rate is not None:
                # Then it may carry more than it is given, as much time goes into compressing.
                self.rate *= IDLE_FACTOR
            return
        if self._seen is not None and now > self._seen[0] and out > self._seen[1]:
            rate = (out - self._seen[1]) / (now - self._seen[0])
            self.rate = rate if self.rate is None else (self.rate + rate) / 2
        self._seen = (now, out)

    def _lost(self) -> LinkLostError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_S)
        self._errors.seek(0)
        # What Python says of an error that nobody expected ends with the error.
        said = " ".join(self._errors.read(16_000).decode("utf-8", "replace").split())[-500:]
        return LinkLostError(self._process.poll(), said, self._came > 0)

    def close(self) -> Traffic:
        """End it, whatever it is doing; returns what went over it."""
        traffic = self.traffic()
        self._socket.close()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()
        return traffic


def started(command: t.Sequence[str], bucket: TokenBucket, stopping: t.Callable[[], bool]) -> Link:
    """A link.

    Raises:
        CapsuleError: the program is missing.
    """
    try:
        return Link(command, bucket, stopping)
    except FileNotFoundError as error:
        raise CapsuleError(
            "ssh_missing",
            f"there is no {command[0]} on this host",
            "install openssh-client (Debian) or openssh-clients",
        ) from error
