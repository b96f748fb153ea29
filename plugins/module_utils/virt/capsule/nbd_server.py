# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: an image served by qemu-nbd on a socket of our own, and read through libnbd.

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import direct_reads
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.direct_reads import DirectReads
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import Layer

try:
    import nbd
except ImportError:
    nbd = None

Range = tuple[int, int]

#: This process, and those that hash with it.
_MOST_CLIENTS = 8
_GREETING = b"NBDMAGIC"
ALLOCATION, DEPTH = "base:allocation", "qemu:allocation-depth"
#: NBD's own words: the state of a range in base:allocation is a hole, or reads as zeros.
_HOLE, _ZERO = 1, 2
#: What every NBD server takes in one request.
MOST_REQUEST_BYTES = 32 * 1024**2
#: One question for the state of blocks; the answer may speak of less.
_STATUS_BYTES = 1024**3
#: Files on network storage may take long to open.
START_S = 60.0
_END_S = 10.0
_STEP_S = 0.01
#: On a tmpfs, and passable for this user only. Paths of sockets have at most 107 bytes, so it must be short.
SOCKETS = "/run"


def require_nbd() -> None:
    """Say clearly what is missing on this host.

    Raises:
        CapsuleError: a program or a package is missing.
    """
    if nbd is None:
        raise CapsuleError(
            "nbd_missing",
            "the Python of this host cannot speak to qemu-nbd: the module nbd is missing",
            "install python3-libnbd (Debian, Ubuntu, EL: the package has this name)",
        )
    if shutil.which("qemu-nbd") is None:
        raise CapsuleError(
            "qemu_nbd_missing",
            "qemu-nbd is missing on this host",
            "install qemu-utils (Debian, Ubuntu) or qemu-img (EL)",
        )


def close_handle(handle: t.Any) -> None:
    """End a connection of libnbd's. That of Debian 12 has no C(close), and ends it with the last reference."""
    close = getattr(handle, "close", None)
    if close is not None:
        close()


def node_of(layers: t.Sequence[Layer], writable: bool = False) -> dict[str, t.Any]:
    """The image as QEMU's own description of its files: nothing is taken from a header.

    >>> node_of([Layer("/a", "raw", 1)])["driver"]
    'raw'
    """
    node: dict[str, t.Any] | None = None
    for layer in reversed(layers):
        top = layer is layers[0]
        read_only = not (writable and top)
        below = node
        node = {
            "driver": layer.form,
            "read-only": read_only,
            "file": {"driver": "file", "filename": layer.path, "read-only": read_only},
        }
        if layer.path.startswith("/dev/"):
            node["file"]["driver"] = "host_device"
        if layer.form == "qcow2":
            node["backing"] = below
            if writable and top:
                node["discard"] = "unmap"
                node["file"]["discard"] = "unmap"
    return node or {}


@contextlib.contextmanager
def served(layers: t.Sequence[Layer], *, writable: bool = False) -> t.Iterator[ServedImage]:
    """Serve an image for as long as this lasts, and open it.

    Raises:
        CapsuleError: it cannot be opened; the reason has what qemu-nbd says.
    """
    require_nbd()
    clients = 1 if writable else _MOST_CLIENTS
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(serving(layers, writable=writable, clients=clients))
        image = stack.enter_context(contextlib.closing(ServedImage(path, layers)))
        if not writable:
            image.read_directly()
        yield image


@contextlib.contextmanager
def serving(
    layers: t.Sequence[Layer], *, writable: bool = False, clients: int = 1, folder: str | None = None
) -> t.Iterator[str]:
    """Serve an image on a socket; gives its path. The server ends with this, and also if this process is killed.

    Args:
        layers: its files, the top one first.
        writable: whether the top file may be written to.
        clients: how many may read it at the same time.
        folder: above the private folder of the socket; by default L(SOCKETS).

    Raises:
        CapsuleError: it cannot be opened; the reason has what qemu-nbd says.
    """
    private = tempfile.mkdtemp(prefix="kvmops-nbd-", dir=folder or SOCKETS)
    path = os.path.join(private, "socket")
    # One more, for the question whether it is ready.
    command = ["qemu-nbd", "--persistent", f"--shared={clients + 1}", f"--socket={path}", "--allocation-depth"]
    command += ["--cache=writeback", "--aio=threads", "--discard=unmap", "--detect-zeroes=off"]
    command += [] if writable else ["--read-only"]
    command.append("json:" + json.dumps(node_of(layers, writable)))
    if shutil.which("setpriv"):
        # The server is killed when this process ends, however it ends.
        command = ["setpriv", "--pdeathsig", "KILL", "--", *command]
    log = os.path.join(private, "log")
    try:
        with open(log, "wb") as output:
            process = subprocess.Popen(  # pylint: disable=consider-using-with
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
            )
        try:
            _wait_for(path, process, log, layers)
            yield path
        finally:
            _end(process)
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _wait_for(path: str, process: t.Any, log: str, layers: t.Sequence[Layer]) -> None:
    end = time.monotonic() + START_S
    while not _greets(path):
        if process.poll() is not None:
            raise _not_opened(layers[0].path, _said(log) or f"qemu-nbd ended with {process.returncode}")
        if time.monotonic() >= end:
            raise _not_opened(layers[0].path, f"qemu-nbd did not open it within {START_S:g} s. {_said(log)}".strip())
        time.sleep(_STEP_S)


