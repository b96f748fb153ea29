# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Directories of the host that a guest mounts."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import (
    Facts,
    Refusals,
    is_older,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import shown

#: The first libvirt that migrates a guest with virtiofs, if its virtiofsd offers C(migrate-precopy).
LIBVIRT_VIRTIOFS = (10, 6, 0)
#: The first QEMU that carries the state of a vhost-user program.
QEMU_VIRTIOFS = (8, 2, 0)


def directories(root: ET.Element, facts: Facts) -> Refusals:
    """virtiofs. What QEMU knows of 9p, only QEMU knows: see remarks.py."""
    for element in root.findall("devices/filesystem"):
        if driver_of(element) != "virtiofs":
            continue
        where = directory(element)
        for name, version, first in (
            ("libvirt", facts.libvirt, LIBVIRT_VIRTIOFS),
            ("QEMU", facts.qemu, QEMU_VIRTIOFS),
        ):
            if is_older(version, first):
                yield refusal(
                    "virtiofs",
                    f"the host's directory {where} is shared with the guest by virtiofs, which {name} "
                    f"{shown(version or ())} cannot migrate",
                    f"unmount it in the guest and detach it, or upgrade {name} to {shown(first)} or later",
                )
                break
        else:
            if where in facts.local_places and element.find("readonly") is None:
                yield refusal(
                    "virtiofs_local",
                    f"the host's directory {where} is shared with the guest by virtiofs and is on local storage "
                    f"({facts.local_places[where]}), so the destination has other files there",
                    "put the directory on shared storage, or unmount it in the guest and detach it",
                )


def driver_of(element: ET.Element) -> str:
    """What shares the directory: ``path`` is 9p, libvirt's default."""
    driver = element.find("driver")
    return (driver.get("type") if driver is not None else None) or "path"


def directory(element: ET.Element) -> str:
    """The directory, or the socket of the program that serves it."""
    where = element.find("source")
    return (where.get("dir") or where.get("socket") if where is not None else None) or "?"
