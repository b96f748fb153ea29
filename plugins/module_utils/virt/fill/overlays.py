# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: images that rest on another one: at the far end on an export, at the source on the frozen
# disk.

from __future__ import annotations

import os
import subprocess
import tempfile

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import backing_of

#: With sub-clusters of 2 KiB a guest's write of 4 KiB needs nothing from below. With whole clusters each first write
#: would wait until 64 KiB have come over the link.
OPTIONS = "extended_l2=on,cluster_size=64k"


def make(path: str, size_bytes: int, backing: str, backing_format: str) -> None:
    """Make an empty image that rests on another one. That one is not opened: it may be in use, or not reachable yet.

    Args:
        path: where nothing is.
        size_bytes: as the guest sees it.
        backing, backing_format: what is below.

    Raises: CapsuleError when it cannot be made, or when something is there.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError as error:
        raise CapsuleError(
            "overlay_exists",
            f"{path} is there already",
            "see what it is (qemu-img info), and remove it if nobody needs it",
        ) from error
    except OSError as error:
        raise CapsuleError(
            "overlay_not_made",
            f"{path} cannot be made ({error.strerror})",
            "make room on its file system, then run it again",
        ) from error
    words = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-o", OPTIONS, "-b", backing, "-F", backing_format]
    done = subprocess.run(
        [*words, path, str(size_bytes)], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        os.unlink(path)
        raise CapsuleError(
            "overlay_not_made",
            f"{path} cannot be made: {done.stderr.strip()[-300:]}",
            "make room on its file system, then run it again",
        )


def content_on_export(ticket: str, slot: int, size_bytes: int) -> bytes:
    """The content of an empty image that rests on an export.

    Raises: CapsuleError when it cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="kvmops-overlay-") as folder:
        path = os.path.join(folder, "image")
        make(path, size_bytes, backing_of(ticket, slot), "raw")
        with open(path, "rb") as file:
            return file.read()
