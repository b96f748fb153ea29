# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: proves that nothing of a guest's disks is at the source any more. That a pull has ended
# proves nothing: one that failed has ended too.

from __future__ import annotations

import json
import subprocess
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import (
    LazyDisk,
    lazy_disks,
    without_sources,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


def prove(domain: t.Any, disks: t.Sequence[LazyDisk]) -> None:
    """Ask libvirt and the images; correct the definition with which the guest starts next time.

    Raises:
        CapsuleError: something is there still.
        libvirtError: the guest cannot be asked.
    """
    left = lazy_disks(ET.fromstring(domain.XMLDesc(0)))
    if left:
        raise _not_all_here(domain, left[0].target, "libvirt shows it")
    for disk in disks:
        backing = _backing(disk.path)
        if backing:
            raise _not_all_here(domain, disk.target, f"{disk.path} rests on {backing}")
    if domain.isPersistent():
        secure = virt.libvirt.VIR_DOMAIN_XML_INACTIVE | virt.libvirt.VIR_DOMAIN_XML_SECURE
        root = ET.fromstring(domain.XMLDesc(secure))
        targets = {disk.target for disk in lazy_disks(root)}
        if targets and without_sources(root, targets):
            domain.connect().defineXML(ET.tostring(root, encoding="unicode"))


def is_used(connection: t.Any, ticket: str) -> bool:
    """Whether a guest of this host has disks of a ticket that are not all here."""
    for domain in connection.listAllDomains(0):
        flags = [0] if domain.isActive() else []
        if domain.isPersistent():
            flags.append(virt.libvirt.VIR_DOMAIN_XML_INACTIVE)
        for flag in flags:
            if any(disk.ticket == ticket for disk in lazy_disks(ET.fromstring(domain.XMLDesc(flag)))):
                return True
    return False


def _backing(path: str) -> str | None:
    command = ["qemu-img", "info", "--force-share", "--output=json", "-f", "qcow2", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise CapsuleError(
            "image_unreadable",
            f"{path} cannot be looked at: {done.stderr.strip()[-300:]}",
            f"see qemu-img info -U {path}, then run it again",
        )
    return json.loads(done.stdout).get("full-backing-filename")


def _not_all_here(domain: t.Any, target: str, why: str) -> CapsuleError:
    return CapsuleError(
        "chain_not_gone",
        f"the pull of disk {target} of {domain.name()} has ended, but a part of it is still at the source: {why}",
        "run it again; the export stays until then",
    )
