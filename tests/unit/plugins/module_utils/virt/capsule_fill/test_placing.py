# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Layer
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import (
    LazyDisk,
    lazy_disks,
    make_lazy,
    put_on,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import layers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill import placing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.placing import Placing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

XML = "<domain><devices><disk type='file' device='disk'><target dev='vda'/></disk></devices></domain>"
BELOW = [Layer("/images/7.qcow2", "qcow2"), Layer("/images/base.raw", "raw")]
GIB = 1024**3


class LibvirtError(Exception):
    pass


LIBVIRT = SimpleNamespace(
    libvirtError=LibvirtError,
    VIR_DOMAIN_XML_INACTIVE=2,
    VIR_DOMAIN_XML_SECURE=1,
    VIR_DOMAIN_BLOCK_COPY_SHALLOW=1,
    VIR_DOMAIN_BLOCK_COPY_REUSE_EXT=2,
    VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB=4,
    VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT=2,
)


class Guest:
    """A guest with a lazy disk. Its copy is ready after so many looks, or ends before that."""

    def __init__(self, path, *, active=True, ready_after=2, fails=False):
        root = ET.fromstring(XML)
        make_lazy(root.find("devices/disk"), str(path), "fill-0123abcd", 0)
        self.xml = ET.tostring(root, encoding="unicode")
        self.active = active
        self.looks = ready_after
        self.fails = fails
        self.copy = None
        self.calls = []

    def name(self):
        return "db1"

    def isActive(self):  # noqa: N802
        return self.active

    def connect(self):
        return self

    def getCapabilities(self):  # noqa: N802
        return "<capabilities><host/></capabilities>"

    def XMLDesc(self, flags):  # noqa: N802
        return self.xml

    def defineXML(self, xml):  # noqa: N802
        self.xml = xml

    def blockCopy(self, target, xml, parameters, flags):  # noqa: N802
        self.calls.append(("copy", parameters["granularity"], flags))
        self.copy = ET.fromstring(xml)

    def blockJobInfo(self, target, flags):  # noqa: N802
        if self.copy is None:
            return {}
        self.looks -= 1
        if self.fails and self.looks < 0:
            self.copy = None
            return {}
        return {"cur": 5, "end": 5 if self.looks < 0 else 9}

    def blockJobAbort(self, target, flags):  # noqa: N802
        self.calls.append(("abort", flags))
        if flags == 2:
            files = [one.get("file") for one in self.copy.iter("source")]
            forms = ["qcow2", *(one.get("type") for one in self.copy.iter("format"))]
            root = ET.fromstring(self.xml)
            put_on(root.find("devices/disk"), [(path, forms[place]) for place, path in enumerate(files)])
            self.xml = ET.tostring(root, encoding="unicode")
        self.copy = None


@pytest.fixture(autouse=True)
def host(monkeypatch):
    monkeypatch.setattr(virt, "libvirt", LIBVIRT)
    monkeypatch.setattr(layers, "make", lambda path, *rest: Path(path).write_text(str(rest)))


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "db1-vda.kvmops-7.qcow2"
    path.touch()
    return path


def place(guest, own, *, size_bytes=GIB, look=lambda: None):
    kept = []
    disk = LazyDisk("vda", str(own), "fill-0123abcd", 0)
    try:
        Placing(guest, disk, BELOW, size_bytes, kept.append, look, lambda _seconds: None).run(7)
    finally:
        guest.kept = kept
    return kept


def test_what_the_guest_has_written_goes_to_a_new_layer_on_the_image(own):
    guest = Guest(own)
    new = str(own.with_name("db1-vda.kvmops-7a.qcow2"))
    assert place(guest, own) == [new]
    assert guest.calls == [("copy", 2048, 7), ("abort", 2)]
    assert lazy_disks(ET.fromstring(guest.xml)) == []
    assert [one.get("file") for one in ET.fromstring(guest.xml).iter("source")] == [new, *(one.path for one in BELOW)]
    assert Path(new).read_text() == str(("/images/7.qcow2", "qcow2", GIB))


def test_a_very_large_disk_is_copied_in_larger_units(own):
    guest = Guest(own)
    place(guest, own, size_bytes=1024 * GIB)
    assert guest.calls[0] == ("copy", 65536, 7)


def test_a_copy_that_libvirt_does_not_end_yet_is_asked_again(own, monkeypatch):
    guest, refused = Guest(own), []
    real = guest.blockJobAbort

    def abort(target, flags):
        if not refused:
            refused.append(flags)
            raise LibvirtError("disk vda not ready for pivot yet")
        real(target, flags)

    monkeypatch.setattr(guest, "blockJobAbort", abort)
    looks = []
    place(guest, own, look=lambda: looks.append(1))
    assert refused == [2]
    assert len(looks) >= 3
    assert lazy_disks(ET.fromstring(guest.xml)) == []


def test_a_copy_that_a_run_before_has_left_is_ended_first(own):
    guest = Guest(own)
    guest.copy = ET.Element("disk")
    place(guest, own)
    assert guest.calls[0] == ("abort", 0)


def test_a_copy_that_fails_leaves_the_guest_where_it_was(own):
    guest = Guest(own, fails=True)
    with pytest.raises(CapsuleError) as error:
        place(guest, own)
    new = str(own.with_name("db1-vda.kvmops-7a.qcow2"))
    assert error.value.refusal["reason"] == f"what db1 has written to {own} could not be copied to {new}"
    assert [disk.path for disk in lazy_disks(ET.fromstring(guest.xml))] == [str(own)]
    assert not Path(new).exists()
    assert guest.kept == [new]


def test_an_interrupt_ends_the_copy(own):
    guest = Guest(own, ready_after=100)

    def look():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        place(guest, own, look=look)
    assert guest.calls[-1] == ("abort", 0)
    assert not Path(guest.kept[0]).exists()


def test_a_guest_that_is_off_keeps_its_layer(own, monkeypatch):
    ran = []

    def run(words, **_options):
        ran.append(words)
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(placing.subprocess, "run", run)
    guest = Guest(own, active=False)
    assert place(guest, own) == []
    assert ran == [["qemu-img", "rebase", "-u", "-f", "qcow2", "-b", "/images/7.qcow2", "-F", "qcow2", str(own)]]
    assert next(ET.fromstring(guest.xml).iter("source")).get("file") == str(own)
    assert lazy_disks(ET.fromstring(guest.xml)) == []


def test_a_guest_that_somebody_starts_meanwhile_is_left_alone(own, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", 'Failed to get "write" lock')
    monkeypatch.setattr(placing.subprocess, "run", lambda *_all, **_options: failed)
    guest = Guest(own, active=False)
    with pytest.raises(CapsuleError, match="see whether somebody has started db1 meanwhile"):
        place(guest, own)
    assert len(lazy_disks(ET.fromstring(guest.xml))) == 1
