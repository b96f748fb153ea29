# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A guest's network interfaces, attached to what this host has."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Findings, shown
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: For each type that may come along: the attribute of its source that names something of the host.
_SOURCES = {"bridge": "bridge", "network": "network", "direct": "dev", "user": None}
#: What of a source is kept beside that name.
_SOURCE_ATTRIBUTES = ("mode", "portgroup")
_KEPT = frozenset(
    [
        "mac",
        "model",
        "boot",
        "address",
        "alias",
        "acpi",
        "link",
        "mtu",
        "bandwidth",
        "vlan",
        "virtualport",
        "filterref",
        "port",
        "coalesce",
        "tune",
        "teaming",
        "ip",
        "route",
    ]
)
#: Names and programs of the old host.
_LEFT_OUT = frozenset(["source", "target", "backend", "guest"])


def rebuilt_interface(interface: ET.Element, findings: Findings) -> ET.Element | None:
    """The interface as it is here; None: it is refused."""
    kind = findings.attributes(interface).get("type", "")
    mac = interface.find("mac")
    name = shown(mac.get("address") if mac is not None else "without an address")
    if kind not in _SOURCES:
        findings.refuse(
            f"the network interface {name} of the type {shown(kind)}, which is tied to its old host",
            "attach it to a bridge or to a network of libvirt's, and save the guest again",
        )
        return None
    result = ET.Element("interface", {"type": kind})
    attribute = _SOURCES[kind]
    if attribute:
        result.append(_source(interface, kind, attribute, name, findings))
    for child in interface:
        if not findings.is_plain(child) or child.tag in _LEFT_OUT:
            continue
        if child.tag in _KEPT or child.tag == "driver" or (child.tag == "rom" and not child.get("file")):
            result.append(findings.kept(child))
        else:
            findings.refuse(
                f"{shown(child.tag)} in the network interface {name}, which runs or reads a file of its old host",
                f"remove <{shown(child.tag)}> from the interface, and save the guest again",
            )
    return result


def _source(interface: ET.Element, kind: str, attribute: str, name: str, findings: Findings) -> ET.Element:
    old = interface.find("source")
    there = "" if old is None else old.get(attribute) or ""
    place = findings.place
    here = place.networks.get(there, there)
    has = place.has_networks if kind == "network" else place.has_links
    what = {"bridge": "bridge", "network": "network of libvirt's", "direct": "network device"}[kind]
    if has is not None and here not in has:
        findings.refuse(
            f"the network interface {name} on the {what} {shown(here) or 'without a name'}, which {place.host} has not",
            f"make it on {place.host}, or say which one to use there instead: networks: {{{shown(there)}: NAME}}"
            f" ({place.host} has {listed(sorted(has)) or 'none'})",
            "network_missing",
        )
    source = ET.Element("source", {attribute: here})
    for other in _SOURCE_ATTRIBUTES:
        if old is not None and old.get(other):
            source.set(other, old.attrib[other])
    return source
