# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Guests that another manager owns: it keeps its own books of where they run, and may start them a second time.

Most managers leave a mark in the guest's metadata. Pacemaker has a configuration of its own on each host.
"""

from __future__ import annotations

import re
import shlex
import typing as t
import urllib.parse
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import NAMESPACE, Domain, Intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal


class Manager(t.NamedTuple):
    """One manager.

    Attributes:
        name: as people call it.
        domain: of the XML namespaces in its guests' metadata.
        command: that moves one of its guests; ``{guest}`` is the name as a shell takes it.
    """

    name: str
    domain: str
    command: str


MANAGERS = (
    Manager("OpenStack", "openstack.org", "openstack server migrate --live-migration SERVER"),
    Manager("oVirt", "ovirt.org", "its administration portal, or the module ovirt.ovirt.ovirt_vm"),
    Manager("OpenNebula", "opennebula.org", "onevm migrate --live VM HOST"),
    Manager("Proxmox VE", "proxmox.com", "qm migrate VMID TARGET --online"),
    Manager("KubeVirt", "kubevirt.io", "virtctl migrate VM"),
    Manager("Harvester", "harvesterhci.io", "virtctl migrate VM"),
    Manager("Kubernetes", "kubernetes.io", "virtctl migrate VM"),
    Manager("Kubernetes", "k8s.io", "virtctl migrate VM"),
    Manager("CloudStack", "cloudstack.apache.org", "cmk migrate virtualmachine"),
)
PACEMAKER = Manager("pacemaker", "", "pcs resource move")

#: A label of Kubernetes, such as C(kubevirt.io/domain) or C(app.kubernetes.io/name).
_LABEL = re.compile(r"(?:^|[.\s])(kubevirt\.io|harvesterhci\.io|kubernetes\.io|k8s\.io)/")


def manager_of(root: ET.Element) -> str | None:
    """Who owns a guest, by its metadata; None where nobody has left a mark."""
    metadata = root.find("metadata")
    if metadata is None:
        return None
    for element in metadata.iter():
        uri = element.tag[1:].partition("}")[0] if element.tag.startswith("{") else ""
        if uri == NAMESPACE:
            continue
        found = _by_domain(_host(uri)) or _by_label(element)
        if found is not None:
            return found.name
    return None


def pacemaker_definitions(cib: str) -> list[str]:
    """Paths of the definitions of guests that pacemaker runs, from its configuration (the CIB); empty if it is broken.

    Resources that pacemaker is told not to manage are left out.
    """
    try:
        root = xml_text.parsed(cib)
    except xml_text.XmlTextError:
        return []
    agents = [one for one in root.iter() if one.get("type") == "VirtualDomain" and one.tag in ("primitive", "template")]
    return [
        pair.get("value", "")
        for agent in agents
        if not any(
            pair.get("value") == "false" for pair in agent.iterfind("meta_attributes/nvpair[@name='is-managed']")
        )
        for pair in agent.iterfind("instance_attributes/nvpair[@name='config']")
        if pair.get("value")
    ]


def managed(domain: Domain, intent: Intent) -> Refusal | None:
    """Why a guest is left to its manager, or None."""
    name = domain.get("managed_by")
    if not name or intent.get("allow_managed"):
        return None
    found = next((one for one in (*MANAGERS, PACEMAKER) if one.name == name), None)
    guest = f" {shlex.quote(domain['name'])}" if found is PACEMAKER else ""
    return refusal(
        "managed",
        f"{domain['name']} is a guest of {name}, which would not know where it runs after a move",
        f"move it with {name}{f' ({found.command}{guest})' if found else ''}, or permit it: allow_managed",
    )


def _host(uri: str) -> str:
    try:
        return (urllib.parse.urlsplit(uri).hostname or "").lower()
    except ValueError:
        return ""


def _by_domain(host: str) -> Manager | None:
    return next((one for one in MANAGERS if host == one.domain or host.endswith(f".{one.domain}")), None)


def _by_label(element: ET.Element) -> Manager | None:
    for text in (*element.attrib, *element.attrib.values(), element.text or ""):
        found = _LABEL.search(text)
        if found:
            return _by_domain(found[1])
    return None
