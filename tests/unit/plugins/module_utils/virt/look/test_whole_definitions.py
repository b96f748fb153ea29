# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of a guest, from its definition on h1 to the reasons why it may not go to h2."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import to_copy
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge, appraise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Path, decide
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import connect
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, MIB, working_set

MOUNTINFO = "1 0 0:1 / / rw - ext4 /dev/vda1 rw\n2 1 0:2 / /shared rw - nfs4 nas:/guests rw\n"
COPY = {"encryption": "off", "allow_storage_copy": True}


class Definitions:
    def __init__(self, cluster, tmp_path):
        self._cluster, self._root = cluster, tmp_path
        self.h1, self.h2 = cluster.add_host("h1"), cluster.add_host("h2")
        self.write("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 12582912 kB\nHugepagesize: 2048 kB\n")
        self.write("proc/self/mountinfo", MOUNTINFO)

    def write(self, path, text):
        file = self._root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def add_device(self, name, where):
        """A block device of h1 at this place in sysfs."""
        place = self._root / "sys/devices" / where / "block" / name
        (place / "slaves").mkdir(parents=True)
        links = self._root / "sys/class/block"
        links.mkdir(parents=True, exist_ok=True)
        (links / name).symlink_to(place)

    def seen(self, devices="", top="<memory unit='MiB'>512</memory>"):
        uuid = "00000000-0000-0000-0000-0000000000aa"
        os = "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
        xml = f"<domain type='kvm'><name>db1</name><uuid>{uuid}</uuid>{top}<vcpu>1</vcpu>{os}"
        self.h1.guests.clear()
        self.h1.add_guest("db1", uuid=uuid, xml=f"{xml}<devices>{devices}</devices></domain>")
        found = {}
        for name, one in (("h1", self.h1), ("h2", self.h2)):
            self._cluster.local = one
            with connect("qemu:///system", read_only=True) as local:
                found[name] = host.snapshot(local, name=name, state_dir=self._root, root=self._root)
        return found

    def guest(self, *definition):
        return self.seen(*definition)["h1"]["domains"][0]

    def reasons(self, *definition, **intent):
        """Codes of what keeps the guest from h2; empty if it goes there."""
        seen = self.seen(*definition)
        wanted = intents.normalise({"encryption": "off", **intent})
        found = compatibility.refusals(seen["h1"]["domains"][0], seen["h1"], seen["h2"], wanted)
        return [one["code"] for one in found]


@pytest.fixture
def definitions(cluster, tmp_path):
    return Definitions(cluster, tmp_path)


EMULATED = """
<serial type='pty'><target type='usb-serial' port='0'><model name='usb-serial'/></target></serial>
<sound model='usb'/><sound model='virtio'/>
<crypto model='virtio' type='qemu'><backend model='builtin' queues='1'/></crypto>
<interface type='user'><model type='usb-net'/></interface>
<iommu model='amd'/>
<channel type='qemu-vdagent'><target type='virtio' name='com.redhat.spice.0'/></channel>"""


@pytest.mark.parametrize(
    ("qemu", "codes"),
    [
        (7002000, ["amd_iommu", "crypto", "usb_net", "usb_serial", "usb_sound", "vdagent", "virtio_sound"]),
        # QEMU has since learned to migrate two of them.
        (10001000, ["crypto", "usb_net", "usb_serial", "usb_sound", "virtio_sound"]),
    ],
)
def test_emulated_devices_by_the_version_of_qemu(definitions, qemu, codes):
    definitions.h1.qemu_version = definitions.h2.qemu_version = qemu
    assert sorted(one["code"] for one in definitions.guest(EMULATED)["blockers"]) == codes
    assert sorted(definitions.reasons(EMULATED)) == codes


def test_all_enlightenments_of_the_host(definitions):
    memory = "<memory unit='MiB'>512</memory>"
    assert definitions.reasons("", f"{memory}<features><hyperv mode='passthrough'/></features>") == [
        "hyperv_passthrough"
    ]
    named = "<features><hyperv mode='custom'><vapic state='on'/></hyperv></features>"
    assert definitions.reasons("", memory + named) == []


MIXED = """<memory unit='KiB'>5242880</memory>
<memoryBacking><hugepages><page size='2048' unit='KiB' nodeset='0'/></hugepages></memoryBacking>
<cpu mode='custom'><model>qemu64</model><numa><cell id='0' cpus='0' memory='1048576' unit='KiB'/>
<cell id='1' cpus='1' memory='3145728' unit='KiB'/></numa></cpu>"""
DIMM = """<memory model='dimm'><source><pagesize unit='KiB'>1048576</pagesize></source>
<target><size unit='KiB'>1048576</size></target></memory>"""


def test_memory_of_three_kinds(definitions):
    parts = [(one["bytes"], one["page_bytes"]) for one in definitions.guest(DIMM, MIXED)["memory_parts"]]
    assert parts == [(GIB, 2 * MIB), (3 * GIB, None), (GIB, GIB)]
    assert definitions.reasons(DIMM, MIXED) == ["huge_pages", "huge_pages"]
    sizes = "<pages unit='KiB' size='1048576'>0</pages>"
    definitions.h2.capabilities = definitions.h2.capabilities.replace("<cpus ", f"{sizes}<cpus ")
    definitions.h2.free_pages.update({2048: 512, 1048576: 1})
    assert definitions.reasons(DIMM, MIXED) == []
    definitions.h2.free_pages[2048] = 511
    assert definitions.reasons(DIMM, MIXED) == ["huge_pages"]
    definitions.write("proc/meminfo", "MemTotal: 16777216 kB\nMemAvailable: 524288 kB\n")
    assert definitions.reasons(DIMM, MIXED) == ["memory", "huge_pages"]


