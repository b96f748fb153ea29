# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.requirements import requirements
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.resources import named_files
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.compatibility import destination_refusals
from ansible_collections.kvmops.cluster.tests.unit.builders import disk, domain, resources, snapshot

TIED_TO_ITS_HOST = """
<domain type='kvm'><name>c11</name>
 <vcpu cpuset='40-43'>1</vcpu>
 <cputune><vcpupin vcpu='0' cpuset='40'/></cputune><numatune><memory mode='strict' nodeset='3'/></numatune>
 <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type><kernel>/var/lib/local/vmlinuz</kernel>
  <initrd>/var/lib/local/initrd</initrd></os>
 <devices><interface type='bridge'><source bridge='br-only-on-h1'/></interface>
  <interface type='network'><source network='net-only-on-h1'/></interface>
  <graphics type='vnc' port='5900' listen='192.0.2.1'><listen type='address' address='192.0.2.1'/></graphics></devices>
</domain>"""


def needs(inner, **attributes):
    """What a guest with these elements needs."""
    return requirements(ET.fromstring(f"<domain>{inner}</domain>"))


def judged(requires=(), source=None, destination=None, **guest):
    made = domain("web1", requires=list(requires), **guest)
    found = destination_refusals(
        made,
        source or snapshot("h1", made),
        destination or snapshot("h2", resources=resources()),
        intents.normalise({}),
    )
    return [(one["code"], one["reason"], one["remedy"]) for one in found]


