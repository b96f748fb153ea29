# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One value in one definition that nobody can read must not hide a host with all its guests."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers, remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import guest_limits, managers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility, guest_xml
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, resources, snapshot

GUEST = ET.fromstring("""
<domain type='kvm'><name>g</name><uuid>00000000-0000-0000-0000-0000000000aa</uuid>
<memory unit='KiB'>1048576</memory><vcpu placement='auto' cpuset='0-3,^2' current='1'>2</vcpu>
<memtune><hard_limit unit='KiB'>2097152</hard_limit></memtune>
<cputune><vcpupin vcpu='0' cpuset='1'/><global_quota>50000</global_quota><global_period>100000</global_period></cputune>
<numatune><memory mode='strict' nodeset='0-1'/><memnode cellid='0' mode='strict' nodeset='1'/></numatune>
<memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='0'/></hugepages></memoryBacking>
<os><type arch='x86_64' machine='q35'>hvm</type><loader>/a/b</loader><nvram template='/c/d'>/e/f</nvram></os>
<cpu><numa><cell id='0' cpus='0' memory='512' unit='MiB'/><cell id='1' cpus='1' memory='512' unit='MiB'/></numa></cpu>
<resource><partition>/machine/gold</partition></resource><seclabel type='dynamic' model='selinux'/>
<metadata><k:guest xmlns:k='https://kvmops.cluster/xmlns/guest/1' only_on='h1'>
<k:intent max_downtime_ms='20'/></k:guest>
<n:x xmlns:n='http://openstack.org/x/1.0' label='kubevirt.io/domain'/></metadata>
<devices><disk type='network' device='disk'><driver type='qcow2'/><source protocol='nbd' name='x'><host name='127.1'/>
<reservations managed='yes'/><dataStore type='file'><format type='raw'/><source file='/d'/></dataStore></source>
<backingStore type='file'><format type='vmdk'/><source file='/b'/></backingStore><target dev='vda' bus='nvme'/></disk>
<disk type='nvme'><source><address domain='0x0' bus='0x3b' slot='0x0' function='0x0'/></source></disk>
<interface type='bridge'><mac address='52:54:00:00:00:01'/><source bridge='b'/></interface>
<hostdev type='pci'><source><address domain='0' bus='1' slot='2' function='3'/></source></hostdev>
<hostdev type='scsi'><source protocol='iscsi' name='n'><host name='h' port='1'/></source></hostdev>
<memory model='virtio-mem'><source><pagesize unit='KiB'>2048</pagesize><nodemask>0</nodemask></source>
<target><size unit='KiB'>8</size><requested unit='KiB'>4</requested></target></memory>
<graphics type='vnc' port='5900' websocket='5700' listen='1.2.3.4'><listen type='address' address='::1'/></graphics>
<vsock><cid auto='no' address='3'/></vsock></devices></domain>""")

ODD = ("", "x", "-1", "0x10", "\u00b2", "9" * 40, "0-99999999", "../../etc/passwd", "$(reboot)", "::", "[")


def everything(root):
    """All that is made of a definition, and whether the guest may go to another host."""
    described = guest_xml.describe(root)
    facts = Facts(libvirt=(9, 0, 0), qemu=(7, 2, 0))
    found = {
        **described,
        "memory_bytes": described["memory_bytes"] or 0,
        "blockers": blockers.blockers(root, facts),
        "remarks": remarks.remarks(root, facts, described["disks"]),
        "limits": guest_limits.defined(root)._asdict(),
        "managed_by": managers.manager_of(root),
    }
    guest = domain("g", **{key: value for key, value in found.items() if key != "name"})
    there = snapshot("h2", resources=resources())
    reasons = compatibility.refusals(guest, snapshot("h1", guest), there, intents.normalise({}))
    return json.dumps([found, reasons])


def put(element, attribute, value):
    if attribute is None:
        element.text = value
    elif value is None:
        element.attrib.pop(attribute)
    else:
        element.set(attribute, value)


@pytest.mark.parametrize("value", [*ODD, None])
def test_no_value_keeps_the_rest_from_being_described(value):
    """In each place; None: the attribute is missing."""
    for element in GUEST.iter():
        for attribute in (None, *element.attrib):
            before = element.text if attribute is None else element.attrib[attribute]
            put(element, attribute, value)
            assert '"00000000-' in everything(GUEST) or element.tag == "uuid"
            put(element, attribute, before)
