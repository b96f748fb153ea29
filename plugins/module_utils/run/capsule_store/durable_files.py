# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: files of the store that survive a loss of power, and that nobody else reads.

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import shutil
import stat
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError

_OLD_S = 3600.0
_WIPE_BYTES = 1024**2
#: Ends the name of a file that held the memory of a guest and is to go.
MEMORY_SUFFIX = ".memory"
#: Records are hundreds of bytes; the largest, how far an image was received, has two lists of 4096 ranges.
MOST_RECORD_BYTES = 1024**2
#: A hundred bytes for each of many images.
MOST_MARKS_BYTES = 64 * 1024**2


def make_directory(path: str, mode: int = 0o700) -> None:
    """Make a directory with this very mode, whatever the umask; one that is there keeps its own.

    Raises:
        CapsuleError: it cannot be made.
    """
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)
            os.chmod(path, mode)
            sync_directory(os.path.dirname(path))
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except OSError as error:
        raise cannot("be made", path, error) from error


def write_bytes(path: str, pieces: t.Iterable[bytes], mode: int = 0o600) -> None:
    """Replace a file, so that a crash leaves the old one or the new one, and never a part.

    Raises:
        CapsuleError: it cannot be written; then nothing of it is left.
    """
    temporary = f"{path}.{os.getpid()}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.rename(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise cannot("be written", path, error) from error


def write_json(path: str, document: t.Any) -> None:
    """Replace a file by a document; see L(write_bytes)."""
    write_bytes(path, [json.dumps(document, sort_keys=True, indent=1).encode("utf-8"), b"\n"])


def fill(descriptor: int, document: t.Any, path: str) -> None:
    """Write a document into a new file that is open.

    Raises:
        CapsuleError: it cannot be written.
    """
    data = json.dumps(document, sort_keys=True).encode("utf-8")
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        raise cannot("be written", path, error) from error


def read_bytes(path: str, most: int) -> bytes | None:
    """The content of an ordinary file; None where there is nothing of that name. Links are not followed.

    Raises:
        CapsuleError: it cannot be read, is no file, or has more bytes than it may.
    """
    with _opened(path) as file:
        if file is None:
            return None
        size_bytes = os.fstat(file.fileno()).st_size
        data = file.read(min(size_bytes, most) + 1)
    if len(data) > most or size_bytes > most:
        raise damaged(path, f"it has {max(size_bytes, len(data))} bytes, and {most} is the most")
    return data


def mapped(path: str) -> t.Any:
    """The content of an ordinary file, read from disk as it is asked for; None where there is nothing of that name.

    For files that are replaced as a whole and never written to: block manifests, of which a large one has gigabytes.

    Raises:
        CapsuleError: it cannot be read, or is no file.
    """
    with _opened(path) as file:
        if file is None:
            return None
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


@contextlib.contextmanager
def _opened(path: str) -> t.Iterator[t.BinaryIO | None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise cannot("be read", path, error) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise damaged(path, "it is no ordinary file")
        try:
            yield file
        except OSError as error:
            raise cannot("be read", path, error) from error


def read_json(path: str, most: int = MOST_RECORD_BYTES) -> t.Any:
    """The document in a file; None where there is nothing of that name.

    Raises:
        CapsuleError: it cannot be read, or is damaged.
    """
    data = read_bytes(path, most)
    if data is None:
        return None
    try:
        return json_text.parsed(data)
    except json_text.JsonTextError as error:
        raise damaged(path, f"it is no JSON ({str(error)[:80]})") from error


def sync_directory(path: str) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: str) -> None:
    """Make the content of a file last."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def names_in(path: str) -> list[str]:
    """The names in a directory, sorted; none where there is no such directory. Names that begin with a dot are left
    out: nothing that is whole is called so.

    Raises:
        CapsuleError: it cannot be read.
    """
    try:
        return sorted(name for name in os.listdir(path) if not name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise cannot("be read", path, error) from error


def left_over(path: str) -> list[str]:
    """The files in a directory that a run has not finished: their names begin with a dot, or end with C(.new)."""
    try:
        with os.scandir(path) as found:
            return [
                one.path
                for one in found
                if (one.name.startswith(".") or one.name.endswith(".new")) and one.is_file(follow_symlinks=False)
            ]
    except OSError:
        return []


def hidden_folders(path: str) -> list[str]:
    """The directories in a directory that were to be removed: their names begin with a dot."""
    try:
        with os.scandir(path) as found:
            return [one.path for one in found if one.name.startswith(".") and one.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def is_old(path: str) -> bool:
    """Whether nobody can be at work on a small file any more."""
    try:
        return time.time() - os.lstat(path).st_mtime > _OLD_S
    except OSError:
        return False


def erase(path: str, secret: bool = False) -> None:
    """Remove a file. What held the memory of a guest (it is called so, or C(secret)) is written over before.

    A file system or a disk that writes elsewhere (copy on write, flash) keeps what was there for a while.

    Raises:
        OSError: it cannot be removed.
    """
    with contextlib.suppress(FileNotFoundError):
        if secret or path.endswith(MEMORY_SUFFIX):
            _wipe(path)
        os.unlink(path)
        sync_directory(os.path.dirname(path))


def erase_folder(path: str) -> None:
    """Remove a directory with all that is in it, as far as that can be removed.

    All but disk images is written over before: memory, TPM state and NVRAM have secrets.
    """
    for folder, dummy, names in os.walk(path):
        for name in names:
            if not name.endswith(".qcow2"):
                with contextlib.suppress(OSError):
                    _wipe(os.path.join(folder, name))
    shutil.rmtree(path, ignore_errors=True)


def _wipe(path: str) -> None:
    zeros = bytes(_WIPE_BYTES)
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        # A link: what it leads to, or is called elsewhere, is nobody's to spoil.
        return
    os.chmod(path, 0o600)
    with open(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b", buffering=0) as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
                end = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            except OSError:
                # Nothing but a hole follows.
                break
            while at < end:
                at += os.pwrite(file.fileno(), zeros[: end - at], at)
        os.fsync(file.fileno())


def cannot(what: str, path: str, error: OSError) -> CapsuleError:
    """The error where a file cannot be read or written; C(what) such as C(be read)."""
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "make room there (capsule_prune removes what nobody needs), and run the task again"
    elif error.errno == errno.EROFS:
        remedy = "see why its file system is mounted read-only (dmesg), and mount it writable"
    elif error.errno in (errno.EACCES, errno.EPERM):
        remedy = "run the task as root (become: true)"
    else:
        remedy = f"see what is there (ls -ld {path}), and check the disk of this host (dmesg)"
    return CapsuleError("store_file", f"{path} cannot {what}: {why}", remedy)


def damaged(path: str, why: str) -> CapsuleError:
    """The error where a file of the store is not as it was written."""
    return CapsuleError(
        "store_damaged",
        f"{path} is damaged: {why}",
        f"move it away (mv {path} /root/), then run capsule_verify: it says what is missing then",
    )
