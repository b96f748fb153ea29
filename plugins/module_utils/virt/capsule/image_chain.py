# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the files that an image is made of. A file that came from elsewhere is hostile: no program
# opens it before its header was read here, and then each file with its format is named to that program.

from __future__ import annotations

import os
import shlex
import stat
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import MOST_LAYERS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.fields import shown
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import qcow2_header
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import FORMATS


class Layer(t.NamedTuple):
    """One file of an image.

    Attributes:
        path: absolute; links are followed.
        form: C(raw) or C(qcow2).
        size_bytes: of what a guest sees with this layer on top.
        cluster_bytes: what is copied where a guest writes less; None for raw.
    """

    path: str
    form: str
    size_bytes: int
    cluster_bytes: int | None = None


def chain(path: str, form: str, formats: t.Mapping[str, str] | None = None) -> list[Layer]:
    """The files of an image, the top one first. Reads headers only.

    Args:
        path: of the top file.
        form: its format, C(raw) or C(qcow2).
        formats: of files below it whose format no header says, by path.

    Raises:
        CapsuleError: a file is missing or damaged, or names what it may not name: a data file, something on the
            network, a file whose format nobody says, itself.
    """
    found: list[Layer] = []
    wanted: tuple[str, str] | None = (path, form)
    while wanted is not None:
        layer, wanted = _layer(os.path.realpath(wanted[0]), wanted[1], formats or {})
        if any(one.path == layer.path for one in found):
            raise _hostile(path, f"{layer.path} is below itself")
        found.append(layer)
        # A base, so many layers, and the guest's own.
        if len(found) > MOST_LAYERS + 2:
            raise CapsuleError(
                "too_many_layers",
                f"{path} is made of more than {MOST_LAYERS + 2} files",
                f"merge some of them while its guest is off: qemu-img commit {shlex.quote(path)}",
            )
    return found


def top_layer(path: str) -> Layer:
    """The top file of a qcow2 image alone. Reads its header only.

    Raises:
        CapsuleError: it cannot be read, is damaged, or has its content elsewhere.
    """
    header = header_of(path)
    if header.data_file:
        raise _hostile(path, "its content is in another file")
    return Layer(os.path.realpath(path), "qcow2", header.size_bytes, header.cluster_bytes)


def header_of(path: str) -> qcow2_header.Qcow2Header:
    """The header of a qcow2 file.

    Raises:
        CapsuleError: it cannot be read, or is damaged.
    """
    try:
        return qcow2_header.parsed(_first_bytes(path))
    except ValueError as error:
        raise CapsuleError(
            "qcow2_damaged",
            f"{path} cannot be used as qcow2: {error}",
            f"see what it is: file {shlex.quote(path)}; name its format if it is another one",
        ) from error


def _layer(path: str, form: str, formats: t.Mapping[str, str]) -> tuple[Layer, tuple[str, str] | None]:
    """One file, and path and format of that below it."""
    if form == "raw":
        return Layer(path, form, size_of(path)), None
    if form not in FORMATS:
        raise CapsuleError(
            "bad_format",
            f"{path} should be {shown(form)}, and only {' and '.join(FORMATS)} can be read here",
            "make a copy of it that is qcow2: qemu-img convert -O qcow2",
        )
    header = header_of(path)
    if header.data_file:
        raise _hostile(path, "its content is in another file")
    if header.encrypted:
        raise CapsuleError(
            "qcow2_encrypted",
            f"{path} is encrypted, so its content cannot be compared",
            "leave this disk out, or encrypt inside of the guest",
        )
    if header.corrupt:
        raise CapsuleError(
            "qcow2_corrupt",
            f"{path} is marked as corrupt",
            f"check it while its guest is off: qemu-img check {shlex.quote(path)}",
        )
    layer = Layer(path, form, header.size_bytes, header.cluster_bytes)
    if header.backing is None:
        return layer, None
    if ":" in header.backing.split("/", maxsplit=1)[0]:
        raise _hostile(path, f"it stands on {shown(header.backing)}, which is no file")
    below = os.path.realpath(os.path.join(os.path.dirname(path), header.backing))
    below_form = formats.get(below) or header.backing_format
    if below_form is None:
        raise CapsuleError(
            "backing_format_unknown",
            f"{path} does not say the format of {below} below it; a guest could make a raw disk look like another one",
            f"write it down while the guest is off: qemu-img rebase -u -F FORMAT -b {shlex.quote(header.backing)}"
            f" {shlex.quote(path)}",
        )
    return layer, (below, below_form)


def size_of(path: str) -> int:
    """The size of a raw image, a file or a block device.

    Raises:
        CapsuleError: it is neither, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(descriptor).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
                raise CapsuleError("no_image", f"{path} is no file and no block device", "name the file of the image")
            return os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(path, error) from error


def _first_bytes(path: str) -> bytes:
    size_of(path)
    try:
        with open(path, "rb") as file:
            return file.read(qcow2_header.HEADER_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: OSError) -> CapsuleError:
    return CapsuleError(
        "image_unreadable",
        f"{path} cannot be read: {error.strerror or error}",
        f"see whether it is there and this user may read it: ls -l {shlex.quote(path)}",
    )


def _hostile(path: str, why: str) -> CapsuleError:
    return CapsuleError(
        "qcow2_hostile",
        f"{path} is not used: {why}",
        "if this image is yours, make a copy that stands alone: qemu-img convert -O qcow2",
    )
