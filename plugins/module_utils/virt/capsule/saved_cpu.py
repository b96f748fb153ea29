# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the CPU with which the memory of a guest was saved, and whether a host has it. Memory goes
# on with the features that it knows; what boots anew takes what it finds.

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import cpu_check

#: The CPU of a definition with all its features has some ten KiB.
MOST_BYTES = 256 * 1024


def described(running: ET.Element) -> dict[str, t.Any]:
    """The CPU in a definition with which memory was saved.

    Returns:
        C(type), C(arch) and C(machine) of the guest, C(mode) of its CPU, and C(xml) of that (empty: it names none).
    """
    kind, cpu = running.find("os/type"), running.find("cpu")
    xml = "" if cpu is None else ET.tostring(cpu, encoding="unicode")
    return {
        "type": running.get("type", ""),
        "arch": "" if kind is None else kind.get("arch", ""),
        "machine": "" if kind is None else kind.get("machine", ""),
        "mode": "" if cpu is None else cpu.get("mode", "custom"),
        "xml": xml if len(xml) <= MOST_BYTES else "",
    }


def cpu_refusal(connection: t.Any, cpu: t.Mapping[str, t.Any], guest: str, host: str) -> Refusal | None:
    """Why memory that was saved with a CPU cannot go on here, or None: it can, or that cannot be asked.

    Args:
        connection: to this host's libvirtd; libvirt answers over a writable one only.
        cpu: see L(described). It is not trusted.
        guest: its name.
        host: name of this host.
    """
    texts = {key: str(cpu.get(key) or "") for key in ("type", "arch", "machine", "mode", "xml")}
    try:
        texts["xml"] and xml_text.parsed(texts["xml"])
    except xml_text.XmlTextError:
        return None
    asked = {**texts, "name": guest, "cpu": {"xml": texts["xml"], "mode": texts["mode"]}}
    for found in cpu_check.refusals(connection, asked, host):
        return refusal(
            found["code"],
            f"the memory of {guest} was saved with a CPU that {host} does not have:"
            f" {found['reason'].partition(': ')[2]}",
            f"choose a host with that CPU, or save {guest} without its memory (consistency: frozen); for the next time,"
            " restart it with a CPU model that all hosts can be (virsh hypervisor-cpu-baseline)",
        )
    return None
