# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Layer
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.rebuild import rebuilt
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule_definition.definitions import (
    PLACE,
    domain,
    here,
    text,
)


def reasons(found) -> list[str]:
    return [one["reason"] for one in found.refusals]


def test_an_ordinary_guest_is_rebuilt_on_our_files_and_nothing_is_said():
    found = here()
    assert (found.refusals, found.notes) == ([], [])
    disk = found.domain.find("devices/disk")
    assert disk.find("source").attrib == {"file": "/images/db1-vda.qcow2"}
    assert disk.find("driver").attrib == {"name": "qemu", "type": "qcow2", "cache": "none"}
    assert disk.find("backingStore/source").get("file") == "/capsules/images/aa.raw"
    assert disk.find("backingStore/format").get("type") == "raw"
    # The chain ends here, whatever the image itself says of a backing file.
    assert list(disk.find("backingStore/backingStore")) == []
    assert disk.find("address").get("bus") == "0x02"


def test_paths_of_the_old_host_are_gone():
    found = text(here())
    assert "/var/lib/libvirt/images" not in found
    assert "/opt/odd/qemu" not in found
    assert "vnet7" not in found


def test_the_given_definition_is_left_as_it_is():
    given = domain(devices="<serial type='file'><source path='/etc/shadow'/></serial>")
    before = ET.tostring(given)
    rebuilt(given, "db1", PLACE)
    assert ET.tostring(given) == before


def test_marks_of_the_operator_come_along():
    assert here().domain.find("metadata/{https://app.example/1}made").text == "/by/somebody"


