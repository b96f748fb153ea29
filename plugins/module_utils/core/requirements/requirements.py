# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find what a guest names on its host and needs at its destination: bridges, networks, files, CPUs, addresses."""

from __future__ import annotations

import ipaddress
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import named_paths, number_sets
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import whole_number

#: libvirt makes this partition itself.
USUAL_PARTITION = "/machine"
#: Security models that need no driver.
_NO_DRIVER = frozenset(("", "none"))

#: For each type of interface: what its source is, and the attribute that names it.
_INTERFACES = {"bridge": ("bridge", "bridge"), "network": ("network", "network"), "direct": ("link", "dev")}


class Requirement(t.TypedDict, total=False):
    """One thing that must be there at the destination.

    ``kind`` and ``name`` say what; ``what`` is a word for the operator, such as ``firmware``. ``fixed`` is false for a
    port or a CID that libvirt chose and would choose anew. ``alone`` is true for a device that nobody else may
    write to.
    """

    kind: str
    name: str
    what: str
    address: str
    fixed: bool
    alone: bool


def requirements(root: ET.Element) -> list[Requirement]:
    """What this guest's live XML names on its host, each once."""
    found = [
        *_interfaces(root),
        *_pools(root),
        *_secrets(root),
        *_paths(root),
        *_placement(root),
        *_displays(root),
        *_vsock(root),
        *_confinement(root),
    ]
    return list({repr(one): one for one in found}.values())


def requirements_of(domain: Domain) -> list[Requirement]:
    """What a guest of a snapshot needs, with what a snapshot without the key ``requires`` says elsewhere."""
    stated: list[Requirement] = list(domain.get("requires") or ())
    found: list[Requirement] = []
    if domain.get("emulator"):
        found.append({"kind": "emulator", "name": domain["emulator"]})
    for disk in domain.get("disks") or ():
        source = disk.get("source")
        if disk.get("type") == "block" and source and disk.get("shared") and not disk.get("startup_policy"):
            device: Requirement = {"kind": "file", "name": source, "what": f"device of disk {disk.get('target')}"}
            alone = not disk.get("readonly") and not disk.get("shareable")
            found.append({**device, "alone": True} if alone else device)
        elif is_local_medium(disk):
            kind = "volume" if disk.get("type") == "volume" else "file"
            found.append({"kind": kind, "name": str(source), "what": f"medium in {disk.get('target')}"})
        found.extend(_devices_below(disk))
        if disk.get("type") == "volume" and source and "requires" not in domain:
            found.append({"kind": "pool", "name": str(source).partition("/")[0]})
    if "requires" not in domain:
        for interface in domain.get("interfaces") or ():
            kind, _attribute = _INTERFACES.get(str(interface.get("type")), ("", ""))
            if kind and interface.get("source"):
                found.append({"kind": kind, "name": interface["source"]})
    return [*stated, *found]


def _devices_below(disk: t.Mapping[str, t.Any]) -> t.Iterator[Requirement]:
    """Block devices that a shared image rests on."""
    for layer in disk.get("layers") or ():
        if disk.get("shared") and layer.get("type") == "block":
            yield {"kind": "file", "name": layer["source"], "what": f"device below disk {disk.get('target')}"}


def is_local_medium(disk: t.Mapping[str, t.Any]) -> bool:
    """Whether a disk is only read and is on local storage, so that the destination needs a copy under the same name.

    libvirt takes a missing medium with a ``startup_policy`` out of its drive.
    """
    return (
        bool(disk.get("source"))
        and (disk.get("type") or "file") in ("file", "block", "volume")
        and disk.get("shared") is False
        and bool(disk.get("readonly"))
        and not disk.get("startup_policy")
        and not disk.get("uncopyable")
    )


def is_floating(requirement: Requirement) -> bool:
    """Whether it is about other guests: a port of a display or a CID, which two guests of a host cannot both have."""
    return requirement["kind"] in ("port", "vsock")


