# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: lets other hosts see over libvirt what a guest has left on this host, so that the way home
# is not barred by a copy of our own. As with the maintenance record, a secret object without a value shows it.

from __future__ import annotations

import contextlib
import json
import typing as t
import uuid as uuids
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import left_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

_NAMESPACE = uuids.UUID("6b0d5a0e-5b4d-5f0e-9a52-5d1f0c7f6a11")


def published_as(guest_uuid: str) -> str:
    """The UUID of the secret that shows what a guest has left."""
    return str(uuids.uuid5(_NAMESPACE, guest_uuid.lower()))


def publish(connection: t.Any, record: left_copies.Record) -> None:
    """Show a record, or withdraw it when nothing is left of the guest.

    Raises: libvirtError where libvirt cannot; then a move home finds an image that nobody explains, and is refused.
    """
    uuid = published_as(record["guest"]["uuid"])
    if not record["disks"]:
        withdraw(connection, record["guest"]["uuid"])
        return
    root = ET.Element("secret", ephemeral="no", private="no")
    ET.SubElement(root, "uuid").text = uuid
    ET.SubElement(root, "description").text = json.dumps(record, separators=(",", ":"), ensure_ascii=True)
    connection.secretDefineXML(ET.tostring(root, encoding="unicode"), 0)


def withdraw(connection: t.Any, guest_uuid: str) -> None:
    """Show nothing of a guest any more."""
    with contextlib.suppress(virt.libvirt.libvirtError):
        connection.secretLookupByUUIDString(published_as(guest_uuid)).undefine()


def read(connection: t.Any, guest_uuid: str) -> left_copies.Record | None:
    """What a guest has left on a host, over any connection to it; None where the host shows nothing."""
    try:
        xml = connection.secretLookupByUUIDString(published_as(guest_uuid)).XMLDesc(0)
        record = left_copies.parsed(json_text.parsed(xml_text.parsed(xml).findtext("description") or ""))
    except (virt.libvirt.libvirtError, ValueError):
        return None
    return record if record and record["guest"]["uuid"] == guest_uuid else None
