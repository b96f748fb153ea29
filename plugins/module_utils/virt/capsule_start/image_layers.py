# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the files below a guest that is started from a capsule, for each of its disks.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import Capsule, images_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Layer
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain

#: For each disk, by its target: what is below the guest's own layer, the nearest first.
Below = dict[str, tuple[Layer, ...]]


def below(store: CapsuleStore, capsule: Capsule, targets: t.Container[str] | None = None) -> Below:
    """What the guest's own layers stand on.

    Args:
        store: of this host.
        capsule: the document.
        targets: of the disks that are meant; None: all.

    Raises:
        CapsuleError: an image is missing here, or has changed since it was sealed.
    """
    return {
        disk["target"]: tuple(_files(store, capsule, disk["target"], disk["image"]))
        for disk in capsule["disks"]
        if targets is None or disk["target"] in targets
    }


def _files(store: CapsuleStore, capsule: Capsule, target: str, image: str) -> t.Iterator[Layer]:
    wanted: str | None = image
    seen: set[str] = set()
    while wanted is not None:
        if wanted in seen:
            raise CapsuleError(
                "store_damaged",
                f"image {wanted} stands on itself, says the store {store.directory}",
                "send the capsule again",
            )
        seen.add(wanted)
        record = image_of(store, capsule, f"disk {target}", wanted)
        yield Layer(record["path"], record["format"])
        wanted = record["backing"]
        if wanted is None and not store.owns(record):
            # An image in the place of another guest may stand on files that nobody has sealed one by one.
            for layer in chain(record["path"], record["format"])[1:]:
                yield Layer(layer.path, layer.form)


def image_of(store: CapsuleStore, capsule: Capsule, what: str, image: str) -> ImageRecord:
    """The record of an image that a capsule needs.

    Raises:
        CapsuleError: it is missing here, or has changed since it was sealed.
    """
    name, number = capsule["guest"]["name"], capsule["number"]
    record = store.image(image)
    if record is None:
        raise CapsuleError(
            "image_missing",
            f"the {what} of capsule {number} of {name} is not here ({image})",
            f"send the capsule here: capsule_send on {capsule['made_on']}",
        )
    why = store.changed(record)
    if why is not None:
        raise CapsuleError(
            "image_changed",
            f"the {what} of capsule {number} of {name} cannot be used: {why}",
            "find out what has written to it; then remove its capsules here, and send the capsule again",
        )
    return record


def check_all(store: CapsuleStore, capsule: Capsule, later: t.Collection[str] = ()) -> None:
    """See that all images of a capsule are here, and as they were sealed, but for those of disks that come later.

    Args:
        store: of this host.
        capsule: the document.
        later: targets of these disks.

    Raises:
        CapsuleError: one of them is not.
    """
    left_out = {f"disk {target}" for target in later}
    for what, image in images_of(capsule).items():
        if what not in left_out:
            image_of(store, capsule, what, image)