def test_what_a_guest_names_on_its_host():
    assert requirements(ET.fromstring(TIED_TO_ITS_HOST)) == [
        {"kind": "bridge", "name": "br-only-on-h1"},
        {"kind": "network", "name": "net-only-on-h1"},
        {"kind": "file", "name": "/var/lib/local/vmlinuz", "what": "kernel"},
        {"kind": "file", "name": "/var/lib/local/initrd", "what": "initrd"},
        {"kind": "cpus", "name": "40-43"},
        {"kind": "cells", "name": "3"},
        {"kind": "address", "name": "192.0.2.1", "what": "VNC display"},
        {"kind": "port", "name": "5900", "what": "VNC display", "address": "192.0.2.1", "fixed": True},
    ]


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<vcpu>4</vcpu><os><type>hvm</type></os><devices/>", []),
        (
            "<devices><interface type='direct'><source dev='eno2' mode='bridge'/></interface></devices>",
            [{"kind": "link", "name": "eno2"}],
        ),
        (
            # So libvirt shows interfaces of networks that use a bridge, a link or devices of the host.
            (
                "<devices><interface type='bridge'><source network='front' portid='1' bridge='br7'/></interface>"
                "<interface type='direct'><source network='back' dev='eno2' mode='bridge'/></interface>"
                "<interface type='hostdev'><source network='fast'><address type='pci' bus='0x3b'/></source></interface>"
                "</devices>"
            ),
            [
                {"kind": "network", "name": "front"},
                {"kind": "network", "name": "back"},
                {"kind": "network", "name": "fast"},
            ],
        ),
        (
            (
                "<devices><interface type='ethernet'><target dev='tap7' managed='no'/></interface>"
                "<interface type='ethernet'><target dev='tap8'/></interface></devices>"
            ),
            [{"kind": "link", "name": "tap7"}],
        ),
        (
            (
                "<devices><interface type='bridge'><source bridge='br-int'/><virtualport type='openvswitch'/>"
                "<filterref filter='clean-traffic'/></interface></devices>"
            ),
            [
                {"kind": "bridge", "name": "br-int", "what": "Open vSwitch"},
                {"kind": "filter", "name": "clean-traffic"},
            ],
        ),
        (
            "<devices><disk type='volume'><source pool='vms' volume='web1.qcow2'/></disk></devices>",
            [{"kind": "pool", "name": "vms"}],
        ),
        (
            (
                "<devices><disk type='network'><source protocol='rbd' name='a/b'/><auth username='libvirt'>"
                "<secret type='ceph' uuid='11111111-2222-3333-4444-5555555555AA'/></auth></disk>"
                "<disk type='network'><source protocol='rbd' name='a/c'><auth username='u'>"
                "<secret type='ceph' usage='client.libvirt secret'/></auth></source></disk>"
                "<tpm><backend type='emulator'><encryption "
                "secret='99999999-2222-3333-4444-555555555555'/></backend></tpm>"
                "</devices>"
            ),
            [
                {"kind": "secret", "name": "11111111-2222-3333-4444-5555555555aa"},
                {"kind": "secret", "name": "client.libvirt secret"},
                {"kind": "secret", "name": "99999999-2222-3333-4444-555555555555"},
                {"kind": "program", "name": "/usr/bin/swtpm", "what": "emulator of the TPM"},
            ],
        ),
        (
            (
                "<os><loader type='pflash'>/usr/share/OVMF/OVMF_CODE.fd</loader>"
                "<nvram template='/usr/share/OVMF/OVMF_VARS.fd'>/var/lib/libvirt/qemu/nvram/web1_VARS.fd</nvram>"
                "<dtb>/boot/x.dtb</dtb><acpi><table type='slic'>/etc/slic.dat</table></acpi></os>"
                "<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/x.ign'/><entry "
                "name='opt/y'>text</entry></sysinfo>"
            ),
            [
                {"kind": "file", "name": "/usr/share/OVMF/OVMF_CODE.fd", "what": "firmware"},
                {
                    "kind": "file",
                    "name": "/usr/share/OVMF/OVMF_VARS.fd",
                    "what": "template of the firmware's variables",
                },
                {"kind": "file", "name": "/boot/x.dtb", "what": "device tree"},
                {"kind": "file", "name": "/etc/slic.dat", "what": "ACPI table"},
                {"kind": "file", "name": "/etc/x.ign", "what": "fw_cfg file"},
            ],
        ),
        (
            (
                "<devices><rng><backend model='random'>/dev/hwrng</backend></rng>"
                "<rng><backend model='random'>/dev/urandom</backend></rng></devices>"
            ),
            [{"kind": "file", "name": "/dev/hwrng", "what": "source of random numbers"}],
        ),
        (
            (
                "<devices><graphics type='spice' port='5904' tlsPort='5905' autoport='yes' listen='0.0.0.0'>"
                "<listen type='address' address='0.0.0.0'/></graphics></devices>"
            ),
            [
                {"kind": "port", "name": "5904", "what": "SPICE display", "address": "0.0.0.0", "fixed": False},
                {"kind": "port", "name": "5905", "what": "SPICE display", "address": "0.0.0.0", "fixed": False},
            ],
        ),
        (
            (
                "<devices><graphics type='vnc' port='-1' autoport='yes'><listen type='network' network='default' "
                "address='192.0.2.9'/></graphics><graphics type='vnc' socket='/run/x'><listen "
                "type='socket'/></graphics>"
                "<graphics type='egl-headless'/></devices>"
            ),
            [],
        ),
        (
            "<devices><graphics type='vnc' port='-1' autoport='no' websocket='5700'/></devices>",
            [{"kind": "port", "name": "5700", "what": "VNC display", "address": "", "fixed": True}],
        ),
        (
            "<devices><vsock><cid auto='no' address='3'/></vsock></devices>",
            [
                {"kind": "file", "name": "/dev/vhost-vsock", "what": "device for vsock"},
                {"kind": "vsock", "name": "3", "fixed": True},
            ],
        ),
        (
            (
                "<seclabel type='dynamic' model='apparmor'/><seclabel type='none' model='none'/>"
                "<resource><partition>/machine</partition></resource>"
            ),
            [{"kind": "security_model", "name": "apparmor"}],
        ),
        (
            "<resource><partition>/machine/gold</partition></resource>",
            [{"kind": "partition", "name": "/machine/gold"}],
        ),
        (
            (
                "<vcpu cpuset='0-7,^3'>2</vcpu><cputune><emulatorpin cpuset='9'/><iothreadpin iothread='1' "
                "cpuset='11'/>"
                "</cputune><devices><memory model='dimm'><source><nodemask>1</nodemask></source></memory></devices>"
            ),
            [{"kind": "cpus", "name": "0-2,4-7,9,11"}, {"kind": "cells", "name": "1"}],
        ),
        ("<vcpu cpuset='0-99999999999'>1</vcpu><cputune><vcpupin cpuset='nonsense'/></cputune>", []),
    ],
)
def test_each_thing_that_a_definition_can_name(inner, expected):
    assert needs(inner) == expected


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        (
            {"kind": "bridge", "name": "br-dmz"},
            (
                "no_bridge",
                "h2 has no bridge br-dmz, to which web1 is attached",
                (
                    "make it on h2 (ip link add br-dmz type bridge, and in its network configuration), or choose "
                    "another "
                    "host than h2"
                ),
            ),
        ),
        (
            {"kind": "bridge", "name": "eth1"},
            (
                "no_bridge",
                "eth1 is no bridge on h2, and web1 is attached to one of that name",
                (
                    "make it on h2 (ip link add eth1 type bridge, and in its network configuration), or choose another "
                    "host than h2"
                ),
            ),
        ),
        (
            {"kind": "bridge", "name": "br0", "what": "Open vSwitch"},
            (
                "no_bridge",
                "br0 is no Open vSwitch bridge on h2, and web1 is attached to one of that name",
                (
                    "make it on h2 (ovs-vsctl add-br br0, and in its network configuration), or choose another "
                    "host than "
                    "h2"
                ),
            ),
        ),
        (
            {"kind": "network", "name": "dmz"},
            (
                "no_network",
                "h2 has no libvirt network dmz, to which web1 is attached",
                (
                    "define it on h2 (virsh net-dumpxml dmz on h1 shows how, then virsh net-define and virsh "
                    "net-start), "
                    "or choose another host"
                ),
            ),
        ),
        (
            {"kind": "network", "name": "asleep"},
            (
                "network_inactive",
                "the libvirt network asleep of h2 is not active, and web1 needs it",
                "start it on h2: virsh net-start asleep (and virsh net-autostart asleep)",
            ),
        ),
        (
            {"kind": "link", "name": "eno2"},
            (
                "no_link",
                "h2 has no network interface eno2, to which web1 is attached",
                "give an interface of h2 the name eno2, or choose another host",
            ),
        ),
        (
            {"kind": "filter", "name": "clean-traffic"},
            (
                "no_filter",
                "h2 has no network filter clean-traffic, which an interface of web1 has",
                (
                    "define it there (virsh nwfilter-dumpxml clean-traffic on h1, virsh nwfilter-define on h2), "
                    "or choose "
                    "another host"
                ),
            ),
        ),
        (
            {"kind": "pool", "name": "vms"},
            (
                "no_pool",
                "h2 has no storage pool vms, in which web1 has a disk",
                (
                    "define it on h2 (virsh pool-dumpxml vms on h1 shows how, then virsh pool-define and virsh "
                    "pool-start), or choose another host"
                ),
            ),
        ),
        (
            {"kind": "pool", "name": "idle pool"},
            (
                "pool_inactive",
                "the storage pool idle pool of h2 is not active, and web1 needs it",
                "start it on h2: virsh pool-start 'idle pool' (and virsh pool-autostart 'idle pool')",
            ),
        ),
        (
            {"kind": "secret", "name": "11111111-2222-3333-4444-555555555555"},
            (
                "no_secret",
                "h2 has no libvirt secret 11111111-2222-3333-4444-555555555555, which web1 needs for its storage",
                (
                    "define it on h2 with the same UUID (virsh secret-define, virsh secret-set-value), or choose "
                    "another "
                    "host"
                ),
            ),
        ),
        (
            {"kind": "file", "name": "/usr/share/OVMF/OVMF_CODE.fd", "what": "firmware"},
            (
                "no_file",
                "h2 has no /usr/share/OVMF/OVMF_CODE.fd, the firmware of web1",
                "install it on h2 as on h1, or choose another host than h2",
            ),
        ),
        (
            {"kind": "file", "name": "/srv/vmlinuz", "what": "kernel"},
            (
                "no_file",
                "h2 has no /srv/vmlinuz, the kernel of web1",
                "install it on h2 as on h1, or choose another host than h2",
            ),
        ),
        (
            {"kind": "program", "name": "/usr/bin/swtpm", "what": "emulator of the TPM"},
            (
                "no_file",
                "h2 has no /usr/bin/swtpm, the emulator of the TPM of web1",
                "install it on h2 as on h1, or choose another host than h2",
            ),
        ),
        (
            {"kind": "file", "name": "/dev/vhost-vsock", "what": "device for vsock"},
            (
                "no_device",
                "h2 has no /dev/vhost-vsock, the device for vsock of web1",
                "attach it to h2 under that name (modprobe vhost_vsock), or choose another host than h2",
            ),
        ),
        (
            {"kind": "cpus", "name": "2,12,40-43"},
            (
                "no_cpus",
                "web1 is pinned to CPU 40-43, which h2 does not have (it has 0-15)",
                "change its pins (virsh vcpupin web1 --live, virsh emulatorpin), or choose a host with these CPUs",
            ),
        ),
        (
            {"kind": "cells", "name": "0-1"},
            (
                "no_cells",
                "the memory of web1 is bound to NUMA cell 1, which h2 does not have (it has 0)",
                "take the binding out (virsh edit web1: numatune; then restart it), or choose a host with that cell",
            ),
        ),
        (
            {"kind": "address", "name": "10.0.0.11", "what": "VNC display"},
            (
                "no_address",
                "the VNC display of web1 listens on 10.0.0.11, which is no address of h2",
                (
                    "let it listen on 0.0.0.0 or on the address of a network (virsh edit web1, then restart it), "
                    "or give "
                    "h2 that address"
                ),
            ),
        ),
        (
            {"kind": "security_model", "name": "selinux"},
            (
                "no_security_driver",
                "h2 has no security driver selinux, which labels web1 (it has apparmor and dac)",
                (
                    "set security_driver in /etc/libvirt/qemu.conf on h2 and restart its libvirtd (virtqemud), "
                    "or choose "
                    "another host"
                ),
            ),
        ),
        (
            {"kind": "partition", "name": "/machine/gold"},
            (
                "no_partition",
                "h2 has no resource partition /machine/gold, in which web1 runs",
                (
                    "make it on h2, with its limits (under systemd: /etc/systemd/system/machine-gold.slice), or choose "
                    "another host"
                ),
            ),
        ),
    ],
)
def test_what_a_destination_lacks(requirement, expected):
    assert judged([requirement]) == [expected]
    # A host that does not tell is not refused: an old snapshot, and one without an answer.
    silent = dict.fromkeys(resources(), None)
    assert requirement["kind"] == "cells" or judged([requirement], destination=snapshot("h2")) == []
    assert requirement["kind"] == "cells" or judged([requirement], destination=snapshot("h2", resources=silent)) == []


