# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A definition for tests, and places for its parts."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Layer, Place
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.rebuild import Rebuilt, rebuilt

#: What a guest of libvirt's looks like; C(%s) takes what a test adds to the domain, to its boot and to its devices.
DOMAIN = """<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>db1</name><uuid>0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10</uuid>
  <metadata><app:made xmlns:app='https://app.example/1'>/by/somebody</app:made></metadata>
  <memory unit='KiB'>262144</memory><currentMemory unit='KiB'>262144</currentMemory>
  <vcpu placement='static' cpuset='0-1'>2</vcpu>
  <os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type>{boot}</os>
  <features><acpi/></features><cpu mode='host-passthrough'/><clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>{domain}
  <devices><emulator>/opt/odd/qemu</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/>
      <source file='/var/lib/libvirt/images/db1.qcow2' index='1'/><backingStore/>
      <target dev='vda' bus='virtio'/><address type='pci' domain='0x0000' bus='0x02' slot='0x00' function='0x0'/></disk>
    <interface type='bridge'><mac address='52:54:00:12:34:56'/><source bridge='br0'/><target dev='vnet7'/>
      <model type='virtio'/></interface>
    {devices}</devices>
</domain>"""

DISKS = {"vda": (Layer("/images/db1-vda.qcow2", "qcow2"), Layer("/capsules/images/aa.raw", "raw"))}
PLACE = Place(
    "h3",
    DISKS,
    nvram="/nvram/db1_VARS.fd",
    has_links=frozenset({"br0", "eth0"}),
    has_networks=frozenset({"default"}),
    cpus=frozenset({0, 1}),
)


def domain(*, domain: str = "", boot: str = "", devices: str = "") -> ET.Element:
    """A definition with what a test adds."""
    return ET.fromstring(DOMAIN.format(domain=domain, boot=boot, devices=devices))


def here(place: Place = PLACE, **more: str) -> Rebuilt:
    """The definition as it is rebuilt."""
    return rebuilt(domain(**more), "db1", place)


def text(found: Rebuilt) -> str:
    """What libvirt would be given."""
    return ET.tostring(found.domain, encoding="unicode")
