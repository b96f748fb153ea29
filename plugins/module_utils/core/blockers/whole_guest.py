# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Guests that no libvirt migrates as they are now: their hypervisor, their snapshots, who started them."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import (
    Facts,
    Refusals,
    quoted_name,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal


def hypervisor(root: ET.Element, dummy: Facts) -> Refusals:
    """Only QEMU's guests."""
    kind = root.get("type")
    if kind not in ("kvm", "qemu"):
        yield refusal("hypervisor", f"the guest is of type {kind}, not kvm or qemu", "shut it down to move it")


def confidential(root: ET.Element, dummy: Facts) -> Refusals:
    """Memory that only this host's CPU can read."""
    for element in root.findall("launchSecurity[@type]"):
        yield refusal(
            "confidential",
            f"the guest's memory is sealed to this host ({element.get('type')})",
            "shut the guest down to move it",
        )


def snapshots(root: ET.Element, facts: Facts) -> Refusals:
    """Snapshots that libvirt keeps books of."""
    if facts.snapshots:
        name = quoted_name(root)
        yield refusal(
            "snapshots",
            f"the guest has {facts.snapshots} {'snapshot' if facts.snapshots == 1 else 'snapshots'}, which libvirt "
            "cannot move",
            f"delete them (virsh snapshot-list {name}; virsh snapshot-delete {name} SNAPSHOT)",
        )


def autodestroy(dummy: ET.Element, facts: Facts) -> Refusals:
    """A guest that ends with its client."""
    if facts.autodestroy:
        yield refusal(
            "autodestroy",
            "the guest ends with the program that started it (autodestroy)",
            "start it without autodestroy",
        )
