# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: proves that nothing of a guest's disks is at the source any more. That a pull has ended
# proves nothing: one that failed has ended too.

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import (
    lazy_disks,
    put_on,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


def prove(domain: t.Any, targets: t.Collection[str]) -> dict[str, str]:
    """Ask libvirt and the images; correct the definition with which the guest starts next time.

    Returns: the file that the guest writes to, by target.

    Raises:
        CapsuleError: something is there still.
        libvirtError: the guest cannot be asked.
    """
    root = xml_text.parsed(domain.XMLDesc(0))
    left = lazy_disks(root)
    if left:
        raise _not_all_here(domain, left[0].target, "libvirt shows it")
    files = {}
    for disk in guest_look.disks_of(root):
        if disk.target in targets:
            try:
                files[disk.target] = [(layer.path, layer.form) for layer in chain(disk.path, disk.form)]
            except CapsuleError as error:
                raise _not_all_here(domain, disk.target, error.refusal["reason"]) from error
    if domain.isPersistent():
        secure = virt.libvirt.VIR_DOMAIN_XML_INACTIVE | virt.libvirt.VIR_DOMAIN_XML_SECURE
        persistent = xml_text.parsed(domain.XMLDesc(secure))
        lazy = {disk.target for disk in lazy_disks(persistent)} & set(files)
        for disk_element in persistent.findall("devices/disk") if lazy else ():
            target = disk_element.find("target")
            if target is not None and target.get("dev") in lazy:
                put_on(disk_element, files[str(target.get("dev"))])
        if lazy:
            domain.connect().defineXML(ET.tostring(persistent, encoding="unicode"))
    return {target: layers[0][0] for target, layers in files.items()}


def is_used(connection: t.Any, ticket: str) -> bool:
    """Whether a guest of this host has disks of a ticket that are not all here."""
    for domain in connection.listAllDomains(0):
        flags = [0] if domain.isActive() else []
        if domain.isPersistent():
            flags.append(virt.libvirt.VIR_DOMAIN_XML_INACTIVE)
        for flag in flags:
            if any(disk.ticket == ticket for disk in lazy_disks(xml_text.parsed(domain.XMLDesc(flag)))):
                return True
    return False


def _not_all_here(domain: t.Any, target: str, why: str) -> CapsuleError:
    return CapsuleError(
        "chain_not_gone",
        f"the fill of disk {target} of {domain.name()} has ended, but a part of it is still at the source: {why}",
        "run it again; the export stays until then",
    )
