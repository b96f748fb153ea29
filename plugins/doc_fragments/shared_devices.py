# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection.

from __future__ import annotations


class ModuleDocFragment:
    # Must be kept in sync with SHARED_DEVICES_ARGUMENT in plugins/module_utils/virt/connect/module.py.
    DOCUMENTATION = r"""
options:
  shared_devices:
    description:
      - Paths of block devices that all hosts of the cluster see under the same path, or patterns of such paths, as in
        V(/dev/disk/by-id/wwn-*). A guest on such a device moves without a copy of it.
      - Devices on iSCSI, Fibre Channel, NVMe over fabrics, Ceph and DRBD are recognised without this. It is needed for
        others, such as a SAS enclosure that two hosts share.
      - Use names that mean one device, such as those in C(/dev/disk/by-id), C(/dev/mapper) or of a logical volume, and
        name the disk so in the guest's definition. What counts is the name there; links are not followed.
      - Names that the kernel gives in the order in which it finds devices, such as C(/dev/sdb), C(/dev/vda),
        C(/dev/nvme0n1), C(/dev/dm-0), C(/dev/md0), C(/dev/loop0) or C(/dev/nbd0), may mean another device on each host.
        They are refused, and so are patterns that can match them, such as V(/dev/sd*) or V(/dev/*).
      - Nothing checks that it is the same device on all hosts. If it is not, the guest finds the disk of another.
    type: list
    elements: str
    default: []
"""
