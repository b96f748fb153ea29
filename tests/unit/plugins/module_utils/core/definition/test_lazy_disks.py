# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import (
    LazyDisk,
    lazy_disks,
    make_lazy,
    put_on,
)

DOMAIN = """
<domain><devices>
  <disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/><source file='/img/a.raw' index='2'/>
    <backingStore/><target dev='vda' bus='virtio'/></disk>
  <disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/img/b.qcow2'/>
    <backingStore type='file'><format type='qcow2'/><source file='/img/base.qcow2'/><backingStore/></backingStore>
    <target dev='vdb' bus='virtio'/></disk>
</devices></domain>
"""


def lazy():
    root = ET.fromstring(DOMAIN)
    make_lazy(root.findall("devices/disk")[0], "/there/a.qcow2", "fill-0123abcd", 5)
    return root


def test_a_disk_with_its_own_layers_is_all_here():
    assert lazy_disks(ET.fromstring(DOMAIN)) == []


def test_a_lazy_disk_is_found_again_in_what_libvirt_shows():
    assert lazy_disks(lazy()) == [LazyDisk("vda", "/there/a.qcow2", "fill-0123abcd", 5)]


def test_no_error_of_a_lazy_disk_reaches_the_guest_and_its_requests_wait():
    disk = lazy().findall("devices/disk")[0]
    driver = disk.find("driver").attrib
    assert (driver["error_policy"], driver["rerror_policy"]) == ("stop", "stop")
    assert (driver["type"], driver["cache"]) == ("qcow2", "none")
    assert disk.find("backingStore/source/reconnect").get("delay") == "300"
    assert len(disk.findall("source")) == 1


@pytest.mark.parametrize(
    "socket", ["/run/kvmops/fill/fill-0123abcd/5/x", "/run/kvmops/fill/../5", "/run/other/fill-0123abcd/5", ""]
)
def test_a_socket_of_somebody_else_is_none_of_ours(socket):
    root = lazy()
    root.find(".//host").set("socket", socket)
    assert lazy_disks(root) == []


def test_a_disk_is_put_on_files_of_this_host_with_its_whole_chain():
    root = lazy()
    disk = root.findall("devices/disk")[0]
    put_on(disk, [("/here/a.qcow2", "qcow2"), ("/images/1.qcow2", "qcow2"), ("/images/base.raw", "raw")])
    assert lazy_disks(root) == []
    assert [one.get("file") for one in disk.iter("source")] == ["/here/a.qcow2", "/images/1.qcow2", "/images/base.raw"]
    assert [one.get("type") for one in disk.iter("format")] == ["qcow2", "raw"]
    assert disk.find("driver").attrib["rerror_policy"] == "stop"
    assert disk.find("backingStore/backingStore/backingStore").attrib == {}


def test_a_disk_of_one_file_stands_on_nothing():
    disk = ET.fromstring("<disk type='file'/>")
    put_on(disk, [("/here/a.qcow2", "qcow2")])
    assert disk.find("driver").attrib == {"name": "qemu", "type": "qcow2"}
    assert (disk.find("backingStore").attrib, len(disk.find("backingStore"))) == ({}, 0)
