# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: files that other programs read at any time, such as those of Prometheus' exporters.

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

MODE = 0o644
#: A file that is no longer than this is compared with the new one.
MOST_BYTES = 64 << 20


class TextfileError(Exception):
    """A file that cannot be written; ``refusal`` says why and what to do."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(f"{why['reason']}; {why['remedy']}")
        self.refusal = why


def content(path: str) -> str | None:
    """The text of a file; None: there is none, or something else of that name. A link is not followed."""
    found = content_bytes(path)
    return None if found is None else found.decode("utf-8", "replace")


def content_bytes(path: str) -> bytes | None:
    """What a file has; None: there is none, or something else of that name. A link is not followed."""
    try:
        with _folder(path) as folder:
            descriptor = os.open(_name(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return None
                with open(descriptor, "rb", closefd=False) as file:
                    return file.read(MOST_BYTES)
            finally:
                os.close(descriptor)
    except (OSError, TextfileError):
        return None


def replace(path: str, text: str | bytes) -> None:
    """Put a text in the place of a file, so that a reader finds the old one or the new one.

    The folder may belong to the user of the program that reads. So nothing there is followed: a link of that name is
    replaced, and the folder itself must be none.

    Args:
        path: the file; its folder must be there.
        text: what is in it.

    Raises:
        TextfileError: it cannot be written; the old one is as it was.
    """
    try:
        with _folder(path) as folder:
            _replace(folder, _name(path), text.encode() if isinstance(text, str) else text)
    except OSError as error:
        raise TextfileError(
            refusal(
                "textfile_not_written",
                f"{path} cannot be written: {error.strerror or error}",
                "run as root (become: true), and look for a full file system, or for a folder of that name",
            )
        ) from error


def _replace(folder: int, name: str, data: bytes) -> None:
    # The name is nobody's guess, and it does not end as those that are read.
    temporary = f".{name[:100]}.{secrets.token_hex(8)}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), MODE)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


@contextlib.contextmanager
def _folder(path: str) -> t.Iterator[int]:
    """The open folder of a file.

    Raises:
        TextfileError: there is none, or it is a link.
    """
    above = os.path.dirname(path) or "."
    try:
        descriptor = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        raise TextfileError(
            refusal(
                "no_textfile_folder",
                f"there is no folder {above}" if error.errno == errno.ENOENT else f"{above} is no folder, or a link",
                "make it, or name another path; the exporter reads that of --collector.textfile.directory",
            )
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _name(path: str) -> str:
    return os.path.basename(path)