@pytest.mark.parametrize(
    "requirement",
    [
        {"kind": "bridge", "name": "br0"},
        {"kind": "bridge", "name": "br-int", "what": "Open vSwitch"},
        {"kind": "network", "name": "default"},
        {"kind": "link", "name": "eth1"},
        {"kind": "pool", "name": "images"},
        {"kind": "secret", "name": "client.admin secret"},
        {"kind": "file", "name": "/usr/share/OVMF/OVMF_CODE_4M.fd", "what": "firmware"},
        {"kind": "file", "name": "/etc/never/asked/about", "what": "kernel"},
        {"kind": "cpus", "name": "0-15"},
        {"kind": "cells", "name": "0"},
        {"kind": "address", "name": "198.18.0.12", "what": "VNC display"},
        {"kind": "address", "name": "vnc.example.org", "what": "VNC display"},
        {"kind": "security_model", "name": "apparmor"},
        {"kind": "partition", "name": "/machine/silver"},
        {"kind": "of a later release", "name": "x"},
    ],
)
def test_what_a_destination_has(requirement):
    assert judged([requirement]) == []


def test_a_bridge_that_libvirt_tells_only_as_a_device():
    told = resources(links=["lo", "br_dmz"], bridges=None, switches=None)
    assert judged([{"kind": "bridge", "name": "br-dmz"}], destination=snapshot("h2", resources=told)) == []


