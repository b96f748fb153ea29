# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: copies an image into a file of the store, as one that stands alone.

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import Layer
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.nbd_server import node_of

#: qemu-img -p writes "    (12.34/100%)", and a carriage return.
_PERCENT = re.compile(rb"\((\d{1,3}\.\d\d)/100%\)")


def copy(layers: t.Sequence[Layer], path: str, form: str, progress: t.Callable[[int, int], None] | None = None) -> None:
    """Copy what a guest sees of an image; zeros become holes.

    Args:
        layers: files of the image, the top one first.
        path: of the new file.
        form: its format, C(raw) or C(qcow2).
        progress: is told the bytes that are done, and all that there are; holes count.

    Raises:
        CapsuleError: it cannot be copied; nothing of it is left.
    """
    if shutil.which("qemu-img") is None:
        raise CapsuleError(
            "qemu_img_missing", "qemu-img is missing on this host", "install qemu-utils (Debian) or qemu-img (EL)"
        )
    command = ["qemu-img", "convert", "-p", "-S", "4096", "-O", form, "json:" + json.dumps(node_of(layers)), path]
    old = os.umask(0o077)
    try:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/"
        ) as process:
            try:
                _follow(process, layers[0].size_bytes, progress)
                errors = process.stderr.read() if process.stderr else b""
            except BaseException:
                process.kill()
                _remove(path)
                raise
    finally:
        os.umask(old)
    if process.returncode:
        _remove(path)
        raise _failed(layers[0].path, path, errors.decode("utf-8", "replace").strip())


def _follow(process: t.Any, size_bytes: int, progress: t.Callable[[int, int], None] | None) -> None:
    rest = b""
    while True:
        piece = os.read(process.stdout.fileno(), 4096)
        if not piece:
            return
        rest = (rest + piece)[-100:]
        found = _PERCENT.findall(rest)
        if found and progress is not None:
            progress(int(float(found[-1]) * size_bytes / 100), size_bytes)


def _failed(source: str, path: str, why: str) -> CapsuleError:
    full = "No space left" in why
    return CapsuleError(
        "image_full" if full else "image_not_copied",
        f"{source} cannot be copied to {path}: {why.rsplit(': ', maxsplit=1)[-1][:200]}",
        "make room there (capsule_prune removes what nobody needs), and run the task again"
        if full
        else f"check the image (qemu-img check {source}) and the disk of this host (dmesg)",
    )


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
