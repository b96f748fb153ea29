# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: new files for images, and the content of others in them.

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import SEGMENT_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_access import ImageAccess

#: Small writes take 4 KiB of the file and not 64, as clusters have parts of their own.
CLUSTERS = "cluster_size=128k,extended_l2=on"
#: From linux/fs.h: share the blocks of a file with another one.
FICLONE = 0x40049409


def make_image(path: str, form: str, size_bytes: int, backing: tuple[str, str] | None = None) -> None:
    """Make an image that is all zeros, or as its backing file.

    Args:
        path: where none is.
        form: C(raw) or C(qcow2).
        size_bytes: what a guest sees of it.
        backing: path and format of the file below a qcow2.

    Raises:
        CapsuleError: it cannot be made.
    """
    if form == "raw":
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.truncate(size_bytes)
        return
    words = ["qemu-img", "create", "-q", "-f", "qcow2", "-o", CLUSTERS]
    if backing is not None:
        # It was looked at before; qemu-img must not open it with a format of its own choice.
        words += ["-u", "-b", backing[0], "-F", backing[1]]
    _qemu_img([*words, path, str(size_bytes)], path)


def shared_copy(source: str, target: str) -> bool:
    """A copy of a file that takes no space; false where the file system cannot do that."""
    with open(source, "rb") as old:
        new = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.ioctl(new, FICLONE, old.fileno())
        except OSError as error:
            os.unlink(target)
            if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL, errno.EPERM):
                return False
            raise
        finally:
            os.close(new)
    return True


def copy_content(source: ImageAccess, target: ImageAccess, size_bytes: int) -> None:
    """Copy what is not zero of an image, up to a size, to one that is all zeros."""
    for start, length in source.data():
        end = min(start + length, size_bytes)
        for at in range(start, end, SEGMENT_BYTES):
            target.write(at, source.read(at, min(SEGMENT_BYTES, end - at)))


def _qemu_img(words: t.Sequence[str], path: str) -> None:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except FileNotFoundError as error:
        raise CapsuleError(
            "qemu_img_missing",
            "qemu-img is missing on this host",
            "install qemu-utils (Debian, Ubuntu) or qemu-img (EL)",
        ) from error
    if done.returncode:
        raise CapsuleError(
            "image_not_made",
            f"{path} cannot be made: {done.stderr.strip()[:300]}",
            "see whether its file system is full or read-only, and run capsule_send again",
        )
