# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find what stops a guest from leaving its host, whatever the destination.

One table (``RULES``): a rule reads the guest's live XML and facts from its host, and yields refusals. libvirt and QEMU
refuse the same, but only after the migration has begun, and in their own words.
"""

from __future__ import annotations

import shlex
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: Image formats whose QEMU driver cannot be handed over.
UNMIGRATABLE_FORMATS = ("qcow", "vdi", "vhdx", "vmdk", "vpc", "parallels")

#: The first libvirt that lets virtiofsd take part in a migration.
LIBVIRT_VIRTIOFS = (10, 0, 0)


class Facts(t.NamedTuple):
    """What the XML does not say. ``swtpm_shared`` is None when it could not be learned."""

    libvirt: tuple[int, ...] | None = None
    snapshots: int = 0
    #: targets of disks that a copy, commit or pull job works on
    block_jobs: t.Sequence[str] = ()
    #: destroyed with the connection of the client that started it
    autodestroy: bool = False
    #: the directory of the TPM's state is on shared storage
    tpm_shared: bool | None = None
    #: this host's swtpm can hand over a state on shared storage
    swtpm_shared: bool | None = None


Refusals = t.Iterator[Refusal]
Rule = t.Callable[[ET.Element, Facts], Refusals]


def blockers(root: ET.Element, facts: Facts) -> list[Refusal]:
    """Every blocker of a running guest, in the order of ``RULES``."""
    return [found for rule in RULES for found in rule(root, facts)]


def _quoted(root: ET.Element) -> str:
    return shlex.quote(root.findtext("name") or "")


def _hypervisor(root: ET.Element, facts: Facts) -> Refusals:
    kind = root.get("type")
    if kind not in ("kvm", "qemu"):
        yield refusal("hypervisor", f"the guest is of type {kind}, not kvm or qemu", "shut it down to move it")


def _host_devices(root: ET.Element, facts: Facts) -> Refusals:
    for element in root.findall("devices/hostdev"):
        if _unplugged_by_libvirt(element):
            continue
        kind = element.get("type") or element.get("mode") or "unknown"
        found = element.find("source")
        if kind == "usb":
            if found is None or found.get("startupPolicy") not in ("optional", "requisite"):
                yield refusal(
                    "usb_hostdev",
                    f"USB device {_usb(found)} of the host is passed through and must be there wherever the guest runs",
                    "detach it, or give its <source> a startupPolicy='optional' so that the guest may run without it",
                )
            continue
        what = {
            "pci": f"PCI device {guest_xml.address(_address(found)) or '?'}",
            "mdev": f"mediated device {_mdev(found)}",
            "scsi": "a SCSI device",
            "scsi_host": "a SCSI host adapter",
        }.get(kind, f"a device ({kind})")
        yield refusal(
            "mdev" if kind == "mdev" else "hostdev",
            f"{what} of the host is passed through",
            f"detach it (virsh detach-device {_quoted(root)} FILE), or shut the guest down",
        )


def _host_interfaces(root: ET.Element, facts: Facts) -> Refusals:
    for element in root.findall("devices/interface"):
        described = guest_xml.interface(element)
        mac = described["mac"] or "?"
        if described["type"] == "hostdev" and not _unplugged_by_libvirt(element):
            yield refusal(
                "hostdev_interface",
                f"network interface {mac} is a device of the host passed through ({described['source'] or 'SR-IOV'})",
                "pair it with a virtio interface (<teaming>), so that libvirt unplugs it for the move, or detach it",
            )
        elif described["type"] == "vdpa":
            yield refusal(
                "vhost_vdpa",
                f"network interface {mac} is a vDPA device of the host ({described['source'] or '?'})",
                f"detach it: virsh detach-interface {_quoted(root)} vdpa --mac {mac}",
            )


def _filesystems(root: ET.Element, facts: Facts) -> Refusals:
    for element in root.findall("devices/filesystem"):
        driver, where = element.find("driver"), element.find("source")
        directory = (where.get("dir") or where.get("socket") if where is not None else None) or "?"
        if driver is not None and driver.get("type") == "virtiofs":
            if facts.libvirt is not None and facts.libvirt < LIBVIRT_VIRTIOFS:
                yield refusal(
                    "virtiofs",
                    f"the host's directory {directory} is shared with the guest by virtiofs, which this libvirt cannot "
                    "move",
                    "unmount it in the guest and detach it, or upgrade libvirt to 10.0 or later with a new virtiofsd",
                )
        else:
            yield refusal(
                "9pfs",
                f"the host's directory {directory} is shared with the guest by 9p, which cannot move",
                "unmount it in the guest and detach it",
            )


def _snapshots(root: ET.Element, facts: Facts) -> Refusals:
    if facts.snapshots:
        name = _quoted(root)
        yield refusal(
            "snapshots",
            f"the guest has {facts.snapshots} {'snapshot' if facts.snapshots == 1 else 'snapshots'}, which libvirt "
            "cannot move",
            f"delete them (virsh snapshot-list {name}; virsh snapshot-delete {name} SNAPSHOT)",
        )


def _disks(root: ET.Element, facts: Facts) -> Refusals:
    for element in root.findall("devices/disk"):
        disk = guest_xml.disk(element)
        target, where = disk["target"], disk["source"]
        if element.find("transient") is not None:
            yield refusal(
                "transient_disk",
                f"disk {target} is transient: what the guest writes to it is thrown away at its end",
                "shut the guest down, or take <transient/> off that disk",
            )
        if disk["type"] == "nvme":
            yield refusal(
                "nvme_disk",
                f"disk {target} is an NVMe device of the host passed through ({where or '?'})",
                "detach it, or shut the guest down",
            )
        if disk["type"] == "vhostvdpa":
            yield refusal(
                "vhost_vdpa", f"disk {target} is a vDPA device of the host ({where or '?'})", "detach it from the guest"
            )
        if disk["type"] == "dir" and not disk["readonly"]:
            yield refusal("vvfat", f"disk {target} is a writable directory of the host ({where})", "detach it")
        if disk["device"] in ("cdrom", "floppy") and disk["type"] == "block" and where:
            yield refusal(
                "host_drive",
                f"disk {target} is the drive of the host itself ({where})",
                f"eject it: virsh change-media {_quoted(root)} {target} --eject",
            )
        yield from _format(disk, element)


def _format(disk: dict[str, t.Any], element: ET.Element) -> Refusals:
    formats = [disk["format"], *(layer.get("type") for layer in element.iter("format"))]
    bad = next((name for name in formats if name in UNMIGRATABLE_FORMATS), None)
    if bad:
        yield refusal(
            "image_format",
            f"disk {disk['target']} ({disk['source'] or '?'}) is a {bad} image, which QEMU cannot migrate",
            "convert it to qcow2 or raw while the guest is off: qemu-img convert -O qcow2",
        )
    target = element.find("target")
    if target is not None and target.get("bus") == "nvme":
        yield refusal(
            "nvme_emulation",
            f"disk {disk['target']} is on an emulated NVMe controller, which QEMU cannot migrate",
            "put it on virtio or SCSI while the guest is off",
        )


def _block_jobs(root: ET.Element, facts: Facts) -> Refusals:
    busy = list(facts.block_jobs)
    for element in root.findall("devices/disk"):
        target = guest_xml.disk(element)["target"]
        if element.find("mirror") is not None and target and target not in busy:
            busy.append(target)
    if busy:
        name = _quoted(root)
        yield refusal(
            "block_job",
            f"a block job (copy, commit, pull or backup) works on {listed(busy)}",
            f"wait for it (virsh blockjob {name} {busy[0]} --info), or abort it (virsh blockjob {name} {busy[0]} "
            "--abort)",
        )


def _autodestroy(root: ET.Element, facts: Facts) -> Refusals:
    if facts.autodestroy:
        yield refusal(
            "autodestroy",
            "the guest ends with the program that started it (autodestroy)",
            "start it without autodestroy",
        )


def _cpu(root: ET.Element, facts: Facts) -> Refusals:
    element = root.find("cpu")
    if element is None:
        return
    wanted = [f for f in element.findall("feature") if f.get("policy", "require") in ("require", "force")]
    timers = [timer for timer in root.findall("clock/timer") if timer.get("name") == "tsc"]
    if any(f.get("name") == "invtsc" for f in wanted) and not any(timer.get("frequency") for timer in timers):
        yield refusal(
            "invtsc",
            "the guest has the CPU feature invtsc, but no TSC frequency is set",
            "set one in <clock> (<timer name='tsc' frequency='…'/>), or take the feature away; both need a restart of "
            "the guest",
        )
    if element.get("migratable") == "off":
        yield refusal(
            "cpu_not_migratable",
            "the guest's CPU is declared not migratable (migratable='off')",
            "take migratable='off' out of its <cpu> and restart it",
        )


def _tpm(root: ET.Element, facts: Facts) -> Refusals:
    for backend in root.findall("devices/tpm/backend"):
        if backend.get("type") == "passthrough":
            device = backend.find("device")
            path = device.get("path") if device is not None else None
            yield refusal(
                "tpm_passthrough",
                f"the TPM of the host ({path or '/dev/tpm0'}) is passed through",
                "give the guest an emulated TPM (type='emulator') instead; needs a restart of the guest",
            )
        elif backend.get("type") == "emulator" and facts.tpm_shared and facts.swtpm_shared is False:
            yield refusal(
                "tpm_shared_state",
                "the state of the guest's TPM is on shared storage, and this host's swtpm cannot migrate it",
                "upgrade swtpm to 0.8 or later and restart the guest, or keep the TPM's state on local storage",
            )


def _shared_memory(root: ET.Element, facts: Facts) -> Refusals:
    for element in root.findall("devices/shmem"):
        model = element.find("model")
        kind = (model.get("type") if model is not None else None) or "ivshmem"
        if kind == "ivshmem" or element.get("role") != "master":
            yield refusal(
                "shmem",
                f"memory {element.get('name')} is shared with others on this host ({kind})",
                f"detach it: virsh detach-device {_quoted(root)} FILE",
            )


class _Simple(t.NamedTuple):
    """A blocker that is told by an element alone: path, attribute and its values (None: any), and the words."""

    path: str
    attribute: str
    values: tuple[str, ...] | None
    code: str
    reason: str
    remedy: str


_SIMPLE: tuple[_Simple, ...] = (
    _Simple(
        "launchSecurity",
        "type",
        None,
        "confidential",
        "the guest's memory is sealed to this host ({value})",
        "shut the guest down to move it",
    ),
    _Simple(
        "devices/video/model/acceleration",
        "accel3d",
        ("yes",),
        "virgl",
        "the guest's display draws with the host's GPU (virgl)",
        "set accel3d='no'; needs a restart of the guest",
    ),
    _Simple(
        "devices/smartcard",
        "mode",
        ("host", "host-certificates"),
        "smartcard",
        "a smart card of the host is passed through",
        "detach it, or use mode='passthrough'",
    ),
    _Simple(
        "devices/serial",
        "type",
        ("dev",),
        "host_serial",
        "a serial port of the host is passed through",
        "detach it, or shut the guest down",
    ),
    _Simple(
        "devices/parallel",
        "type",
        ("dev",),
        "host_parallel",
        "a parallel port of the host is passed through",
        "detach it, or shut the guest down",
    ),
    _Simple(
        "devices/input",
        "type",
        ("passthrough", "evdev"),
        "host_input",
        "an input device of the host is passed through",
        "detach it, or shut the guest down",
    ),
)


def _simple(root: ET.Element, facts: Facts) -> Refusals:
    for rule in _SIMPLE:
        for element in root.findall(rule.path):
            value = element.get(rule.attribute)
            if value is not None and (rule.values is None or value in rule.values):
                yield refusal(rule.code, rule.reason.format(value=value), rule.remedy)
                break


RULES: tuple[Rule, ...] = (
    _hypervisor,
    _host_devices,
    _host_interfaces,
    _filesystems,
    _snapshots,
    _disks,
    _block_jobs,
    _autodestroy,
    _cpu,
    _tpm,
    _shared_memory,
    _simple,
)


def _unplugged_by_libvirt(element: ET.Element) -> bool:
    """libvirt takes the transient half of a team out before the move, and puts one in again afterwards."""
    teaming = element.find("teaming")
    return teaming is not None and teaming.get("type") == "transient"


def _address(found: ET.Element | None) -> ET.Element | None:
    return found.find("address") if found is not None else None


def _mdev(found: ET.Element | None) -> str:
    element = _address(found)
    return (element.get("uuid") if element is not None else None) or "?"


def _usb(found: ET.Element | None) -> str:
    if found is None:
        return "?"
    vendor, product, element = found.find("vendor"), found.find("product"), found.find("address")
    if vendor is not None and product is not None:
        return ":".join((part.get("id") or "?").replace("0x", "") for part in (vendor, product))
    return f"{element.get('bus')}-{element.get('device')}" if element is not None else "?"
