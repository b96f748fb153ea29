# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.remarks import remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts

VF = "0000:3b:02.1"
ADDRESS = "<address domain='0x0000' bus='0x3b' slot='0x02' function='0x1'/>"
PCI = f"<hostdev mode='subsystem' type='pci' managed='yes'><source>{ADDRESS}</source></hostdev>"
INTERFACE = f"<interface type='hostdev'><mac address='52:54:00:00:00:07'/><source>{ADDRESS}</source></interface>"
VGPU = "4b20d080-1b54-4048-85b3-a6a62d165c01"
MDEV = f"<hostdev mode='subsystem' type='mdev' model='vfio-pci'><source><address uuid='{VGPU}'/></source></hostdev>"
VDPA = "<interface type='vdpa'><mac address='52:54:00:00:00:08'/><source dev='/dev/vhost-vdpa-0'/></interface>"
NEW = (8, 1, 0)


def told(inner, **facts):
    """Codes of blockers, and reasons of remarks."""
    root = ET.fromstring(f"<domain type='kvm'><name>gpu1</name><devices>{inner}</devices></domain>")
    given = Facts(**facts)
    found = blockers.blockers(root, given)
    return [one["code"] for one in found], [one["reason"] for one in remarks(root, given, [])]


@pytest.mark.parametrize(("inner", "code"), [(PCI, "hostdev"), (INTERFACE, "hostdev_interface")])
def test_a_pci_device_can_move_if_its_driver_may_save_its_state(inner, code):
    assert told(inner, qemu=NEW, drivers={VF: "mlx5_vfio_pci"}) == (
        [],
        [
            (
                f"PCI device {VF} (mlx5_vfio_pci) of the host is passed through, and only QEMU knows whether it can be "
                "migrated"
            )
        ],
    )
    for facts in (
        {"qemu": NEW, "drivers": {VF: "vfio-pci"}},
        {"qemu": NEW},
        {"qemu": (8, 0, 5), "drivers": {VF: "mlx5_vfio_pci"}},
        {"drivers": {VF: "mlx5_vfio_pci"}},
    ):
        assert told(inner, **facts) == ([code], [])


def test_the_generic_driver_is_named_as_the_reason():
    root = ET.fromstring(f"<domain type='kvm'><name>gpu1</name><devices>{PCI}</devices></domain>")
    (blocker,) = blockers.blockers(root, Facts(qemu=NEW, drivers={VF: "vfio-pci"}))
    assert blocker["reason"] == f"PCI device {VF} of the host is passed through by vfio-pci, which cannot migrate it"


def test_a_vgpu():
    assert told(MDEV, qemu=NEW, drivers={VGPU: "nvidia-vgpu-vfio"}) == (
        [],
        [
            (
                f"mediated device {VGPU} (nvidia-vgpu-vfio) of the host is passed through, and only QEMU knows whether "
                "it can be migrated"
            )
        ],
    )
    assert told(MDEV, qemu=(7, 2, 0), drivers={VGPU: "nvidia-vgpu-vfio"}) == (["mdev"], [])
    adjunct = MDEV.replace("model='vfio-pci'", "model='vfio-ap'")
    assert told(adjunct, qemu=(10, 0, 0), drivers={VGPU: "vfio_ap_mdev"}) == (["mdev"], [])


def test_a_vdpa_interface():
    assert told(VDPA, qemu=(8, 0, 0)) == (
        [],
        ["vDPA device /dev/vhost-vdpa-0 of the host is passed through, and only QEMU knows whether it can be migrated"],
    )
    assert told(VDPA, qemu=(7, 2, 0)) == (["vhost_vdpa"], [])
    assert told(VDPA) == (["vhost_vdpa"], [])


@pytest.mark.parametrize(
    ("source", "codes"),
    [
        ("<source protocol='iscsi' name='iqn.2026-01.org:t/1'><host name='san1' port='3260'/></source>", []),
        ("<source protocol='iscsi' name='iqn.2026-01.org:t/1'><host name='127.0.0.1'/></source>", ["hostdev"]),
        ("<source><adapter name='scsi_host2'/><address bus='0' target='3' unit='0'/></source>", ["hostdev"]),
    ],
)
def test_a_scsi_device_over_iscsi_is_at_the_same_place_from_every_host(source, codes):
    assert told(f"<hostdev mode='subsystem' type='scsi'>{source}</hostdev>") == (codes, [])


def test_a_device_that_libvirt_unplugs_needs_no_remark():
    teamed = PCI.replace("</hostdev>", "<teaming type='transient' persistent='ua-1'/></hostdev>")
    assert told(teamed, qemu=NEW, drivers={VF: "mlx5_vfio_pci"}) == ([], [])
