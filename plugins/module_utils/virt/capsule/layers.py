# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: qcow2 files that a guest writes to, on images that nobody writes to any more.

from __future__ import annotations

import contextlib
import os
import re
import subprocess

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import top_layer
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.nbd_server import served

#: How our layers are called: STEM.kvmops-NUMBER.qcow2, and with a letter where that name is taken.
_OURS = re.compile(r"\.kvmops-\d+[a-z]*$")


def path_beside(path: str, number: int) -> str:
    """A free path for the layer that a capsule adds, beside the file that it freezes.

    >>> path_beside("/nowhere/web1.qcow2", 7)
    '/nowhere/web1.kvmops-7.qcow2'
    """
    stem, extension = os.path.splitext(path)
    if extension not in (".qcow2", ".raw", ".img"):
        stem = path
    return free_path(_OURS.sub("", stem), number)


def free_path(stem: str, number: int) -> str:
    """A path that nothing has: nothing is ever written over."""
    for letter in ("", *"abcdefghijklmnopqrstuvwxyz"):
        path = f"{stem}.kvmops-{number}{letter}.qcow2"
        if not os.path.lexists(path):
            return path
    raise CapsuleError(
        "layers_in_the_way",
        f"{stem}.kvmops-{number}.qcow2 and 26 more names like it are taken",
        f"remove those that no guest uses: ls {stem}.kvmops-*",
    )


def make(path: str, below: str, below_form: str, size_bytes: int) -> None:
    """Make an empty layer. Nothing that exists is written over, and the file below is not opened.

    Raises:
        CapsuleError: it cannot be made; then nothing is left of it.
    """
    mask = os.umask(0o077)
    try:
        # So that a name that is taken meanwhile is an error.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        command = [
            "qemu-img",
            "create",
            "-q",
            "-u",
            "-f",
            "qcow2",
            "-F",
            below_form,
            "-b",
            below,
            path,
            str(size_bytes),
        ]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise _not_made(path, (done.stderr or done.stdout).strip())
    except OSError as error:
        raise _not_made(path, error.strerror or str(error)) from error
    finally:
        os.umask(mask)


def _not_made(path: str, why: str) -> CapsuleError:
    return CapsuleError(
        "layer_not_made",
        f"the layer {path} cannot be made: {why}",
        f"see whether there is room and its file system can be written: df {os.path.dirname(path)}",
    )


def remove(path: str) -> None:
    """Remove a layer that nobody has written to."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def is_written(path: str) -> bool:
    """Whether a guest has written to its layer. A layer that is not there has nothing of it."""
    if not os.path.exists(path):
        return False
    # What is below may be at another host, and is not asked.
    with served([top_layer(path)]) as access:
        return bool(access.allocated())


def let_read(path: str, group: int | None) -> None:
    """Give a file to root, and let QEMU read it.

    libvirt does not do that for every file below a layer: if it belongs to root with 0600, as volumes of pools do, the
    guest would not start on it.

    Args:
        path: of the file.
        group: that QEMU runs as; None: nobody knows, and nothing is changed.
    """
    if group is None:
        return
    # On a network file system, root may not be allowed to. Then libvirt could not change it either, and it is readable.
    with contextlib.suppress(PermissionError):
        os.chown(path, 0, group)
        os.chmod(path, os.stat(path).st_mode & 0o600 | 0o040)
