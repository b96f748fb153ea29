# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What makes a guest that is started from a capsule another guest: name, UUID, MAC addresses, genid, machine ID.

Outside of the guest, that is its definition. Inside, its machine ID and ssh host keys are on its disk. systemd of the
guest replaces them at its first boot: the definition hands it a unit, as credentials in the firmware's tables. The
unit does nothing once the machine ID is the new one. systemd knows such units since version 256.
"""

from __future__ import annotations

import base64
import hashlib
import typing as t
import uuid as uuids
import xml.etree.ElementTree as ET

_UNIT = "kvmops-new-identity.service"
_CREDENTIAL = "io.systemd.credential.binary:"
#: A dollar sign is doubled for systemd. The machine restarts only if the new ID is really in the file.
_SCRIPT = (
    'echo {id} > /etc/machine-id && [ "$$(cat /etc/machine-id)" = {id} ] || exit 1; '
    "cd /var/lib/dbus 2>/dev/null && [ -f machine-id ] && [ ! -L machine-id ] && cp /etc/machine-id machine-id; "
    "rm -f /var/lib/systemd/random-seed; "
    "if command -v ssh-keygen >/dev/null; then rm -f /etc/ssh/ssh_host_*; ssh-keygen -A; fi; "
    "sync; systemctl --no-block reboot"
)
_UNIT_TEXT = """[Unit]
Description=Give this copy of a machine an identity of its own
DefaultDependencies=no
ConditionHost=!{id}
After=local-fs.target systemd-remount-fs.service
Before=sysinit.target shutdown.target
Conflicts=shutdown.target
[Service]
Type=oneshot
ExecStart=/bin/sh -c '{script}'
"""


class Identity(t.NamedTuple):
    """Who a guest is.

    Attributes:
        name, uuid: as libvirt knows it. The machine ID is the UUID without dashes.
    """

    name: str
    uuid: str

    @property
    def machine_id(self) -> str:
        """As systemd of the guest has it."""
        return uuids.UUID(self.uuid).hex

    def mac(self, number: int) -> str:
        """The address of the network interface with this number.

        >>> Identity("a", "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10").mac(0)
        '52:54:00:ef:32:90'
        """
        digest = hashlib.sha256(f"{self.uuid}/{number}".encode()).digest()
        return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def renamed(domain: ET.Element, identity: Identity) -> None:
    """Make a rebuilt definition that of another guest, in place."""
    for tag, text in (("name", identity.name), ("uuid", identity.uuid)):
        element = domain.find(tag)
        if element is None:
            element = ET.Element(tag)
            domain.insert(0, element)
        element.text = text
    _renew_genid(domain, identity)
    for number, interface in enumerate(domain.findall("devices/interface")):
        mac = interface.find("mac")
        if mac is None:
            mac = ET.SubElement(interface, "mac")
        mac.attrib.clear()
        mac.set("address", identity.mac(number))
    _hand_over_unit(domain, identity)


def _renew_genid(domain: ET.Element, identity: Identity) -> None:
    """The guest's kernel draws new random numbers when this changes."""
    element = domain.find("genid")
    kind = domain.find("os/type")
    if element is None:
        if kind is None or kind.get("arch") != "x86_64":
            return
        element = ET.Element("genid")
        domain.insert(2, element)
    element.text = str(uuids.uuid5(uuids.UUID(identity.uuid), "genid"))


def _hand_over_unit(domain: ET.Element, identity: Identity) -> None:
    kernel_arguments = domain.find("os/cmdline")
    if kernel_arguments is not None:
        # A kernel that the host boots takes the ID from here, and systemd writes it down.
        words = [
            word for word in (kernel_arguments.text or "").split(" ") if not word.startswith("systemd.machine_id=")
        ]
        kernel_arguments.text = " ".join([*words, f"systemd.machine_id={identity.machine_id}"])
    system = domain.find("os")
    kind = domain.find("os/type")
    if system is None or kind is None or kind.get("arch") != "x86_64":
        return
    smbios = system.find("smbios")
    if smbios is None:
        smbios = ET.SubElement(system, "smbios")
    elif smbios.get("mode") != "sysinfo":
        # It shows the guest the tables of its host. Two sets of them cannot be had.
        return
    smbios.set("mode", "sysinfo")
    _set_product_uuid(domain, identity)
    strings = _oem_strings(domain)
    for name, content in credentials(identity).items():
        encoded = base64.b64encode(content.encode()).decode("ascii")
        ET.SubElement(strings, "entry").text = f"{_CREDENTIAL}{name}={encoded}"


def credentials(identity: Identity) -> dict[str, str]:
    """What systemd of the guest is handed, by the name of the credential."""
    script = _SCRIPT.format(id=identity.machine_id)
    return {
        f"systemd.extra-unit.{_UNIT}": _UNIT_TEXT.format(id=identity.machine_id, script=script),
        "systemd.unit-dropin.sysinit.target~kvmops": f"[Unit]\nWants={_UNIT}\n",
    }


def _set_product_uuid(domain: ET.Element, identity: Identity) -> None:
    """libvirt demands that the tables have the guest's UUID where they have one."""
    for entry in domain.findall("sysinfo[@type='smbios']/system/entry[@name='uuid']"):
        entry.text = identity.uuid


def _oem_strings(domain: ET.Element) -> ET.Element:
    sysinfo = domain.find("sysinfo[@type='smbios']")
    if sysinfo is None:
        sysinfo = ET.SubElement(domain, "sysinfo", type="smbios")
    strings = sysinfo.find("oemStrings")
    if strings is None:
        return ET.SubElement(sysinfo, "oemStrings")
    for entry in strings.findall("entry"):
        # Of an earlier start as another guest.
        if (entry.text or "").startswith(tuple(f"{_CREDENTIAL}{name}" for name in _NAMES)):
            strings.remove(entry)
    return strings


_NAMES = (f"systemd.extra-unit.{_UNIT}=", "systemd.unit-dropin.sysinit.target~kvmops=")
