# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's libvirt definition. Built as a tree, so that no name can break it."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ET

from lab.common.settings import METADATA_NAMESPACE
from lab.host import rootfs
from lab.layout.addresses import MOST_HOSTS, Networks, guest_mac, guest_seed, guest_uuid
from lab.layout.scenario import GuestPlan
from lab.machine import loop_device
from lab.machine.network import GUEST_BRIDGE, SECOND_BRIDGE

from . import storage_server

# Exists on every QEMU from 7.2 to 11.1, so that guests can move between all releases.
MACHINE = "pc-q35-7.2"


def file_of_disk(guest: GuestPlan) -> str:
    """Return the file that a guest's disk is, inside the hosts."""
    folder = rootfs.SHARED_PLACE if guest.disk_on == "shared" else rootfs.DISK_PLACE
    return f"{folder}/{guest.name}.qcow2"


def console_place(guest: GuestPlan) -> str:
    return f"{rootfs.CONSOLE_PLACE}/{guest.name}.log"


def kernel_arguments(guest: GuestPlan, networks: Networks) -> str:
    """Return the kernel command line; the agent reads the words that begin with lab."""
    words = [
        "console=ttyS0",
        "quiet",
        "panic=-1",
        "init_on_free=1",
        "transparent_hugepage=never",
        f"lab.name={guest.name}",
        f"lab.address={networks.guests.guest(guest.number)}",
        f"lab.seed={guest_seed(guest.name)}",
        f"lab.touched_mib={guest.touched_mib}",
        f"lab.hot_mib={guest.hot_mib}",
        f"lab.pages_per_s={guest.pages_per_s}",
        f"lab.pattern={guest.pattern}",
        f"lab.content={guest.content}",
        f"lab.cold_per_s={guest.cold_pages_per_s}",
    ]
    if guest.phases:
        turns = (f"{phase.seconds}:{phase.hot_mib}:{phase.pages_per_s}" for phase in guest.phases)
        words.append(f"lab.phases={','.join(turns)}")
    if guest.disk_mib:
        words += [
            "lab.disk=/dev/vda",
            f"lab.disk_writes_per_s={guest.disk_writes_per_s:g}",
            f"lab.disk_reads_per_s={guest.disk_reads_per_s:g}",
            f"lab.disk_hot_mib={guest.disk_hot_mib or 0}",
            f"lab.disk_filled={int(guest.disk_filled)}",
        ]
    return " ".join(words)


