# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest's definition names on its host, from the definition to the last question before the move.

h1 and h3 have what the guest names, h2 does not and has more free memory. The plan sends the guest to h3. Without h3,
it stays with the reason. What h2's libvirtd tells other hosts is asked once more just before the move; then nothing
starts.
"""

from __future__ import annotations

import types
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.drain import drain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import MIB, Rig, rounds

MOUNTINFO = "1 0 0:1 / / rw - ext4 /dev/vda1 rw\n2 1 0:2 / /shared rw - nfs4 nas:/guests rw\n"
SECRET = "11111111-2222-3333-4444-555555555555"
CEPH = (
    "<disk type='network' device='disk'><driver name='qemu' type='raw'/><auth username='libvirt'>"
    f"<secret type='ceph' uuid='{SECRET}'/></auth><source protocol='rbd' name='vms/web1'/><target dev='vdb'/></disk>"
)
LUKS = (
    "<disk type='file' device='disk'><source file='/shared/b.qcow2'><encryption format='luks'>"
    f"<secret type='passphrase' uuid='{SECRET}'/></encryption></source><target dev='vdb'/></disk>"
)
RESERVED = (
    "<disk type='block' device='lun'><source dev='/dev/mapper/mpatha'><reservations managed='yes'/></source>"
    "<target dev='sda' bus='scsi'/><shareable/></disk>"
)


class Site:
    """Three hosts with file trees and network interfaces of their own, and a guest on h1."""

    def __init__(self, cluster, monkeypatch, tmp_path):
        self.tmp_path = tmp_path
        self.rig = Rig(cluster, monkeypatch, tmp_path / "h1")
        self.rig.h3 = cluster.add_host("h3")
        self.hosts = {name: getattr(self.rig, name) for name in ("h1", "h2", "h3")}
        self.interfaces = {name: [{"ifname": "lo"}, {"ifname": "eth0"}] for name in self.hosts}
        self.looking_at = "h1"
        monkeypatch.setattr(host, "_links", lambda: self.interfaces[self.looking_at])
        for name, free in (("h1", 16), ("h2", 15), ("h3", 8)):
            self.write(name, "proc/meminfo", f"MemTotal: 16777216 kB\nMemAvailable: {free << 20} kB\n")
            self.write(name, "proc/self/mountinfo", MOUNTINFO)
            self.write(name, "sys/fs/cgroup/machine.slice/machine-qemu.scope/cgroup.procs")
            self.hosts[name].interfaces = ["lo", "eth0"]

    def write(self, name, path, text="x"):
        file = self.tmp_path / name / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def guest(self, top="", devices="", emulator=None):
        made = self.rig.h1.add_guest("web1", disk="/shared/web1.qcow2")
        root = ET.fromstring(made.xml)
        root.extend(ET.fromstring(f"<x>{top}</x>"))
        root.find("devices").extend(ET.fromstring(f"<x>{devices}</x>"))
        if emulator:
            root.find("devices/emulator").text = emulator
        made.xml = ET.tostring(root, encoding="unicode")
        return made

    def snapshots(self, *names):
        found = {}
        for name in names:
            self.rig.cluster.local, self.looking_at = self.hosts[name], name
            with connection.connect("qemu:///system", read_only=True) as local:
                found[name] = host.snapshot(
                    local, name=name, state_dir=self.tmp_path / name, root=self.tmp_path / name, files=self.files(found)
                )
        self.rig.cluster.local, self.looking_at = self.hosts["h1"], "h1"
        return found

    def files(self, found):
        """What guests of the hosts so far name."""
        named = [one["name"] for seen in found.values() for guest in seen["domains"] for one in guest["requires"]]
        return [*named, *(guest["emulator"] for seen in found.values() for guest in seen["domains"])]

    def plan(self, *names):
        return drain(["h1"], Constraints(self.snapshots(*names), {"encryption": "off"})).placement


@pytest.fixture
def site(cluster, monkeypatch, tmp_path):
    made = Site(cluster, monkeypatch, tmp_path)
    yield made
    made.rig.connections.close()


def give_link(name, **info):
    def give(site, where):
        site.interfaces[where].append({"ifname": name, "linkinfo": info})
        site.hosts[where].interfaces.append(name)

    return give


def give_address(site, where):
    site.interfaces[where].append({"ifname": "eth1", "addr_info": [{"local": "10.0.0.11", "prefixlen": 24}]})


def give_file(path):
    return lambda site, where: site.write(where, path)


def give_name(kind, name):
    return lambda site, where: getattr(site.hosts[where], kind).append(name)


def give_secret(site, where):
    xml = f"<secret><uuid>{SECRET}</uuid><usage type='ceph'><name>client.libvirt secret</name></usage></secret>"
    site.hosts[where].secrets[SECRET] = libvirt.Secret(None, xml)


def give_cells(site, where):
    many = ((8 << 30, 8), (8 << 30, 8))
    site.hosts[where].capabilities = libvirt.capabilities_xml(site.hosts[where].uuid, many)


def give_model(site, where):
    root = ET.fromstring(site.hosts[where].capabilities)
    ET.SubElement(ET.SubElement(root.find("host"), "secmodel"), "model").text = "selinux" if where != "h2" else "dac"
    site.hosts[where].capabilities = ET.tostring(root, encoding="unicode")


def give_partition(site, where):
    site.write(where, "sys/fs/cgroup/machine.slice/machine-gold.slice/x.scope/cgroup.procs")


def interface(kind, source):
    return f"<interface type='{kind}'><mac address='52:54:00:00:00:01'/><source {source}/></interface>"


def kind(name, give, code, reason, *, is_told=True, everywhere=False, **definition):
    """One kind of thing.

    is_told: whether h2's libvirtd tells other hosts of it; everywhere: whether h2 has something of that kind, too.
    """
    found = types.SimpleNamespace(
        give=give, code=code, reason=reason, is_told=is_told, everywhere=everywhere, definition=definition
    )
    return pytest.param(found, id=name)


KINDS = [
    kind(
        "bridge",
        give_link("br-dmz", info_kind="bridge"),
        "no_bridge",
        "h2 has no bridge br-dmz, to which web1 is attached",
        devices=interface("bridge", "bridge='br-dmz'"),
    ),
    kind(
        "network",
        give_name("networks", "dmz"),
        "no_network",
        "h2 has no libvirt network dmz, to which web1 is attached",
        devices=interface("network", "network='dmz' bridge='virbr7'"),
    ),
    kind(
        "network-that-is-a-bridge",
        give_name("networks", "dmz"),
        "no_network",
        "h2 has no libvirt network dmz, to which web1 is attached",
        # So libvirt shows an interface of a network that is a bridge of the host. It moves as one of the network.
        devices=interface("bridge", "network='dmz' portid='7d2b6b4e-0000-4000-8000-000000000001' bridge='br7'"),
    ),
    kind(
        "link-below-macvtap",
        give_link("eno2"),
        "no_link",
        "h2 has no network interface eno2, to which web1 is attached",
        devices=interface("direct", "dev='eno2' mode='bridge'"),
    ),
    kind(
        "address-of-the-display",
        give_address,
        "no_address",
        "the VNC display of web1 listens on 10.0.0.11, which is no address of h2",
        is_told=False,
        devices="<graphics type='vnc' port='5901' autoport='no' listen='10.0.0.11'>"
        "<listen type='address' address='10.0.0.11'/></graphics>",
    ),
    kind(
        "firmware",
        give_file("/usr/share/OVMF/OVMF_CODE.fd"),
        "no_file",
        "h2 has no /usr/share/OVMF/OVMF_CODE.fd, the firmware of web1",
        is_told=False,
        top="<os><loader readonly='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader></os>",
    ),
    kind(
        "kernel",
        give_file("/var/lib/libvirt/boot/vmlinuz"),
        "no_file",
        "h2 has no /var/lib/libvirt/boot/vmlinuz, the kernel of web1",
        is_told=False,
        top="<os><kernel>/var/lib/libvirt/boot/vmlinuz</kernel></os>",
    ),
    kind(
        "emulator",
        lambda site, where: (
            site.write(where, "/usr/libexec/qemu-kvm"),
            site.hosts[where].emulators.append("/usr/libexec/qemu-kvm"),
        ),
        "no_emulator",
        "h2 has no emulator /usr/libexec/qemu-kvm, on which web1 runs (it has /usr/bin/qemu-system-x86_64)",
        emulator="/usr/libexec/qemu-kvm",
    ),
    kind(
        "pins",
        give_cells,
        "no_cpus",
        "web1 is pinned to CPU 12, which h2 does not have (it has 0-3)",
        top="<cputune><vcpupin vcpu='0' cpuset='12'/></cputune>",
    ),
    kind(
        "numa-cell",
        give_cells,
        "no_cells",
        "the memory of web1 is bound to NUMA cell 1, which h2 does not have (it has 0)",
        top="<numatune><memory mode='strict' nodeset='1'/></numatune>",
    ),
    kind(
        "secret-of-ceph",
        give_secret,
        "no_secret",
        f"h2 has no libvirt secret {SECRET}, which web1 needs for its storage",
        devices=CEPH,
    ),
    kind(
        "secret-of-luks",
        give_secret,
        "no_secret",
        f"h2 has no libvirt secret {SECRET}, which web1 needs for its storage",
        devices=LUKS,
    ),
    kind(
        "shared-directory",
        give_file("/srv/exchange/x"),
        "no_file",
        "h2 has no /srv/exchange, the shared directory of web1",
        is_told=False,
        devices="<filesystem type='mount'><source dir='/srv/exchange'/><target dir='x'/></filesystem>",
    ),
    kind(
        "socket-of-a-switch",
        give_file("/run/vhu1"),
        "no_file",
        "h2 has no /run/vhu1, the socket of a device of web1",
        is_told=False,
        devices=interface("vhostuser", "type='unix' path='/run/vhu1' mode='client'"),
    ),
    kind(
        "tap-device",
        give_link("tap-web1"),
        "no_link",
        "h2 has no network interface tap-web1, to which web1 is attached",
        devices="<interface type='ethernet'><target dev='tap-web1' managed='no'/></interface>",
    ),
    kind(
        "security-model",
        give_model,
        "no_security_driver",
        "h2 has no security driver selinux, which labels web1 (it has dac)",
        everywhere=True,
        top="<seclabel type='static' model='selinux' relabel='yes'><label>u:r:t:s0:c1,c2</label></seclabel>",
    ),
    kind(
        "partition",
        give_partition,
        "no_partition",
        "h2 has no resource partition /machine/gold, in which web1 runs",
        is_told=False,
        top="<resource><partition>/machine/gold</partition></resource>",
    ),
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_plan_picks_the_host_that_has_it(site, kind):
    site.guest(**kind.definition)
    for where in ("h1", "h3", *(["h2"] if kind.everywhere else [])):
        kind.give(site, where)
    assert [step["destination"] for step in site.plan("h1", "h2", "h3").steps] == ["h3"]
    alone = site.plan("h1", "h2")
    assert alone.steps == []
    (stays,) = alone.stays
    assert (kind.code, kind.reason) in [(one["code"], one["reason"]) for one in stays["refusals"]]
    assert all(one["remedy"] for one in stays["refusals"])


@pytest.mark.parametrize("kind", [one for one in KINDS if one.values[0].is_told])
def test_the_last_question_before_the_move_finds_it_too(site, kind):
    """A plan of yesterday sends the guest to h2; nothing is begun."""
    guest = site.guest(**kind.definition)
    for where in ("h1", *(["h2"] if kind.everywhere else [])):
        kind.give(site, where)
    result = site.rig.move(guest)
    assert result["outcome"] == "refused"
    assert (kind.code, kind.reason) in [(one["code"], one["reason"]) for one in result["refusals"]]
    assert guest.job is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_host_that_has_it_gets_the_guest(site, kind):
    guest = site.guest(**kind.definition)
    for where in ("h1", "h2"):
        kind.give(site, where)
    if kind.everywhere:
        site.hosts["h2"].capabilities = site.hosts["h1"].capabilities.replace(site.hosts["h1"].uuid, "another")
    site.rig.cluster.on_migrate = lambda job: (rounds(job, 300 * MIB, 3 * MIB), job.complete())
    assert site.rig.move(guest)["outcome"] == "moved"


def test_a_guest_that_names_much_is_refused_for_each_thing(site):
    site.guest(
        "<cputune><vcpupin vcpu='0' cpuset='40'/></cputune><numatune><memory mode='strict' nodeset='3'/></numatune>"
        "<os><kernel>/var/lib/local/vmlinuz</kernel><initrd>/var/lib/local/initrd</initrd></os>",
        interface("bridge", "bridge='br-only-on-h1'")
        + interface("network", "network='net-only-on-h1'")
        + "<graphics type='vnc' port='5900' listen='192.0.2.1'><listen type='address' address='192.0.2.1'/></graphics>",
    )
    (stays,) = site.plan("h1", "h2").stays
    assert sorted(one["code"] for one in stays["refusals"]) == [
        "no_address",
        "no_bridge",
        "no_cells",
        "no_cpus",
        "no_file",
        "no_file",
        "no_network",
    ]


@pytest.mark.parametrize(
    ("top", "devices", "code"),
    [
        ("<features><hyperv mode='passthrough'/></features>", "", "hyperv_passthrough"),
        (
            "",
            RESERVED,
            "scsi_reservations",
        ),
    ],
)
def test_what_qemu_itself_refuses_is_said_in_the_plan_and_before_the_move(site, top, devices, code):
    guest = site.guest(top, devices)
    (stays,) = site.plan("h1", "h2", "h3").stays
    assert code in [one["code"] for one in stays["refusals"]]
    result = site.rig.move(guest)
    assert (result["outcome"], guest.job) == ("refused", None)
    assert code in [one["code"] for one in result["refusals"]]


def test_limits_of_the_guests_own_group_are_in_its_snapshot(site):
    site.guest(
        "<memtune><hard_limit unit='KiB'>786432</hard_limit></memtune>"
        "<cputune><global_period>100000</global_period><global_quota>50000</global_quota></cputune>"
    )
    (guest,) = site.snapshots("h1")["h1"]["domains"]
    assert (guest["limits"]["memory_bytes"], guest["limits"]["cpus"]) == (768 * MIB, 0.5)
