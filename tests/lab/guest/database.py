# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The database in a Debian guest, as its clients see it: PostgreSQL's protocol, as far as simple queries need it.

A client writes one row after the other and keeps the time of each commit that was acknowledged. Afterwards each of
these rows must be there, and the longest time without one is what the users of the database felt.
"""

from __future__ import annotations

import itertools
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from lab.common.errors import LabError

PORT = 5432
#: Version 3.0 of the protocol.
PROTOCOL = 3 << 16
TIMEOUT_S = 60.0
#: The first client of a boot finds the server still starting.
PATIENCE_S = 180.0


class Connection:
    """One connection to the database ``bench``, as the user postgres, whom the guest trusts."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_connection((address, PORT), timeout=TIMEOUT_S)
        self._reader = self._socket.makefile("rb")
        words = b"".join(word.encode() + b"\0" for word in ("user", "postgres", "database", "bench")) + b"\0"
        self._socket.sendall(struct.pack("!II", len(words) + 8, PROTOCOL) + words)
        self._answer()

    def query(self, text: str) -> list[list[str]]:
        """Run one statement; return its rows as text. The transaction is committed when this returns."""
        data = text.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack("!I", len(data) + 4) + data)
        return self._answer()

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def _answer(self) -> list[list[str]]:
        """Read messages up to the one that says that the server is ready."""
        rows: list[list[str]] = []
        problem = None
        while True:
            kind, content = self._message()
            if kind == b"D":
                rows.append(_row(content))
            elif kind == b"E":
                problem = _problem(content)
            if kind == b"Z" or (kind == b"E" and problem and problem.startswith("FATAL")):
                break
        if problem:
            raise LabError(f"the database says: {problem}", "See journalctl -u 'postgresql@*' in the guest.")
        return rows

    def _message(self) -> tuple[bytes, bytes]:
        head = self._reader.read(5)
        if len(head) < 5:
            raise ConnectionError("the database closed the connection")
        (length,) = struct.unpack("!I", head[1:])
        return head[:1], self._reader.read(length - 4)


def _row(content: bytes) -> list[str]:
    (count,) = struct.unpack_from("!H", content)
    position, fields = 2, []
    for dummy in range(count):
        (length,) = struct.unpack_from("!i", content, position)
        position += 4
        fields.append(content[position : position + max(0, length)].decode())
        position += max(0, length)
    return fields


def _problem(content: bytes) -> str:
    """Return severity and text of an error message, whose fields each begin with a letter.

    >>> _problem(b"SERROR\\0VERROR\\0C42P01\\0Mno such table\\0\\0")
    'ERROR: no such table'
    """
    fields = {part[:1]: part[1:].decode(errors="replace") for part in content.split(b"\0") if part}
    return f"{fields.get(b'S', 'ERROR')}: {fields.get(b'M', 'no text')}"


def connect(address: str, patience_s: float = PATIENCE_S) -> Connection:
    """Connect as soon as the server takes connections."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return Connection(address)
        except (OSError, LabError) as error:
            if time.monotonic() > deadline:
                raise LabError(f"database at {address}: {error}", "See journalctl in the guest.") from None
            time.sleep(0.5)


@dataclass
class Client:
    """Writes rows until it is stopped, as fast as they are committed.

    Attributes:
        commits: times at which a commit was acknowledged, in seconds of the monotonic clock, and the row of each.
        errors: what the database or the connection said instead. The client goes on with a new connection.
    """

    address: str
    commits: list[tuple[float, int]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Client:
        self._connection = connect(self.address)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(2 * TIMEOUT_S)
        self._connection.close()

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                [[row]] = self._connection.query("INSERT INTO journal DEFAULT VALUES RETURNING id")
                self.commits.append((time.monotonic(), int(row)))
            except (OSError, LabError) as error:
                self.errors.append(str(error))
                self._connection.close()
                self._connection = connect(self.address)

    @property
    def longest_wait_ms(self) -> float:
        """The longest time between two commits."""
        times = [at for at, dummy in self.commits]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0) * 1e3


def lost_rows(address: str, client: Client) -> list[int]:
    """Return rows whose commit was acknowledged and that the database does not have."""
    connection = connect(address)
    try:
        there = {int(row[0]) for row in connection.query("SELECT id FROM journal")}
    finally:
        connection.close()
    return [row for dummy, row in client.commits if row not in there]
