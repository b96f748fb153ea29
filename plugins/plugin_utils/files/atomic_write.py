# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: write a document to a file on the controller, whole or not at all.

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
import typing as t
from pathlib import Path

from ansible.errors import AnsibleError


class FileChange(t.NamedTuple):
    """What the file was and is; ``before`` is empty where there was none."""

    before: str
    after: str


def save(option: str, path: Path, document: t.Mapping[str, t.Any], *, write: bool) -> FileChange:
    """Write a document to a file.

    Args:
        option: what the operator calls the file.
        write: False only says what would be written (check mode).

    Raises:
        AnsibleError: there can be no such file.
    """
    after = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if not path.parent.is_dir():
        raise AnsibleError(f"{option}: the directory {path.parent} does not exist on the controller: create it first")
    if path.is_dir():
        raise AnsibleError(f"{option}: {path} is a directory: give the name of a file")
    try:
        before = content(path) or ""
        if write:
            replace(path, after)
    except OSError as error:
        raise AnsibleError(f"{option}: {path} cannot be written: {error.strerror}") from error
    return FileChange(before, after)


def encoded(text: str) -> bytes:
    """The text as it is in the file. Half a character, which no file can have, becomes the escape that JSON has."""
    return text.encode("utf-8", "backslashreplace")


def content(path: Path) -> str | None:
    """What a file has; None where there is none. A link is none: nothing is written through it either.

    Raises:
        OSError: it cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        # Nothing, a link, a socket.
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        with open(descriptor, encoding="utf-8", errors="replace", newline="", closefd=False) as file:
            return file.read()
    finally:
        os.close(descriptor)


def replace(path: Path, text: str, mode: int | None = None) -> None:
    """Put a file in the place of another, or of a link, so that a reader finds the old one or the new one.

    Args:
        path: the file.
        text: what is in it.
        mode: its permissions. By default those of the old file; a new one has those that the umask of whoever writes it
            leaves.

    Raises:
        OSError: it cannot be written; the old one is as it was.
    """
    # The name is nobody's guess: the folder may belong to others, too.
    temporary = path.parent / f".{path.name[:60]}.{secrets.token_hex(8)}"
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666 if mode is None else 0o600
    )
    try:
        with open(descriptor, "wb") as file:
            # Before there is anything to read.
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            file.write(encoded(text))
            if mode is None:
                with contextlib.suppress(FileNotFoundError):
                    old = path.lstat()
                    if stat.S_ISREG(old.st_mode):
                        os.fchmod(file.fileno(), stat.S_IMODE(old.st_mode))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
