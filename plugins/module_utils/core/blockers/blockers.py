# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find what stops a guest from leaving its host, whatever the destination.

One table (``RULES``): a rule reads the guest's live XML and facts from its host, and yields refusals. libvirt and QEMU
refuse the same, but only after the migration has begun, and in their own words.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import (
    cpu,
    directories,
    disks,
    emulated_devices,
    firmware,
    host_devices,
    lazy_disks,
    whole_guest,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts, Rule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal

RULES: tuple[Rule, ...] = (
    whole_guest.hypervisor,
    host_devices.host_devices,
    host_devices.host_interfaces,
    directories.directories,
    whole_guest.snapshots,
    lazy_disks.unfinished_fill,
    disks.disks,
    disks.block_jobs,
    whole_guest.autodestroy,
    cpu.cpu,
    cpu.hyperv,
    firmware.tpm,
    firmware.nvram,
    host_devices.shared_memory,
    whole_guest.confidential,
    host_devices.passed_ports,
    emulated_devices.emulated_devices,
    emulated_devices.nvme_emulation,
)


def blockers(root: ET.Element, facts: Facts) -> list[Refusal]:
    """Every blocker of a running guest, in the order of ``RULES``."""
    return [found for rule in RULES for found in rule(root, facts)]
