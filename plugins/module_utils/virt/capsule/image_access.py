# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the content of an image, as a guest sees it.

from __future__ import annotations

import contextlib
import errno
import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import Layer, chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.nbd_server import served

#: Start and length in bytes.
Range = tuple[int, int]


class ImageAccess(t.Protocol):
    """An open image.

    Attributes:
        size_bytes: of what a guest sees.
    """

    size_bytes: int

    def read(self, offset: int, length: int) -> bytes:
        """So many bytes; all of them must be within the image."""

    def write(self, offset: int, data: bytes) -> None:
        """Write these bytes."""

    def zero(self, offset: int, length: int) -> None:
        """Make so many bytes zero, as a hole where that is possible."""

    def flush(self) -> None:
        """Make what was written last."""

    def allocated(self) -> list[Range]:
        """What the top file has of its own, zeros included; the rest is as in the files below it."""

    def data(self) -> list[Range]:
        """What may be something else than zeros, in any of the files."""

    def for_child(self) -> ImageAccess:
        """The same image for a child process, which must not use that of its parent."""


@contextlib.contextmanager
def opened(
    path: str, form: str, *, writable: bool = False, formats: t.Mapping[str, str] | None = None
) -> t.Iterator[ImageAccess]:
    """Open an image.

    Raw files are read and written as they are. For qcow2, C(qemu-nbd) serves it on a socket that only this user can
    reach, with all files and formats named to it.

    Args:
        path: of the top file.
        form: its format, C(raw) or C(qcow2).
        writable: whether the top file may be written to. Nothing else may have it open then.
        formats: see L(image_chain.chain).

    Raises:
        CapsuleError: it cannot be opened: something is missing, damaged or hostile, or another program writes to it.
    """
    layers = chain(path, form, formats)
    if form == "raw":
        with _RawFile(layers[0], writable) as image:
            yield image
        return
    with served(layers, writable=writable) as access:
        yield access


class _RawFile:
    """A raw file, or a block device."""

    def __init__(self, layer: Layer, writable: bool) -> None:
        self.size_bytes = layer.size_bytes
        self._path = layer.path
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        try:
            self._descriptor = os.open(layer.path, flags)
        except OSError as error:
            raise _failed("opened", layer.path, error) from error

    def __enter__(self) -> _RawFile:
        return self

    def __exit__(self, *_error: object) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, length: int) -> bytes:
        """See L(ImageAccess)."""
        data = self._read_some(offset, length)
        if len(data) == length:
            return data
        pieces = [data]
        while data and len(data) < length:
            offset, length = offset + len(data), length - len(data)
            data = self._read_some(offset, length)
            pieces.append(data)
        if not data:
            raise CapsuleError(
                "image_changed", f"{self._path} has become shorter while it was read", "see which program writes to it"
            )
        return b"".join(pieces)

    def _read_some(self, offset: int, length: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError as error:
            raise _failed("read", self._path, error, offset) from error

    def write(self, offset: int, data: bytes) -> None:
        """See L(ImageAccess)."""
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise _failed("written", self._path, error, offset) from error

    def zero(self, offset: int, length: int) -> None:
        """See L(ImageAccess)."""
        if _punched(self._descriptor, offset, length):
            return
        piece = bytes(min(length, 1024**2))
        while length > 0:
            self.write(offset, piece[:length])
            offset, length = offset + len(piece), length - len(piece)

    def flush(self) -> None:
        """See L(ImageAccess)."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise _failed("written", self._path, error) from error

    def allocated(self) -> list[Range]:
        """See L(ImageAccess)."""
        return [(0, self.size_bytes)] if self.size_bytes else []

    def data(self) -> list[Range]:
        """See L(ImageAccess)."""
        found: list[Range] = []
        end = 0
        while end < self.size_bytes:
            try:
                start = os.lseek(self._descriptor, end, os.SEEK_DATA)
            except OSError as error:
                # ENXIO: nothing but a hole follows. Others: this file system, or a device, does not know.
                return found if error.errno == errno.ENXIO else [(0, self.size_bytes)]
            if start >= self.size_bytes:
                break
            end = min(os.lseek(self._descriptor, start, os.SEEK_HOLE), self.size_bytes)
            found.append((start, end - start))
        return found

    def for_child(self) -> ImageAccess:
        """See L(ImageAccess): reads have no place of their own in the file, so it is shared."""
        return self


def _punched(descriptor: int, offset: int, length: int) -> bool:
    """Make a hole; false where that cannot be. Python 3.9 has no such call, so the C library is asked."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        call = libc.fallocate64 if hasattr(libc, "fallocate64") else libc.fallocate
        call.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
        # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE of linux/falloc.h.
        return bool(call(descriptor, 3, offset, length) == 0)
    return False


def _failed(what: str, path: str, error: OSError, offset: int | None = None) -> CapsuleError:
    where = "" if offset is None else f" at byte {offset}"
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return CapsuleError(
        "image_full" if full else "image_io",
        f"{path} cannot be {what}{where}: {error.strerror or error}",
        "make room there (capsule_prune removes what nobody needs), and run the task again"
        if full
        else "check the disk of this host (dmesg, smartctl)",
    )