HOSTILE = [
    (
        {"domain": "<qemu:commandline><qemu:arg value='-netdev'/></qemu:commandline>"},
        "commandline of http://libvirt.org",
    ),
    ({"domain": "<qemu:override/>"}, "which reaches past libvirt"),
    ({"domain": "<launchSecurity type='sev'/>"}, "memory that is encrypted by its host's CPU (sev)"),
    ({"domain": "<bootloader>/usr/bin/pygrub</bootloader>"}, "bootloader, which is not known here"),
    ({"domain": "<idmap><uid start='0' target='0' count='1'/></idmap>"}, "idmap, which is not known here"),
    ({"domain": "<whatever/>"}, "whatever, which is not known here"),
    (
        {"domain": "<sysinfo type='fwcfg'><entry name='opt/x' file='/etc/shadow'/></sysinfo>"},
        "the file /etc/shadow of its old host as an entry of its firmware",
    ),
    ({"domain": "<memtune><x path='/etc/shadow'/></memtune>"}, "/etc/shadow in <x>, a path of its old host"),
    ({"domain": "<perf>/etc/shadow</perf>"}, "/etc/shadow in <perf>, a path of its old host"),
    ({"boot": "<kernel>/etc/shadow</kernel>"}, "the file /etc/shadow of its old host as its kernel"),
    ({"boot": "<initrd>/etc/shadow</initrd>"}, "the file /etc/shadow of its old host as its initial ramdisk"),
    ({"boot": "<loader type='rom'>/root/evil.bin</loader>"}, "the file /root/evil.bin of its old host as its firmware"),
    (
        {"boot": "<loader type='rom'>/usr/share/../../root/evil.bin</loader>"},
        "the file /usr/share/../../root/evil.bin of its old host as its firmware",
    ),
    ({"boot": "<acpi><table type='slic'>/etc/shadow</table></acpi>"}, "acpi for its boot, which is not known here"),
    ({"boot": "<nvram type='network'><source protocol='nbd'/></nvram>"}, "NVRAM that is no file"),
    ({"devices": "<hostdev mode='subsystem' type='pci'/>"}, "a device of its old host (hostdev)"),
    ({"devices": "<filesystem type='mount'><source dir='/'/><target dir='x'/></filesystem>"}, "a folder of its old"),
    ({"devices": "<shmem name='x'/>"}, "memory that it shares with others"),
    ({"devices": "<lease><key>x</key></lease>"}, "a lock of its old host"),
    ({"devices": "<pstore backend='acpi-erst'><path>/etc/x</path></pstore>"}, "a file of its old host (pstore)"),
    ({"devices": "<gadget/>"}, "the device gadget, which is not known here"),
    ({"devices": "<qemu:device/>"}, "which reaches past libvirt"),
    (
        {"devices": "<disk type='block' device='lun'><source dev='/dev/sda'/><target dev='sda'/></disk>"},
        "disk sda as a lun",
    ),
    (
        {"devices": "<disk type='block' device='disk'><source dev='/dev/sda'/><target dev='vdb'/></disk>"},
        "disk vdb, of which the capsule has no content",
    ),
    ({"devices": "<interface type='hostdev'><mac address='52:54:00:00:00:01'/></interface>"}, "of the type hostdev"),
    ({"devices": "<interface type='vhostuser'><source type='unix' path='/x'/></interface>"}, "of the type vhostuser"),
    (
        {"devices": "<interface type='ethernet'><script path='/root/evil.sh'/></interface>"},
        "without an address of the type ethernet",
    ),
    (
        {"devices": "<interface type='bridge'><source bridge='br0'/><script path='/root/evil.sh'/></interface>"},
        "script in the network interface without an address, which runs or reads a file",
    ),
    (
        {"devices": "<interface type='bridge'><source bridge='br0'/><rom file='/etc/shadow'/></interface>"},
        "rom in the network interface",
    ),
    (
        {"devices": "<interface type='bridge'><source bridge='br9'/></interface>"},
        "on the bridge br9, which h3 has not",
    ),
    (
        {"devices": "<interface type='network'><source network='dmz'/></interface>"},
        "on the network of libvirt's dmz, which h3 has not",
    ),
    ({"devices": "<interface type='direct'><source dev='eth7'/></interface>"}, "on the network device eth7, which h3"),
    (
        {"devices": "<tpm model='tpm-tis'><backend type='passthrough'><device path='/dev/tpm0'/></backend></tpm>"},
        "a TPM",
    ),
    (
        {"devices": "<tpm><backend type='emulator'><encryption secret='x'/></backend></tpm>"},
        "a TPM with an encrypted state behind it",
    ),
    (
        {"devices": "<rng model='virtio'><backend model='random'>/etc/shadow</backend></rng>"},
        "random numbers from /etc",
    ),
    ({"devices": "<rng model='virtio'><backend model='egd' type='tcp'/></rng>"}, "random numbers from egd"),
    ({"devices": "<input type='evdev'><source dev='/dev/input/event0'/></input>"}, "an input device of its old host"),
    ({"devices": "<video><driver name='vhostuser'/><model type='virtio'/></video>"}, "a graphics card of vhostuser"),
    ({"devices": "<memory model='nvdimm'><source><path>/etc/x</path></source></memory>"}, "memory of the model nvdimm"),
    ({"devices": "<redirdev bus='usb' type='tcp'/>"}, "a USB device that comes from another machine"),
    ({"devices": "<smartcard mode='host'/>"}, "a smartcard of its old host"),
    ({"devices": "<sound model='ich6'><x file='/etc/shadow'/></sound>"}, "/etc/shadow in <x>, a path of its old host"),
]


@pytest.mark.parametrize(("more", "words"), HOSTILE, ids=[words for dummy, words in HOSTILE])
def test_what_may_not_come_along_is_refused_by_name(more, words):
    found = here(**more)
    assert any(words in reason for reason in reasons(found)), reasons(found)
    assert all(one["remedy"] and one["reason"].startswith("the definition of db1 has ") for one in found.refusals)


DISK = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><target dev='vdb' bus='virtio'/>%s</disk>"


@pytest.mark.parametrize(
    ("child", "words"),
    [
        ("<shareable/>", "disk vdb shared with other guests"),
        ("<encryption format='luks'/>", "disk vdb encrypted by libvirt with a secret"),
        ("<surprise/>", "disk vdb with surprise, which is not known here"),
    ],
)
def test_disks_that_need_more_than_their_content_are_refused(child, words):
    place = PLACE._replace(disks={**PLACE.disks, "vdb": (Layer("/images/b.raw", "raw"),)})
    found = here(place, devices=DISK % child)
    assert any(words in reason for reason in reasons(found))


def test_a_disk_of_the_capsule_that_no_device_uses_is_refused():
    place = PLACE._replace(disks={**PLACE.disks, "vdz": (Layer("/images/z.raw", "raw"),)})
    assert reasons(here(place)) == ["the definition of db1 has no disk vdz, which is in the capsule"]