@pytest.mark.parametrize(
    "requirement", [{"kind": "security_model", "name": "selinux"}, {"kind": "partition", "name": "/machine/gold"}]
)
def test_what_the_guests_own_host_does_not_tell_of_is_not_looked_for(requirement):
    assert judged([requirement]) != []
    assert judged([requirement], source=snapshot("h1", resources=resources())) == []


def test_a_program_that_the_source_has_elsewhere_itself():
    source = snapshot("h1", resources=resources(files={"/usr/bin/swtpm": False}))
    assert judged([{"kind": "program", "name": "/usr/bin/swtpm", "what": "emulator of the TPM"}], source=source) == []


def test_a_file_on_a_share_is_there_if_the_share_is():
    kernel = [{"kind": "file", "name": "/shared/boot/vmlinuz", "what": "kernel"}]
    has_it, has_not = snapshot("h2", resources=resources()), snapshot("h2", mounts=[], resources=resources())
    assert judged(kernel, destination=has_it, disks=[]) == []
    assert judged(kernel, destination=has_not, disks=[]) == [
        (
            "no_file",
            "the kernel of web1 (/shared/boot/vmlinuz) is on nas:/guests, which h2 has not mounted at /shared",
            "mount nas:/guests at /shared on h2",
        )
    ]
    # Nobody is asked to look for it.
    seen = {"h1": snapshot("h1", domain("web1", requires=kernel)), "h2": has_it}
    assert named_files(seen).unasked == []


