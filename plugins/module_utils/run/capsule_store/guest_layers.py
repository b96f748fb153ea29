# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which image each layer of a guest's disks is. Two layers can have the same content, and an
# image has one record with one path: so the layers are on record by their paths, too.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts

SCHEMA = "kvmops.capsule_layers/1"


def image_at(store: CapsuleStore, uuid: str, path: str) -> ImageRecord | None:
    """The image in a file that belongs to a guest's chain; None: it is not known, or the file has changed since.

    Args:
        store: of this host.
        uuid: of the guest.
        path: of the file.
    """
    for record in store.images().values():
        if record["path"] == path and record["kind"] == image_record.DISK and store.changed(record) is None:
            return record
    known = _read(store, uuid).get(path)
    if not isinstance(known, dict) or known.get("facts") != file_facts(path):
        return None
    return store.image(str(known["image"]))


def remember(store: CapsuleStore, uuid: str, path: str, image: str) -> None:
    """Write down which image the file of a layer is."""
    layers = {one: known for one, known in _read(store, uuid).items() if file_facts(one) is not None}
    layers[path] = {"image": image, "facts": file_facts(path)}
    durable_files.write_json(store.layers(uuid), {"schema": SCHEMA, "layers": layers})


def _read(store: CapsuleStore, uuid: str) -> dict[str, t.Any]:
    # It only saves the reading of whole disks. So a damaged one is none.
    try:
        document = durable_files.read_json(store.layers(uuid))
    except CapsuleError:
        return {}
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return {}
    layers = document.get("layers")
    return layers if isinstance(layers, dict) else {}