def _child(parent: ET.Element, tag: str, text: str | None = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def definition(guest: GuestPlan, networks: Networks, *, instance: int, kvm: bool, ssh_key: str = "") -> str:
    """Return the XML that defines a guest on its home host.

    Args:
        ssh_key: the public key that opens a Debian guest.
    """
    ET.register_namespace("kvmops", METADATA_NAMESPACE)
    domain = ET.Element("domain", type="kvm" if kvm else "qemu")
    _child(domain, "name", guest.name)
    _child(domain, "uuid", guest_uuid(instance, guest.name))
    _add_metadata(domain, guest)
    _child(domain, "memory", str(guest.memory_mib), unit="MiB")
    _child(domain, "vcpu", str(guest.vcpus))
    _add_boot(domain, guest, networks, ssh_key)
    _child(_child(domain, "features"), "acpi")
    if not kvm:
        cpu = _child(domain, "cpu", mode="custom", match="exact", check="none")
        _child(cpu, "model", "qemu64", fallback="forbid")
    for event, action in (("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "preserve")):
        _child(domain, event, action)
    _add_devices(domain, guest, networks, instance)
    return ET.tostring(domain, encoding="unicode")


def _add_boot(domain: ET.Element, guest: GuestPlan, networks: Networks, ssh_key: str) -> None:
    """Boot the agent's kernel, which lies on the host, or a Debian from its disk."""
    if guest.system == "debian":
        _add_credentials(domain, guest, networks, ssh_key)
    system = _child(domain, "os", **({"firmware": "efi"} if guest.has_firmware else {}))
    _child(system, "type", "hvm", arch="x86_64", machine=MACHINE)
    if guest.has_firmware:
        _child(_child(system, "firmware"), "feature", enabled="no", name="secure-boot")
        _child(system, "loader", secure="no")
    if guest.system == "debian":
        _child(system, "boot", dev="hd")
        _child(system, "smbios", mode="sysinfo")
    else:
        _child(system, "kernel", f"{rootfs.BOOT_PLACE}/vmlinuz")
        _child(system, "initrd", f"{rootfs.BOOT_PLACE}/initrd.gz")
        _child(system, "cmdline", kernel_arguments(guest, networks))


def _add_credentials(domain: ET.Element, guest: GuestPlan, networks: Networks, ssh_key: str) -> None:
    """What makes a Debian guest differ from others comes as credentials of systemd."""
    sysinfo = _child(_child(domain, "sysinfo", type="smbios"), "oemStrings")
    for name, content in credentials(guest, networks, ssh_key).items():
        encoded = base64.b64encode(content.encode()).decode("ascii")
        _child(sysinfo, "entry", f"io.systemd.credential.binary:{name}={encoded}")


def credentials(guest: GuestPlan, networks: Networks, ssh_key: str) -> dict[str, str]:
    """Return the credentials that a Debian guest reads at boot: its address, who may log in, and the agent's work."""
    address = networks.guests.guest(guest.number)
    return {
        "network.network.50-lab": f"[Match]\nName=en* eth*\n[Network]\nAddress={address}/24\nLinkLocalAddressing=no\n",
        "ssh.authorized_keys.root": ssh_key,
        "lab.agent": kernel_arguments(guest, networks),
    }


def _add_metadata(domain: ET.Element, guest: GuestPlan) -> None:
    marks = {"home": guest.host}
    if guest.group:
        marks["group"] = guest.group
    element = _child(_child(domain, "metadata"), f"{{{METADATA_NAMESPACE}}}guest", **marks)
    if guest.policy:
        intent = {key: _word(value) for key, value in guest.policy.items()}
        _child(element, f"{{{METADATA_NAMESPACE}}}intent", **intent)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _add_disk(devices: ET.Element, guest: GuestPlan, networks: Networks) -> None:
    kind = {"block": "block", "iscsi": "network", "nbd": "network"}.get(guest.disk_on, "file")
    disk = _child(devices, "disk", type=kind, device="disk")
    _child(disk, "driver", name="qemu", type="qcow2" if kind == "file" else "raw", cache="none")
    if kind == "file":
        _child(disk, "source", file=file_of_disk(guest))
    elif kind == "block":
        _child(disk, "source", dev=loop_device.name_of(guest.name))
    else:
        source = _child(disk, "source", protocol=guest.disk_on, name=storage_server.device_name(guest))
        _child(source, "host", name=networks.management.host(MOST_HOSTS), port=str(storage_server.port(guest)))
    _child(disk, "target", dev="vda", bus="virtio")


def _add_cables(devices: ET.Element, guest: GuestPlan, instance: int) -> None:
    kind = guest.attached_to
    cable = _child(devices, "interface", type=kind)
    _child(cable, "source", **{kind: GUEST_BRIDGE if kind == "bridge" else rootfs.LIBVIRT_NETWORK})
    _child(cable, "mac", address=guest_mac(instance, guest.number))
    _child(cable, "model", type="virtio")
    if guest.second_bridge:
        cable = _child(devices, "interface", type="bridge")
        _child(cable, "source", bridge=SECOND_BRIDGE)
        _child(cable, "model", type="virtio")


def _add_devices(domain: ET.Element, guest: GuestPlan, networks: Networks, instance: int) -> None:
    devices = _child(domain, "devices")
    _child(devices, "emulator", "/usr/bin/qemu-system-x86_64")
    if guest.disk_mib or guest.system == "debian":
        _add_disk(devices, guest, networks)
    _add_cables(devices, guest, instance)
    serial = _child(devices, "serial", type="file")
    _child(serial, "source", path=console_place(guest), append="on")
    _child(serial, "target", port="0")
    if guest.has_firmware:
        _child(_child(devices, "tpm", model="tpm-crb"), "backend", type="emulator", version="2.0")
    if guest.system == "debian":
        channel = _child(devices, "channel", type="unix")
        _child(channel, "target", type="virtio", name="org.qemu.guest_agent.0")
        _child(_child(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    # Free pages are reported, so that what a guest no longer uses is not carried along.
    balloon = _child(devices, "memballoon", model="virtio", freePageReporting="on")
    _child(balloon, "stats", period="2")
    # Without these, libvirt adds USB controllers and a sound of its own liking.
    _child(devices, "controller", type="usb", model="none")
