# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import managers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import evacuability
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, snapshot

OURS = "<k:guest xmlns:k='https://kvmops.cluster/xmlns/guest/1' home='h1' note='app.kubernetes.io/name'/>"


@pytest.mark.parametrize(
    ("metadata", "manager"),
    [
        (
            "<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'><n:name>a</n:name></n:instance>",
            "OpenStack",
        ),
        ("<v:vm xmlns:v='http://ovirt.org/vm/1.0'><v:clusterVersion>4.7</v:clusterVersion></v:vm>", "oVirt"),
        ("<t:tune xmlns:t='http://ovirt.org/vm/tune/1.0'/>", "oVirt"),
        ("<one:vm xmlns:one='http://opennebula.org/xmlns/libvirt/1.0'/>", "OpenNebula"),
        ("<p:vm xmlns:p='https://www.proxmox.com/ns/1'/>", "Proxmox VE"),
        ("<k:kubevirt xmlns:k='http://kubevirt.io'><k:uid>7</k:uid></k:kubevirt>", "KubeVirt"),
        ("<x:a xmlns:x='urn:x'><x:label name='kubevirt.io/domain' value='db1'/></x:a>", "KubeVirt"),
        ("<x:a xmlns:x='urn:x'><x:label>app.kubernetes.io/name=db1</x:label></x:a>", "Kubernetes"),
        (OURS + "<n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.0'/>", "OpenStack"),
        (OURS, None),
        ("<l:libosinfo xmlns:l='http://libosinfo.org/xmlns/libvirt/domain/1.0'/>", None),
        ("<x:a xmlns:x='http://notopenstack.org/1'/>", None),
        ("<x:a xmlns:x='http://[broken'/>", None),
        ("", None),
    ],
)
def test_the_mark_of_a_manager(metadata, manager):
    assert managers.manager_of(ET.fromstring(f"<domain><metadata>{metadata}</metadata></domain>")) == manager


def test_a_guest_without_metadata_has_no_manager():
    assert managers.manager_of(ET.fromstring("<domain/>")) is None


@pytest.mark.parametrize(
    ("manager", "how"),
    [
        ("OpenStack", "OpenStack (openstack server migrate --live-migration SERVER)"),
        ("pacemaker", "pacemaker (pcs resource move 'db 1')"),
        ("one that a later release knows", "one that a later release knows"),
    ],
)
def test_it_is_left_to_its_manager(manager, how):
    guest = domain("db 1", managed_by=manager)
    (refused,) = evacuability.refusals(guest, snapshot("h1"), intent.normalise({}))
    assert refused == {
        "code": "managed",
        "reason": f"db 1 is a guest of {manager}, which would not know where it runs after a move",
        "remedy": f"move it with {how}, or permit it: allow_managed",
    }
    assert evacuability.refusals(guest, snapshot("h1"), intent.normalise({"allow_managed": True})) == []


CIB = """<cib><configuration><resources>
  <primitive id="vm-db1" class="ocf" provider="heartbeat" type="VirtualDomain">
    <instance_attributes id="a"><nvpair id="b" name="config" value="/etc/libvirt/qemu/db1.xml"/></instance_attributes>
  </primitive>
  <primitive id="vm-old" class="ocf" provider="heartbeat" type="VirtualDomain">
    <instance_attributes id="c"><nvpair id="d" name="config" value="/etc/libvirt/qemu/old.xml"/></instance_attributes>
    <meta_attributes id="e"><nvpair id="f" name="is-managed" value="false"/></meta_attributes>
  </primitive>
  <group id="g"><primitive id="ip" class="ocf" provider="heartbeat" type="IPaddr2"/>
    <primitive id="vm-web" class="ocf" provider="heartbeat" type="VirtualDomain">
      <instance_attributes id="h"><nvpair id="i" name="hypervisor" value="qemu:///system"/>
        <nvpair id="j" name="config" value="/shared/web.xml"/></instance_attributes>
    </primitive></group>
</resources></configuration></cib>"""


def test_guests_that_are_resources_of_pacemaker():
    assert managers.pacemaker_definitions(CIB) == ["/etc/libvirt/qemu/db1.xml", "/shared/web.xml"]
    assert managers.pacemaker_definitions("<cib>") == []