def emulator(path):
    return [{"type": "kvm", "arch": "x86_64", "emulator": path, "machines": ["pc-q35-7.2"], "cpu_models_usable": None}]


def test_an_emulator_that_is_elsewhere_at_the_destination():
    there = snapshot("h2", emulators=emulator("/usr/bin/qemu-system-x86_64"))
    assert judged(destination=there, emulator="/usr/libexec/qemu-kvm") == [
        (
            "no_emulator",
            "h2 has no emulator /usr/libexec/qemu-kvm, on which web1 runs (it has /usr/bin/qemu-system-x86_64)",
            (
                "make it there (on h2: ln -s /usr/bin/qemu-system-x86_64 /usr/libexec/qemu-kvm), or choose "
                "another host "
                "than h2"
            ),
        )
    ]
    for answer in (True, None):
        there["resources"] = resources(files={"/usr/libexec/qemu-kvm": answer})
        assert judged(destination=there, emulator="/usr/libexec/qemu-kvm") == []


def test_more_virtual_cpus_than_the_destination_has_cpus():
    small = snapshot("h2")
    small["capacity"]["cpus"] = 4
    assert judged(destination=small, vcpus=32) == [
        (
            "too_few_cpus",
            "web1 has 32 virtual CPUs, but h2 has only 4 CPUs",
            "choose a host with 32 CPUs or more, or take some away (virsh setvcpus web1 4 --live)",
        )
    ]
    assert judged(destination=small, vcpus=4) == []
    # No worse than where it runs now.
    assert judged(destination=small, source=small | {"host": "h1", "host_uuid": "x"}, vcpus=32) == []
    small["capacity"]["cpus"] = None
    assert judged(destination=small, vcpus=32) == []


def port(number, *, fixed=True, address="0.0.0.0"):
    return {"kind": "port", "name": number, "what": "VNC display", "address": address, "fixed": fixed}


@pytest.mark.parametrize("theirs", [port("5901"), port("5901", fixed=False), port("5901", address="10.0.0.1")])
def test_a_fixed_port_that_a_guest_of_the_destination_has(theirs):
    there = snapshot("h2", domain("web2", requires=[theirs]), domain("off", state="shutoff", requires=[port("5901")]))
    assert judged([port("5901")], destination=there) == [
        (
            "port_taken",
            "the VNC display of web1 has the fixed port 5901, which web2 has on h2",
            (
                "give one of the two another port (virsh edit: autoport='yes'; then restart it), or choose "
                "another host "
                "than h2"
            ),
        )
    ]
    assert judged([port("5901", fixed=False)], destination=there) == []
    assert judged([port("5902")], destination=there) == []


