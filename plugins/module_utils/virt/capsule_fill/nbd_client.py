# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one connection to an NBD server, on which several reads are under way.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.nbd_server import (
    close_handle,
    require_nbd,
)

try:
    import nbd
except ImportError:
    nbd = None


class NbdEndedError(Exception):
    """The server has ended the connection, or a request has failed."""


class NbdClient:
    """A connection.

    Args:
        socket: of the server.
        export: its name there.

    Attributes:
        size_bytes: of the export.

    Raises:
        CapsuleError: the package for it is missing.
        NbdEndedError: it cannot be made.
    """

    def __init__(self, socket: str, export: str) -> None:
        require_nbd()
        self._handle = nbd.NBD()
        self._buffers: dict[int, t.Any] = {}
        try:
            with _told():
                self._handle.set_export_name(export)
                self._handle.connect_unix(socket)
                self.size_bytes: int = self._handle.get_size()
        except NbdEndedError:
            close_handle(self._handle)
            raise

    def ask(self, offset: int, length: int) -> int:
        """Ask for bytes; returns the number of the request."""
        with _told():
            buffer = nbd.Buffer(length)
            number = int(self._handle.aio_pread(buffer, offset))
            self._buffers[number] = buffer
            return number

    def answer(self, number: int, wait_ms: int) -> bytes | None:
        """The bytes of a request; None: they have not come within that time."""
        with _told():
            if not self._handle.aio_command_completed(number):
                self._handle.poll(wait_ms)
                if not self._handle.aio_command_completed(number):
                    return None
            return bytes(self._buffers.pop(number).to_bytearray())

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(nbd.Error):
            close_handle(self._handle)
        self._buffers.clear()


@contextlib.contextmanager
def _told() -> t.Iterator[None]:
    try:
        yield
    except nbd.Error as error:
        raise NbdEndedError(error.string) from error