def disk(source, kind="file", device="disk", more=""):
    return f"<disk type='{kind}' device='{device}'>{source}<target dev='vda' bus='sata'/>{more}</disk>"


def medium(source, kind="file"):
    return disk(source, kind, "cdrom", "<readonly/>")


def test_a_volume_of_a_san_as_a_medium(definitions):
    definitions.add_device("sdb", "pci0000:00/host4/rport-4:0-1/target4:0:0/4:0:0:0")
    (seen,) = definitions.guest(medium("<source dev='/dev/sdb'/>", "block"))["disks"]
    assert (seen["shared"], seen["shared_why"]) == (True, "Fibre Channel (sdb)")


def test_a_medium_that_may_be_missing(definitions):
    inner = medium("<source file='/var/lib/iso/a.iso' startupPolicy='optional'/>")
    assert definitions.reasons(inner) == []
    assert [one["code"] for one in definitions.guest(inner)["remarks"]] == ["dropped_medium"]
    # Without permission to be missing, h2 needs one of its own.
    assert definitions.guest(medium("<source file='/var/lib/iso/a.iso'/>"))["remarks"] == []


def data(path):
    store = f"<dataStore type='file'><format type='raw'/><source file='{path}'/></dataStore>"
    return f"<source file='/shared/a.qcow2'>{store}</source>"


def chain(*paths, last="<backingStore/>"):
    inner = last
    for path in reversed(paths):
        inner = f"<backingStore type='file'><format type='qcow2'/><source file='{path}'/>{inner}</backingStore>"
    return inner


NBD = "<backingStore type='network'><source protocol='nbd' name='b'><host name='127.0.0.1'/></source></backingStore>"


@pytest.mark.parametrize(
    ("inner", "codes"),
    [
        (disk("<source file='/shared/a.qcow2'/>"), []),
        (disk("<source file='/shared/a.qcow2'/>", more=chain("/shared/b", "/shared/c")), []),
        (disk(data("/shared/a.raw")), []),
        # A layer that only h1 has. The shared image must not be overwritten by a copy.
        (disk(data("/var/lib/local/a.raw")), ["unshared_layer"]),
        (disk("<source file='/shared/a.qcow2'/>", more=chain("/shared/b", "/var/c")), ["unshared_layer"]),
        (disk("<source file='/shared/a.qcow2'/>", more=chain("/shared/b", last=NBD)), ["unshared_layer"]),
        (
            disk("<source protocol='nbd' name='x'><host name='127.0.0.1' port='10809'/></source>", "network"),
            ["local_server"],
        ),
        (disk("<source protocol='nbd' name='x'><host name='nas' port='10809'/></source>", "network"), []),
        # What libvirt cannot make at the destination, or no block job works on.
        (disk("<source type='unix' path='/run/spdk/7.sock'/>", "vhostuser"), ["vhostuser_disk"]),
        (disk("<source dev='/dev/vhost-vdpa-0'/>", "vhostvdpa"), ["vhost_vdpa"]),
        (disk("<source dir='/srv/fat'/>", "dir"), ["vvfat", "disk_not_copied"]),
    ],
)
def test_no_permission_copies_what_cannot_be_copied(definitions, inner, codes):
    assert to_copy(definitions.guest(inner), intents.normalise(COPY)) == []
    assert definitions.reasons(inner, allow_storage_copy=True) == codes
    assert definitions.reasons(inner) == codes


LIMITED = """<memory unit='GiB'>8</memory>
<memtune><hard_limit unit='KiB'>8912896</hard_limit></memtune>
<cputune><global_period>100000</global_period><global_quota>50000</global_quota></cputune>"""
ROOM = GIB // 2


@pytest.mark.parametrize(
    ("shares", "free"),
    [
        ({"sparse": 0.002, "compressed_share": 0.95, "hot_compressed_share": 0.97}, "xbzrle"),
        ({"sparse": 0.9, "compressed_share": 0.2, "hot_compressed_share": 0.2}, "parallel-zstd"),
    ],
)
def test_a_move_keeps_inside_the_limits_of_the_guests_own_group(definitions, shares, free):
    """The guest rewrites 1 GiB in 2 s. Its QEMU may use half a CPU, and half a GiB beside the guest's memory."""
    definitions.write("proc/meminfo", "MemTotal: 268435456 kB\nMemAvailable: 134217728 kB\n")
    intent = intents.normalise({"encryption": "off", "max_downtime_ms": 500})

    def chosen(top):
        seen = definitions.seen("", top)
        guest = seen["h1"]["domains"][0]
        measured = {**working_set(guest, hot_bytes=GIB, fill_s=2), "touched_bytes": 7 * GIB, **shares}
        known = Knowledge(measured, None, None, 118e6)
        choice = appraise(guest, seen["h1"], seen["h2"], intent, known).choice
        path = Path("qemu+ssh://root@h2/system", "10.0.0.2")
        return choice, decide(intent, path, choice, persistent=True).parameters

    choice, _parameters = chosen("<memory unit='GiB'>8</memory>")
    assert choice["method"] == free
    choice, parameters = chosen(LIMITED)
    assert choice["method"] != "parallel-zstd"
    assert parameters.get("compression.xbzrle.cache", 0) < ROOM
    assert "limit of 8.5 GiB" in str(choice) or "quota of 0.5" in str(choice)
