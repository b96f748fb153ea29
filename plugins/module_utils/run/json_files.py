# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: JSON files that survive a crash.

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text


def remedy_of(error: OSError) -> str:
    """What to do about a record that could not be written.

    >>> remedy_of(OSError(errno.ENOSPC, "No space left on device"))
    'make room on that file system, then run it again'
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "make room on that file system, then run it again"
    if error.errno == errno.EROFS:
        return "see why that file system is read-only (dmesg), then run it again"
    return "run it again as root (become: true)"


class NoFileError(OSError):
    """Something else than an ordinary file: a folder, a link, a pipe."""

    def __init__(self, path: str) -> None:
        super().__init__(errno.EINVAL, "it is no ordinary file", path)


def write_durably(path: str, document: t.Any, *, indent: int | None = None, mode: int | None = None) -> None:
    """Replace a JSON file so that a crash leaves the old or the new one, never a part.

    Args:
        indent: columns for each level, for files that people read; by default all on one line.
        mode: permissions of the file; by default those of any new file.
    """
    # Two that write at once must not write into each other's file.
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.new"
    if os.path.islink(temporary):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(temporary, flags, 0o666), "w", encoding="utf-8") as file:
            json.dump(document, file, indent=indent)
            if indent:
                file.write("\n")
            if mode is not None:
                os.chmod(file.fileno(), mode)
            file.flush()
            os.fsync(file.fileno())
        _put_folder_aside(path)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))


def make_directory(path: str, mode: int = 0o700) -> None:
    """Make a directory and those above it, so that a crash does not take it away with the records in it.

    Args:
        mode: permissions of those that are made.
    """
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    if above and above != path:
        make_directory(above, mode)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, mode)
        sync_directory(above)


def remove_durably(path: str) -> None:
    """Remove a file, if it is there, so that a crash does not bring it back."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        sync_directory(os.path.dirname(path))


def sync_directory(path: str) -> None:
    """Make the names in a directory last."""
    descriptor = os.open(path or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _put_folder_aside(path: str) -> None:
    """Let a file take the place of a folder. Nobody knows what is in that, so it stays under another name."""
    if os.path.isdir(path) and not os.path.islink(path):
        number = 1
        while os.path.lexists(f"{path}.aside-{number}"):
            number += 1
        os.rename(path, f"{path}.aside-{number}")


def read_file(path: str, most: int = json_text.MOST_BYTES) -> bytes:
    """The content of an ordinary file; no more of it than one byte beyond the most. A link is not followed.

    Raises:
        FileNotFoundError: there is nothing of that name.
        NoFileError: it is no ordinary file.
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        # A link, and a socket, which cannot be opened at all.
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise NoFileError(path) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NoFileError(path)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most + 1)
    finally:
        os.close(descriptor)


def read_json(path: str) -> t.Any:
    """A JSON file's content, or None when it is missing, is no file, or is not whole."""
    try:
        return json_text.parsed(read_file(path))
    except (FileNotFoundError, NoFileError, json_text.JsonTextError):
        return None
