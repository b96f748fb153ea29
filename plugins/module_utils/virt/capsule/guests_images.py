# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which images of the store guests of this host stand on, whether they run or not.

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import ImageRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.guest_look import GuestDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.image_users import unused


def used_images(connection: t.Any, records: t.Mapping[str, ImageRecord]) -> dict[str, str]:
    """Why images must stay because of guests, by name.

    What libvirt shows of a guest that is off is its top file only. So the files below are looked up in their headers.
    Where that cannot be done, nobody knows what the guest needs, and all images stay.

    Args:
        connection: to this host's libvirtd; read-only is enough.
        records: of all images, by name.
    """
    paths: dict[str, list[str]] = {}
    for name, record in records.items():
        paths.setdefault(os.path.realpath(record["path"]), []).append(name)
    found: dict[str, str] = {}
    written = [record["path"] for record in records.values()]
    free = unused(connection, written)
    for name, record in records.items():
        if record["path"] not in free:
            found[name] = "a guest of this host names it"
    for domain in connection.listAllDomains(0):
        for disk in _disks(domain):
            try:
                files = [layer.path for layer in chain(disk.path, disk.form)]
            except CapsuleError as error:
                if not os.path.exists(disk.path):
                    # Such a guest cannot start, whatever is kept.
                    continue
                why = f"nobody knows what disk {disk.target} of {domain.name()} stands on: {error.refusal['reason']}"
                return {**dict.fromkeys(records, why), **found}
            for name in (name for path in files for name in paths.get(path, ())):
                found[name] = f"guest {domain.name()} stands on it"
    return found


def _disks(domain: t.Any) -> list[GuestDisk]:
    """The files that a guest writes to, as it runs and as it starts the next time."""
    disks: list[GuestDisk] = []
    for flags in (0, virt.libvirt.VIR_DOMAIN_XML_INACTIVE):
        try:
            disks += guest_look.disks_of(guest_look.parse(domain.XMLDesc(flags)))
        except virt.libvirt.libvirtError:
            # It is gone meanwhile.
            continue
    return [disk for disk in dict.fromkeys(disks) if disk.kind in ("file", "block") and disk.path.startswith("/")]