def test_only_one_layer_has_no_backing_file_whatever_the_image_says():
    found = here(PLACE._replace(disks={"vda": (Layer("/images/a.raw", "raw"),)}))
    disk = found.domain.find("devices/disk")
    assert disk.find("driver").get("type") == "raw"
    assert list(disk.find("backingStore")) == []


def test_a_layer_that_is_read_over_the_network_is_given_as_its_maker_says():
    source = ET.fromstring("<source protocol='nbd' name='x'><host transport='unix' socket='/run/kvmops/x'/></source>")
    layers = (Layer("/images/a.qcow2", "qcow2"), Layer("", "raw", source, "network"))
    found = here(PLACE._replace(disks={"vda": layers}))
    assert found.refusals == []
    store = found.domain.find("devices/disk/backingStore")
    assert store.get("type") == "network"
    assert store.find("source/host").get("socket") == "/run/kvmops/x"


def test_a_cdrom_is_empty_with_a_word_about_it():
    cdrom = (
        "<disk type='file' device='cdrom'><source file='/iso/x.iso'/><target dev='sda' bus='sata'/><readonly/></disk>"
    )
    found = here(devices=cdrom)
    assert found.notes == ["cdrom sda is empty: what was in it is not part of the capsule"]
    assert found.domain.findall("devices/disk")[1].find("source") is None
    kept = here(PLACE._replace(files=("/iso/*",)), devices=cdrom)
    assert kept.domain.findall("devices/disk")[1].find("source").get("file") == "/iso/x.iso"
    assert kept.refusals == kept.notes == []


@pytest.mark.parametrize(
    ("device", "made", "note"),
    [
        ("<serial type='pty'><source path='/dev/pts/3'/><target port='0'/></serial>", "pty", None),
        ("<serial type='file'><source path='/etc/cron.d/x'/></serial>", "pty", "file /etc/cron.d/x"),
        ("<serial type='dev'><source path='/dev/ttyS0'/></serial>", "pty", "dev /dev/ttyS0"),
        ("<serial type='tcp'><source mode='bind' host='0.0.0.0' service='1'/></serial>", "pty", "it was tcp"),
        ("<serial type='unix'><source mode='bind' path='/run/x'/></serial>", "pty", "unix /run/x"),
        ("<serial type='udp'><source host='h' service='1'/></serial>", "pty", "it was udp"),
        ("<parallel type='file'><source path='/etc/x'/></parallel>", "pty", "its parallel is a terminal"),
        (
            (
                "<channel type='unix'><source mode='bind' path='/etc/x'/>"
                "<target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
            ),
            "unix",
            None,
        ),
        ("<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>", "spicevmc", None),
        ("<channel type='file'><source path='/etc/x'/><target type='virtio' name='x'/></channel>", "pty", "/etc/x"),
    ],
)
def test_the_other_end_of_a_serial_port_is_no_file_of_the_host(device, made, note):
    found = here(devices=device)
    last = found.domain.find("devices")[-1]
    assert (last.get("type"), last.find("source")) == (made, None)
    assert found.refusals == []
    assert any(note in one for one in found.notes) if note else found.notes == []


def test_a_log_file_is_left_out_with_a_word_about_it():
    found = here(devices="<serial type='pty'><log file='/etc/x' append='off'/></serial>")
    assert found.notes == ["what its serial prints is not logged: /etc/x is a file of its old host"]
    assert "/etc/x" not in text(found)


def test_files_that_the_operator_permits_are_kept():
    place = PLACE._replace(files=("/boot/guests/*", "/var/log/guests/*.log"))
    found = here(
        place,
        boot="<kernel>/boot/guests/vmlinuz</kernel><cmdline>/init</cmdline>",
        devices="<serial type='file'><source path='/var/log/guests/db1.log'/></serial>",
    )
    assert found.refusals == found.notes == []
    assert found.domain.findtext("os/kernel") == "/boot/guests/vmlinuz"
    assert found.domain.find("devices/serial/source").attrib == {"path": "/var/log/guests/db1.log", "append": "on"}


def test_a_copy_of_a_guest_does_not_write_to_its_log():
    place = PLACE._replace(files=("/var/log/guests/*.log",), shares_files=True)
    found = here(place, devices="<serial type='file'><source path='/var/log/guests/db1.log'/></serial>")
    assert found.domain.find("devices/serial").get("type") == "pty"
    assert "file /var/log/guests/db1.log" in found.notes[0]


