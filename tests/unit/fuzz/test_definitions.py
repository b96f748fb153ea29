# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definition of a guest cannot be read, or becomes a part of a snapshot."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from pathlib import Path

from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core import hooks, xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.remarks import remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import guest_limits, lazy_disks, managers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml, snapshot_shape
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.entries import entries
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.hypervisor_query import hypervisor
from ansible_collections.kvmops.cluster.tests.unit import hostile
from ansible_collections.kvmops.cluster.tests.unit.fuzz.generated import byte_mutations, fuzzed

FIXTURES = Path(__file__).parents[1] / "fixtures"
METADATA = """<metadata>
<k:guest xmlns:k="https://kvmops.cluster/xmlns/guest/1"><k:home>h1</k:home><k:group apart="a" together="b"/>
<k:intent max_downtime_ms="200" allow_postcopy="true"/></k:guest></metadata>"""
DEVICES = """<hostdev mode='subsystem' type='pci'>
<source><address domain='0x0000' bus='0x3b' slot='0x00' function='0x0'/></source></hostdev>
<filesystem type='mount'><driver type='virtiofs'/><source dir='/x'/><target dir='y'/></filesystem>
<memory model='dimm'><source><pagesize unit='KiB'>2048</pagesize><nodemask>0-1</nodemask></source>
<target><size unit='KiB'>524287</size></target></memory>
<tpm model='tpm-crb'><backend type='emulator'/></tpm>
<graphics type='vnc' port='5900' listen='10.0.0.1'/><vsock><cid auto='no' address='7'/></vsock>
<disk type='network' device='disk'><driver name='qemu' type='raw'/>
<source protocol='nbd' name='x'><host name='s' port='1'/></source><target dev='vdz'/><shareable/>
<backingStore type='file'><source file='/b'/></backingStore></disk>"""
TOP = """<memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='0'/></hugepages></memoryBacking>
<cputune><vcpupin vcpu='0' cpuset='1-3,^2'/><period>100000</period><quota>50000</quota></cputune>
<numatune><memory mode='strict' nodeset='0'/></numatune>"""
NUMBERS = ("", "0", "-1", "9" * 30, "0x", "1e9", "\u00b2", "1-99999999", "^", "nan", " 7 ")


def _whole(name):
    text = (FIXTURES / name).read_text(encoding="utf-8")
    root = ET.fromstring(text)
    for part in ET.fromstring(f"<x>{TOP}{METADATA}</x>"):
        root.append(part)
    root.find("devices").extend(ET.fromstring(f"<x>{DEVICES}</x>"))
    return root


ROOTS = [_whole("domain_large.xml"), _whole("domain_with_disk.xml")]


@st.composite
def definitions(draw):
    """A definition in which a few elements and attributes are others, are gone, or come again elsewhere."""
    root = copy.deepcopy(draw(st.sampled_from(ROOTS)))
    odd = st.sampled_from((*NUMBERS, *(name for name in hostile.NAMES if name.isprintable()))) | st.text(max_size=4)
    for dummy in range(draw(st.integers(1, 5))):
        elements = list(root.iter())
        element, other = (elements[draw(st.integers(0, len(elements) - 1))] for dummy in "ab")
        how = draw(st.sampled_from(("text", "attribute", "attribute", "remove", "move", "tag", "attributes")))
        if how == "text":
            element.text = draw(odd)
        elif how == "attribute" and element.attrib:
            element.set(draw(st.sampled_from(sorted(element.attrib))), draw(odd))
        elif how == "attributes":
            element.attrib.clear()
        elif how == "remove" and len(element):
            del element[draw(st.integers(0, len(element) - 1))]
        elif how == "move":
            other.append(copy.deepcopy(element))
        elif how == "tag" and element is not root:
            element.tag = other.tag
    return ET.tostring(root, encoding="unicode")


def describe(text):
    try:
        root = guest_xml.parse(text)
    except xml_text.XmlTextError as error:
        return str(error)
    found = guest_xml.describe(root)
    facts = Facts((11, 3, 0), (10, 0, 0))
    made = {
        **found,
        "name": "x",
        "uuid": "u",
        "memory_bytes": found["memory_bytes"] or 0,
        **dict.fromkeys(("state_reason", "persistent", "autostart", "balloon", "job")),
        "state": "running",
        "blockers": [dict(one) for one in blockers.blockers(root, facts)],
        "remarks": [dict(one) for one in remarks(root, facts, found["disks"])],
        "managed_by": managers.manager_of(root),
    }
    guest_limits.defined(root)
    lazy_disks.lazy_disks(root)
    snapshot_shape.DOMAIN(made, "domain")
    json.dumps(made)
    return None


def list_guests(text):
    guests = [{"name": "x", "uuid": "u", "xml": text, "state": "running"}]
    answer = {"hostname": "h1", "capabilities": "<capabilities/>", "record": None, "guests": guests}
    assert len(entries([hypervisor("h1", "qemu:///system", answer)], guests=True)) == 2


def test_the_definitions_themselves_are_read():
    for root in ROOTS:
        assert describe(ET.tostring(root, encoding="unicode")) is None


@fuzzed(definitions())
def test_a_definition_with_other_parts(text):
    describe(text)
    list_guests(text)


def test_a_definition_with_other_bytes():
    for number, root in enumerate(ROOTS):
        for data in byte_mutations(ET.tostring(root), f"definition {number}"):
            text = data.decode("utf-8", "surrogateescape")
            describe(text)
            list_guests(text)


@fuzzed(definitions())
def test_the_hooks_of_a_definition(text):
    try:
        hooks.of_guest(guest_xml.parse(text))
    except (xml_text.XmlTextError, hooks.HookError):
        return