def _greets(path: str) -> bool:
    """Whether the server has opened the image: its socket is there before that, and closes each connection."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.settimeout(START_S)
        client.connect(path)
        return client.recv(len(_GREETING)) == _GREETING
    return False


def _said(log: str) -> str:
    with contextlib.suppress(OSError), open(log, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file if line.strip()]
        # Before its reason, qemu-nbd repeats our own long description of the image.
        return "; ".join(line.split("': ", maxsplit=1)[-1] for line in lines)[:300]
    return ""


def _not_opened(path: str, why: str) -> CapsuleError:
    if " lock" in why:
        return CapsuleError(
            "image_in_use",
            f"another program has {path} open ({why})",
            f"see which: fuser -v {path}; shut that guest down, or make a capsule of it (capsule_save)",
        )
    return CapsuleError("image_not_opened", f"{path} cannot be opened: {why}", f"check it: qemu-img check {path}")


def _end(process: t.Any) -> None:
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class ServedImage:
    """An image on the socket of an NBD server; see L(image_access.ImageAccess)."""

    def __init__(self, path: str, layers: t.Sequence[Layer]) -> None:
        self._path = layers[0].path
        self._layers = layers
        self._socket = path
        self._direct: DirectReads | None = None
        self._handle = nbd.NBD()
        for context in (ALLOCATION, DEPTH):
            self._handle.add_meta_context(context)
        with self._told("opened"):
            self._handle.connect_unix(path)
        self.size_bytes: int = self._handle.get_size()

    def close(self) -> None:
        """End the connection."""
        if self._direct is not None:
            self._direct.close()
        with contextlib.suppress(nbd.Error):
            self._handle.shutdown()
        close_handle(self._handle)

    def read_directly(self) -> None:
        """From now on, read from the files themselves where that is possible. Nobody may write to them."""
        description = direct_reads.described(node_of(self._layers))
        extents = direct_reads.parsed(description, self._layers, self.size_bytes) if description else None
        if extents is not None:
            with self._told("opened"):
                self._direct = DirectReads(extents, self._layers, self._ask)

    def read(self, offset: int, length: int) -> bytes:
        """See L(image_access.ImageAccess)."""
        if self._direct is None:
            return self._ask(offset, length)
        with self._told("read", offset):
            return self._direct.read(offset, length)

    def _ask(self, offset: int, length: int) -> bytes:
        with self._told("read", offset):
            if length <= MOST_REQUEST_BYTES:
                return bytes(self._handle.pread(length, offset))
            ends = range(offset, offset + length, MOST_REQUEST_BYTES)
            return b"".join(
                self._handle.pread(min(MOST_REQUEST_BYTES, offset + length - start), start) for start in ends
            )

    def write(self, offset: int, data: bytes) -> None:
        """See L(image_access.ImageAccess)."""
        with self._told("written", offset):
            for start in range(0, len(data), MOST_REQUEST_BYTES):
                self._handle.pwrite(data[start : start + MOST_REQUEST_BYTES], offset + start)

    def zero(self, offset: int, length: int) -> None:
        """See L(image_access.ImageAccess)."""
        with self._told("written", offset):
            while length > 0:
                piece = min(length, _STATUS_BYTES)
                self._handle.zero(piece, offset)
                offset, length = offset + piece, length - piece

    def flush(self) -> None:
        """See L(image_access.ImageAccess)."""
        with self._told("written"):
            self._handle.flush()

    def allocated(self) -> list[Range]:
        """See L(image_access.ImageAccess)."""
        return self._ranges(DEPTH, lambda depth: depth == 1)

    def data(self) -> list[Range]:
        """See L(image_access.ImageAccess)."""
        return self._ranges(ALLOCATION, lambda state: not state & _ZERO)

    def for_child(self) -> ServedImage:
        """See L(image_access.ImageAccess): a connection of its own."""
        image = ServedImage(self._socket, self._layers)
        if self._direct is not None:
            with image._told("opened"):
                image._direct = self._direct.for_child(image._ask)
        return image

    def _ranges(self, context: str, wanted: t.Callable[[int], bool]) -> list[Range]:
        found: list[Range] = []
        at = 0

        def take(name: str, offset: int, entries: t.Sequence[int], _error: t.Any) -> int:
            nonlocal at
            if name != context:
                return 0
            for told, state in zip(entries[::2], entries[1::2]):
                # An answer may reach beyond the question.
                length = min(told, self.size_bytes - offset)
                if wanted(state) and length > 0:
                    if found and sum(found[-1]) == offset:
                        found[-1] = (found[-1][0], found[-1][1] + length)
                    else:
                        found.append((offset, length))
                offset += length
            at = max(at, offset)
            return 0

        while at < self.size_bytes:
            before = at
            with self._told("read", at):
                self._handle.block_status(min(_STATUS_BYTES, self.size_bytes - at), at, take)
            if at <= before:
                raise CapsuleError(
                    "image_io", f"qemu-nbd does not say what {self._path} has at byte {at}", "upgrade QEMU on this host"
                )
        return found

    @contextlib.contextmanager
    def _told(self, what: str, offset: int | None = None) -> t.Iterator[None]:
        """Turn errors of libnbd and of files into ours."""
        try:
            yield
        except OSError as error:
            raise self._failed(what, offset, error.strerror or str(error), False) from error
        except nbd.Error as error:
            raise self._failed(what, offset, error.string, error.errno in ("ENOSPC", "EDQUOT")) from error

    def _failed(self, what: str, offset: int | None, why: str, full: bool) -> CapsuleError:
        where = "" if offset is None else f" at byte {offset}"
        return CapsuleError(
            "image_full" if full else "image_io",
            f"{self._path} cannot be {what}{where}: {why}",
            "make room there (capsule_prune removes what nobody needs), and run the task again"
            if full
            else f"check the disk of this host (dmesg) and the image (qemu-img check {self._path})",
        )