def test_a_fixed_cid_that_a_guest_of_the_destination_has():
    there = snapshot("h2", domain("web2", requires=[{"kind": "vsock", "name": "3", "fixed": False}]))
    assert judged([{"kind": "vsock", "name": "3", "fixed": True}], destination=there) == [
        (
            "vsock_taken",
            "web1 has the fixed vsock CID 3, which web2 has on h2",
            (
                "give one of the two another CID (virsh edit: cid auto='yes'; then restart it), or choose another host "
                "than h2"
            ),
        )
    ]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"interfaces": [{"type": "bridge", "source": "br-dmz", "mac": None}]}, "no_bridge"),
        ({"interfaces": [{"type": "network", "source": "dmz", "mac": None}]}, "no_network"),
        ({"interfaces": [{"type": "direct", "source": "eno2", "mac": None}]}, "no_link"),
        ({"disks": [{"target": "vda", "type": "volume", "source": "vms/a", "shared": True}]}, "no_pool"),
    ],
)
def test_a_guest_of_an_older_snapshot_tells_what_it_is_attached_to(changes, code):
    guest = domain("web1", **changes)
    there = snapshot("h2", resources=resources())
    found = destination_refusals(guest, snapshot("h1", guest), there, intents.normalise({}))
    assert [one["code"] for one in found] == [code]


def test_a_medium_in_a_storage_pool():
    """Each host has a pool of that name on its own storage."""
    medium = disk("sda", type="volume", source="iso/a.iso", readonly=True, shared=False, shared_why="ext4")

    def there(**pool):
        named = {"name": "iso", "volumes": ["b.iso"], **pool}
        return snapshot("h2", resources=resources(pools={"iso": True}), storage_pools=[named])

    requires = [{"kind": "pool", "name": "iso"}]
    assert judged(requires, destination=there(volumes=["a.iso", "b.iso"]), disks=[medium]) == []
    assert judged(requires, destination=there(), disks=[medium]) == [
        (
            "no_volume",
            "storage pool iso of h2 has no volume a.iso, the medium in sda of web1",
            (
                "copy it there (virsh vol-download on h1, virsh vol-upload on h2), or take it out (virsh change-media "
                "web1 sda --eject)"
            ),
        )
    ]
    # What is not known refuses nothing.
    assert judged(requires, destination=there(volumes=None), disks=[medium]) == []
    assert judged(requires, destination=snapshot("h2"), disks=[medium]) == []
    assert judged(requires, destination=there(), disks=[{**medium, "startup_policy": "optional"}]) == []
    assert [code for code, *_rest in judged(requires, destination=there(), disks=[{**medium, "readonly": False}])] == [
        "unshared_disk"
    ]


def test_a_lun_that_the_destination_does_not_see():
    lun = {"target": "vda", "type": "block", "source": "/dev/mapper/mpatha", "shared": True, "shared_why": "iSCSI"}
    there = snapshot("h2", resources=resources(files={"/dev/mapper/mpatha": False}))
    assert judged(destination=there, disks=[lun]) == [
        (
            "no_device",
            "h2 has no /dev/mapper/mpatha, the device of disk vda of web1",
            "attach it to h2 under that name, or choose another host than h2",
        )
    ]


def test_a_lun_that_the_destination_has_mounted_itself():
    lun = {"target": "vda", "type": "block", "source": "/dev/mapper/mpatha", "shared": True, "shared_why": "iSCSI"}
    there = snapshot(
        "h2", resources=resources(files={"/dev/mapper/mpatha": True}, mounted={"/dev/mapper/mpatha": "/a b"})
    )
    assert judged(destination=there, disks=[lun]) == [
        (
            "device_mounted_there",
            "h2 has mounted /dev/mapper/mpatha at /a b, the device of disk vda of web1: both would write to it",
            "unmount it on h2 (umount '/a b'), or choose another host",
        )
    ]
    # What several hosts mount on purpose, and what is only read.
    for harmless in ({"shareable": True}, {"readonly": True}):
        assert judged(destination=there, disks=[{**lun, **harmless}]) == []