def test_a_pattern_does_not_lead_out_of_its_folder():
    found = here(PLACE._replace(files=("/boot/*",)), boot="<kernel>/boot/../etc/shadow</kernel>")
    assert "/boot/../etc/shadow" in reasons(found)[0]


def test_networks_are_called_as_they_are_here():
    found = here(PLACE._replace(has_links=frozenset({"br7"}), networks={"br0": "br7"}))
    assert found.refusals == []
    assert found.domain.find("devices/interface/source").attrib == {"bridge": "br7"}


def test_the_remedy_for_a_missing_bridge_names_what_there_is():
    (one,) = here(PLACE._replace(has_links=frozenset({"br7", "br8"}))).refusals
    assert one["code"] == "network_missing"
    assert one["remedy"] == (
        "make it on h3, or say which one to use there instead: networks: {br0: NAME} (h3 has br7 and br8)"
    )


def test_firmware_that_libvirt_chose_is_chosen_again_here():
    found = here(boot="<firmware><feature enabled='no' name='secure-boot'/></firmware>")
    assert found.refusals == []
    found = rebuilt(
        ET.fromstring(
            ET.tostring(domain(boot="<loader secure='no' type='pflash'>/evil</loader><nvram>/evil</nvram>"))
            .decode()
            .replace("<os>", "<os firmware='efi'>")
        ),
        "db1",
        PLACE,
    )
    assert found.refusals == []
    assert found.domain.find("os/loader").attrib == {"secure": "no"}
    assert not found.domain.find("os/loader").text
    assert found.domain.findtext("os/nvram") == "/nvram/db1_VARS.fd"


def test_nvram_is_refused_where_the_capsule_has_none():
    found = here(PLACE._replace(nvram=None), boot="<nvram template='/evil'>/evil</nvram>")
    assert reasons(found) == ["the definition of db1 has NVRAM, and the capsule has none"]


def test_a_guest_is_not_bound_to_cpus_that_the_host_has_not():
    tuned = (
        "<cputune><shares>9</shares><vcpupin vcpu='0' cpuset='5'/></cputune><numatune><memory nodeset='3'/></numatune>"
    )
    found = here(domain=tuned)
    assert found.notes == ["it is not bound to CPUs and memory as before: h3 has other ones"]
    assert found.domain.findtext("cputune/shares") == "9"
    assert found.domain.find("cputune/vcpupin") is None
    assert found.domain.find("numatune") is None
    assert found.domain.find("vcpu").get("cpuset") == "0-1"
    assert here(PLACE._replace(cpus=frozenset(range(8))), domain=tuned).domain.find("cputune/vcpupin") is not None


def test_a_set_of_cpus_that_nobody_can_read_binds_nothing():
    assert here(domain="<cputune><vcpupin cpuset='0-999999999999'/></cputune>").domain.find("cputune") is None


def test_a_display_listens_where_this_host_wants_it():
    found = here(
        devices="<graphics type='vnc' port='5900' listen='0.0.0.0' passwd='x'><listen type='address'/></graphics>"
    )
    display = found.domain.find("devices/graphics")
    assert display.attrib == {"type": "vnc", "autoport": "yes", "passwd": "x"}
    assert found.notes == ["its vnc display listens where h3 has it by default, and not as before"]


def test_a_fixed_security_label_is_left_out():
    found = here(domain="<seclabel type='none'/>")
    assert found.domain.find("seclabel") is None
    assert found.notes == ["its security label is the one that h3 gives it, and not a fixed one"]


def test_a_vsock_gets_a_number_of_this_host():
    found = here(devices="<vsock model='virtio'><cid auto='no' address='3'/></vsock>")
    assert found.domain.find("devices/vsock/cid").attrib == {"auto": "yes"}


def test_where_nothing_is_known_of_the_host_nothing_is_refused_because_of_it():
    found = here(PLACE._replace(has_links=None, has_networks=None, cpus=None, files=None), boot="<kernel>/k</kernel>")
    assert found.refusals == []


def test_names_that_are_not_trusted_stay_on_one_line():
    (one,) = here(devices="<disk device='x&#10;y'><target dev='vdb'/></disk>").refusals
    assert "disk vdb as a x?y" in one["reason"]
