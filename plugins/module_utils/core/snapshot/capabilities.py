# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Read what a host can do from libvirt's capabilities."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.libvirt_units import amount


class Emulator(t.NamedTuple):
    """One way to run guests: what domain capabilities are asked with."""

    type: str
    arch: str
    emulator: str
    machines: list[str]


def parse(xml: str) -> ET.Element:
    return xml_text.parsed(xml)


def host_uuid(capabilities: ET.Element) -> str | None:
    return capabilities.findtext("host/uuid")


def cpu(capabilities: ET.Element) -> dict[str, t.Any]:
    """The host's CPU: its nearest named model, and the features beyond that model."""
    element = capabilities.find("host/cpu")
    if element is None:
        return {"arch": None, "model": None, "vendor": None, "features": None}
    return {
        "arch": element.findtext("arch"),
        "model": element.findtext("model"),
        "vendor": element.findtext("vendor"),
        "features": sorted(feature.get("name") or "" for feature in element.findall("feature")),
    }


def cells(capabilities: ET.Element) -> list[dict[str, t.Any]]:
    """The NUMA cells, with page sizes; what is free is not known here (null)."""
    result = []
    for element in capabilities.findall("host/topology/cells/cell"):
        cpus = element.find("cpus")
        result.append(
            {
                "id": int(element.get("id", "0")),
                "cpus": int(cpus.get("num", "0")) if cpus is not None else 0,
                "memory_bytes": amount(element.find("memory")),
                "free_bytes": None,
                "pages": [
                    {"size_bytes": _page_size(page), "free": None}
                    for page in element.findall("pages")
                    if _page_size(page)
                ],
            }
        )
    return result


def cpu_numbers(capabilities: ET.Element) -> frozenset[int]:
    """The numbers of the CPUs that are online; empty if they are not told."""
    numbers = (element.get("id") or "" for element in capabilities.iterfind("host/topology/cells/cell/cpus/cpu"))
    return frozenset(int(number) for number in numbers if number.isdecimal())


def security_models(capabilities: ET.Element) -> list[str] | None:
    """The security drivers whose labels guests can have; None if none is told."""
    found = {model.text for model in capabilities.iterfind("host/secmodel/model") if model.text}
    return sorted(found) or None


def transports(capabilities: ET.Element) -> list[str]:
    found = capabilities.findall("host/migration_features/uri_transports/uri_transport")
    return [element.text for element in found if element.text]


def live(capabilities: ET.Element) -> bool:
    return capabilities.find("host/migration_features/live") is not None


def emulators(capabilities: ET.Element) -> list[Emulator]:
    """Every emulator that full virtualisation can use here, hardware-assisted ones first."""
    result: list[Emulator] = []
    for guest in capabilities.findall("guest"):
        if guest.findtext("os_type") != "hvm":
            continue
        for arch in guest.findall("arch"):
            result.extend(_emulator(arch, domain) for domain in arch.findall("domain"))
    return sorted(result, key=lambda kind: (kind.type != "kvm", kind.arch, kind.type))


def usable_models(domain_capabilities: ET.Element) -> list[str]:
    """The named CPU models that a guest can have here, or of which libvirt does not know (C(unknown))."""
    models = domain_capabilities.findall("cpu/mode[@name='custom']/model")
    return [model.text for model in models if model.text and model.get("usable") != "no"]


def _emulator(arch: ET.Element, domain: ET.Element) -> Emulator:
    # What a type says for itself goes before what its architecture says.
    emulator = domain.findtext("emulator") or arch.findtext("emulator") or ""
    machines = domain.findall("machine") or arch.findall("machine")
    names = [machine.text for machine in machines if machine.text]
    return Emulator(domain.get("type", ""), arch.get("name", ""), emulator, list(dict.fromkeys(names)))


def _page_size(page: ET.Element) -> int:
    unit = {"kib": 1024, "b": 1, "bytes": 1, "mib": 1024**2}.get(page.get("unit", "KiB").lower(), 1024)
    return int(page.get("size", "0")) * unit
