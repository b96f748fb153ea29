# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a destination says of itself over libvirt, just before a guest is sent there.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import SNAPSHOT, Domain
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.requirements import (
    Requirement,
    is_floating,
    requirements,
    requirements_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import capabilities, guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.run import maintenance
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import each
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import cordon
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state, resources
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.state_names import reason_word, state_word

_KIB = 1024


def snapshot(
    connection: t.Any, host: str, guest: Domain | None = None, source: t.Any | None = None
) -> dict[str, t.Any]:
    """The part of a host's snapshot that its libvirtd tells other hosts. What only its own files say is null.

    Args:
        connection: to the destination's libvirtd; read-only is enough.
        host: the destination's name.
        guest: the one that is to go there. Of C(resources), only what it names is looked for.
        source: a connection to the libvirtd of the guest's own host; needed with C(guest).
    """
    described = capabilities.parse(connection.getCapabilities())
    return {
        "schema": SNAPSHOT,
        "host": host,
        "hostname": connection.getHostname(),
        "host_uuid": capabilities.host_uuid(described),
        "taken_at": None,
        "versions": {
            "libvirt": _version(connection.getLibVersion()),
            "qemu": _version(connection.getVersion()),
            "binding": None,
            "kernel": None,
        },
        "capacity": {
            "cpus": connection.getInfo()[2],
            "memory_bytes": None,
            "available_bytes": _available(connection),
            "cells": _cells(connection, described),
        },
        "cpu": capabilities.cpu(described),
        "emulators": _emulators(connection, described),
        "migration": {"live": capabilities.live(described), "transports": capabilities.transports(described)},
        "links": None,
        "mounts": None,
        "sysctls": None,
        "maintenance": _maintenance(connection),
        "resources": resources.of_remote_host(connection, described, guest, source) if guest else None,
        "domains": _domains(connection, _has_fixed_numbers(guest)),
    }


def incoming(connection: t.Any) -> list[str]:
    """Names of the guests that are coming in at a host right now.

    Not among them is one whose post-copy has broken off: its job stays for good, and nothing comes in.
    """
    libvirt = virt.libvirt
    coming = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED):
        # A guest that has just left or arrived is not coming in any more.
        with contextlib.suppress(libvirt.libvirtError):
            split = domain.state()[1] == libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
            if not split and guest_state.is_coming_in(domain):
                coming.append(domain.name())
    return coming


def _available(connection: t.Any) -> int | None:
    """Memory for new guests: what the kernel says is available, or else what is free with its caches."""
    libvirt = virt.libvirt
    with contextlib.suppress(libvirt.libvirtError):
        statistics = connection.getMemoryStats(libvirt.VIR_NODE_MEMORY_STATS_ALL_CELLS)
        if "available" in statistics:
            return int(statistics["available"]) * _KIB
        parts = [statistics.get(part) for part in ("free", "buffers", "cached")]
        if parts[0] is not None:
            return sum(int(part or 0) for part in parts) * _KIB
    with contextlib.suppress(libvirt.libvirtError):
        return int(connection.getFreeMemory())
    return None


def _cells(connection: t.Any, described: t.Any) -> list[dict[str, t.Any]]:
    cells = capabilities.cells(described)
    for cell in cells:
        for page in cell["pages"]:
            kib = page["size_bytes"] // _KIB
            with contextlib.suppress(virt.libvirt.libvirtError):
                page["free"] = connection.getFreePages([kib], cell["id"], 1)[cell["id"]][kib]
    return cells


def _emulators(connection: t.Any, described: t.Any) -> list[dict[str, t.Any]]:
    return [
        {
            "type": kind.type,
            "arch": kind.arch,
            "emulator": kind.emulator,
            "machines": kind.machines,
            # The destination is asked about the guest's whole CPU instead. That says more than a model.
            "cpu_models_usable": None,
        }
        for kind in capabilities.emulators(described)
    ]


def _maintenance(connection: t.Any) -> dict[str, t.Any]:
    try:
        return cordon.read(connection) or dict(maintenance.ACTIVE)
    except maintenance.RecordError as error:
        return {**maintenance.ACTIVE, "state": "cordoned", "reason": str(error)}


def _has_fixed_numbers(guest: Domain | None) -> bool:
    """Whether another guest may have a port or a CID that this one must have."""
    found = requirements_of(guest) if guest else ()
    return any(is_floating(one) and one.get("fixed") for one in found)


def _domains(connection: t.Any, with_numbers: bool) -> list[dict[str, t.Any]]:
    """Names, states and memory of its guests: enough to find duplicates and the memory that is promised; with the
    ports and CIDs that they have, if that is asked for.
    """
    libvirt = virt.libvirt
    groups = libvirt.VIR_DOMAIN_STATS_STATE | libvirt.VIR_DOMAIN_STATS_BALLOON
    found = []
    numbers = _numbers(connection) if with_numbers else {}
    for domain, statistics in connection.getAllDomainStats(groups, libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT):
        state, reason = statistics.get("state.state"), statistics.get("state.reason")
        found.append(
            {
                "name": domain.name(),
                "uuid": domain.UUIDString(),
                "state": "unknown" if state is None else state_word(state),
                "state_reason": None if state is None or reason is None else reason_word(state, reason),
                "memory_bytes": int(statistics.get("balloon.maximum", 0)) * _KIB,
                "balloon": {"rss_bytes": _bytes(statistics.get("balloon.rss"))},
                "requires": numbers.get(domain.UUIDString(), []),
            }
        )
    return found


def _numbers(connection: t.Any) -> dict[str, list[Requirement]]:
    """Ports of displays and CIDs of the guests that run there, by UUID."""
    domains = connection.listAllDomains(virt.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
    answers = each(domains, lambda domain: domain.XMLDesc(0))
    found = {}
    for domain, xml in zip(domains, answers):
        # One that cannot be read keeps no other guest away. libvirt itself gives no port twice.
        with contextlib.suppress(xml_text.XmlTextError):
            if isinstance(xml, str):
                found[domain.UUIDString()] = list(filter(is_floating, requirements(guest_xml.parse(xml))))
    return found


def _bytes(kib: int | None) -> int | None:
    return None if kib is None else int(kib) * _KIB


def _version(number: int) -> str:
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"