def is_everywhere(address: str) -> bool:
    """Whether every host has this address: that of no host, or one that leads to itself.

    >>> is_everywhere("::"), is_everywhere("127.0.0.1"), is_everywhere("192.0.2.1")
    (True, True, False)
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address in ("", "localhost")
    return parsed.is_unspecified or parsed.is_loopback


def _interfaces(root: ET.Element) -> t.Iterator[Requirement]:
    for element in root.findall("devices/interface"):
        source = element.find("source")
        if source is not None and source.get("network"):
            # libvirt shows what a network is made of here, such as a bridge. The guest moves as one of the network.
            kind, name = "network", source.get("network")
        elif element.get("type") == "ethernet":
            target = element.find("target[@managed='no']")
            kind, name = "link", target.get("dev") if target is not None else None
        else:
            kind, attribute = _INTERFACES.get(element.get("type", ""), ("", ""))
            name = source.get(attribute) if source is not None and kind else None
        if name:
            port = element.find("virtualport")
            switch = kind == "bridge" and port is not None and port.get("type") == "openvswitch"
            yield {"kind": kind, "name": name, "what": "Open vSwitch"} if switch else {"kind": kind, "name": name}
        for reference in element.findall("filterref"):
            if reference.get("filter"):
                yield {"kind": "filter", "name": str(reference.get("filter"))}


def _pools(root: ET.Element) -> t.Iterator[Requirement]:
    for source in root.iterfind("devices//source[@pool]"):
        if source.get("volume"):
            yield {"kind": "pool", "name": str(source.get("pool"))}


def _secrets(root: ET.Element) -> t.Iterator[Requirement]:
    """Secrets by UUID, or by the usage for which they are defined."""
    for element in root.iterfind("devices//secret"):
        if element.get("uuid"):
            yield {"kind": "secret", "name": str(element.get("uuid")).lower()}
        elif element.get("usage"):
            yield {"kind": "secret", "name": str(element.get("usage"))}
    for element in root.iterfind("devices/tpm/backend/encryption[@secret]"):
        yield {"kind": "secret", "name": str(element.get("secret")).lower()}


def _paths(root: ET.Element) -> t.Iterator[Requirement]:
    for kind, name, what in named_paths.named_paths(root):
        yield {"kind": kind, "name": name, "what": what}


def _placement(root: ET.Element) -> t.Iterator[Requirement]:
    """CPUs that it is pinned to, and NUMA cells that its memory is bound to."""
    texts = [element.get("cpuset") for element in (*root.iterfind("vcpu"), *root.iterfind("cputune/*"))]
    cpus = frozenset[int]().union(*map(number_sets.parsed, texts))
    if cpus:
        yield {"kind": "cpus", "name": number_sets.shown(cpus)}
    texts = [element.get("nodeset") for element in root.iterfind("numatune/*")]
    texts += [element.text for element in root.iterfind("devices/memory/source/nodemask")]
    cells = frozenset[int]().union(*map(number_sets.parsed, texts))
    if cells:
        yield {"kind": "cells", "name": number_sets.shown(cells)}


def _displays(root: ET.Element) -> t.Iterator[Requirement]:
    for element in root.iterfind("devices/graphics"):
        what = (element.get("type") or "").upper()
        listens = [listen for listen in element.findall("listen") if listen.get("type") != "address"]
        addresses = [listen.get("address") for listen in element.findall("listen[@type='address']")]
        if not addresses and not listens:
            addresses = [element.get("listen")]
        for address in addresses:
            if address and not is_everywhere(address):
                yield {"kind": "address", "name": address, "what": f"{what} display"}
        if any(listen.get("type") in ("socket", "none") for listen in listens):
            continue
        for attribute in ("port", "tlsPort", "websocket"):
            port = whole_number(element.get(attribute))
            if port:
                yield {
                    "kind": "port",
                    "name": str(port),
                    "what": f"{what} display",
                    "address": str(addresses[0] or "") if addresses else "",
                    "fixed": element.get("autoport") != "yes",
                }


def _vsock(root: ET.Element) -> t.Iterator[Requirement]:
    for element in root.iterfind("devices/vsock"):
        cid = element.find("cid")
        number = whole_number(cid.get("address")) if cid is not None else None
        if cid is not None and number is not None:
            yield {"kind": "vsock", "name": str(number), "fixed": cid.get("auto") != "yes"}


def _confinement(root: ET.Element) -> t.Iterator[Requirement]:
    """Security drivers whose labels it has, and the part of the host's resources that it is in."""
    for element in (*root.iterfind("seclabel"), *root.iterfind("devices//seclabel")):
        if (element.get("model") or "") not in _NO_DRIVER:
            yield {"kind": "security_model", "name": str(element.get("model"))}
    partition = (root.findtext("resource/partition") or "").strip()
    if partition.strip("/") and partition.rstrip("/") != USUAL_PARTITION:
        yield {"kind": "partition", "name": partition.rstrip("/")}
