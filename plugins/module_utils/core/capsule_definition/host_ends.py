# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A guest's serial ports and channels, and the other devices whose other end is on a host."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Findings, shown

#: Other ends that name nothing on a host.
_NAMELESS = frozenset(["pty", "null", "vc", "stdio", "spicevmc", "qemu-vdagent", "dbus"])
_KEPT = frozenset(["target", "address", "alias", "acpi", "protocol"])
_RANDOM = ("/dev/urandom", "/dev/random", "/dev/hwrng")


def rebuilt_character(device: ET.Element, findings: Findings) -> ET.Element | None:
    """A serial port, parallel port, console or channel; its other end is a terminal of libvirt's where it was a file.

    None: libvirt makes it again by itself.
    """
    kind = findings.attributes(device).get("type", "pty")
    target = device.find("target")
    target_type = "" if target is None else target.get("type") or ""
    if device.tag == "console" and target_type in ("", "serial"):
        # The same device as the first serial port.
        return None
    result = ET.Element(device.tag)
    result.set("type", _other_end(device, kind, result, findings))
    for child in device:
        if findings.is_plain(child) and child.tag in _KEPT:
            result.append(findings.kept(child))
        elif child.tag == "log":
            findings.note(
                f"what its {device.tag} prints is not logged: {shown(child.get('file'))} is a file of its old host"
            )
        elif child.tag != "source":
            findings.note(f"{shown(str(child.tag))} of its {device.tag} was left out")
    return result


def _other_end(device: ET.Element, kind: str, result: ET.Element, findings: Findings) -> str:
    source = device.find("source")
    named = None if source is None else source.get("path")
    if kind in _NAMELESS:
        if kind == "qemu-vdagent" and source is not None:
            result.append(findings.kept(source))
        return kind
    if kind == "file" and named and findings.place.permits(named) and not findings.place.shares_files:
        findings.files.add(named)
        ET.SubElement(result, "source", {"path": named, "append": "on"})
        return "file"
    if kind == "unix" and device.tag == "channel":
        # libvirt chooses the place of the socket: that of the guest agent, for one.
        return "unix"
    if kind == "spiceport":
        return "spicevmc" if device.tag == "channel" else "pty"
    findings.note(
        f"its {device.tag} is a terminal (virsh console): it was {shown(kind)} {shown(named or '')}".rstrip()
        + ", which belongs to its old host"
    )
    return "pty"


def rebuilt_graphics(device: ET.Element, findings: Findings) -> ET.Element | None:
    """A VNC or SPICE display, at an address and port of this host's choice."""
    kind = findings.attributes(device).get("type", "")
    if kind not in ("vnc", "spice"):
        findings.note(f"its display of the type {shown(kind)} was left out: it is on the screen of its old host")
        return None
    result = ET.Element("graphics", {"type": kind, "autoport": "yes"})
    for name in ("passwd", "passwdValidTo", "keymap", "defaultMode", "sharePolicy", "connected"):
        if device.get(name):
            result.set(name, device.attrib[name])
    for child in device:
        if child.tag in (
            "channel",
            "image",
            "jpeg",
            "zlib",
            "playback",
            "streaming",
            "clipboard",
            "mouse",
            "filetransfer",
        ):
            result.append(findings.kept(child))
    listened = {device.get("listen"), *(one.get("address") for one in device.findall("listen"))} - {None, "127.0.0.1"}
    if listened:
        findings.note(f"its {kind} display listens where {findings.place.host} has it by default, and not as before")
    return result


def rebuilt_tpm(device: ET.Element, findings: Findings) -> ET.Element | None:
    """A TPM that libvirt emulates; its state is a part of the capsule."""
    backend = device.find("backend")
    kind = "" if backend is None else backend.get("type") or ""
    if backend is None or kind != "emulator" or backend.find("encryption") is not None:
        findings.refuse(
            f"a TPM with {'an encrypted state' if kind == 'emulator' else shown(kind) or 'nothing'} behind it,"
            " which does not come along",
            "use a TPM that libvirt emulates, without a secret (<backend type='emulator'/>)",
        )
        return None
    result = ET.Element("tpm", findings.attributes(device))
    for child in device:
        if child.tag != "backend" and findings.is_plain(child):
            result.append(findings.kept(child))
    behind = ET.SubElement(result, "backend", {"type": "emulator"})
    for name in ("version", "persistent_state"):
        if backend.get(name):
            behind.set(name, backend.attrib[name])
    for child in backend:
        if child.tag in ("active_pcr_banks", "profile"):
            behind.append(findings.kept(child))
    return result


def rebuilt_rng(device: ET.Element, findings: Findings) -> ET.Element | None:
    """A source of random numbers."""
    backend = device.find("backend")
    model = "" if backend is None else backend.get("model") or ""
    path = ("" if backend is None else backend.text or "").strip()
    if model == "builtin" or (model == "random" and (not path or path in _RANDOM)):
        if path:
            findings.files.add(path)
        return findings.kept(device)
    findings.refuse(
        f"random numbers from {shown(path) or shown(model)}", "take them from /dev/urandom, and save the guest again"
    )
    return None


def rebuilt_input(device: ET.Element, findings: Findings) -> ET.Element | None:
    """A keyboard, mouse or tablet that is emulated."""
    if device.get("type") in ("mouse", "keyboard", "tablet"):
        return findings.kept(device)
    findings.refuse(
        f"an input device of its old host ({shown(device.get('type'))})", "remove it, and save the guest again"
    )
    return None


def rebuilt_video(device: ET.Element, findings: Findings) -> ET.Element | None:
    """A graphics card that is emulated."""
    driver = device.find("driver")
    if driver is not None and driver.get("name", "qemu") != "qemu":
        findings.refuse(f"a graphics card of {shown(driver.get('name'))}", "use one that QEMU itself emulates")
        return None
    result = findings.kept(device)
    for acceleration in result.iter("acceleration"):
        acceleration.attrib.pop("rendernode", None)
    return result


def rebuilt_audio(device: ET.Element, findings: Findings) -> ET.Element | None:
    """Sound that goes nowhere: its other end was on the old host."""
    if device.get("type") not in ("none", "spice"):
        findings.note(f"its sound goes nowhere: it was {shown(device.get('type'))}, which belongs to its old host")
        return ET.Element("audio", {"id": device.get("id", "1"), "type": "none"})
    return ET.Element("audio", {"id": device.get("id", "1"), "type": device.attrib["type"]})
