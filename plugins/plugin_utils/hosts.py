# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the hosts of a play have registered, put together on the controller.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import is_open

HostVars = t.Mapping[str, t.Mapping[str, t.Any]]


def registered(hostvars: HostVars, hosts: t.Iterable[str], name: str) -> dict[str, t.Mapping[str, t.Any]]:
    """What each host registered under this name; hosts that registered nothing, or skipped the task, are missing."""
    found = {}
    for host in hosts:
        result = hostvars[host].get(name)
        if isinstance(result, t.Mapping) and not result.get("skipped"):
            found[host] = result
    return found


def snapshots(results: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, t.Mapping[str, t.Any]]:
    """The snapshots of the hosts that answered."""
    return {host: result["snapshot"] for host, result in results.items() if result.get("snapshot")}


def absent(results: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[dict[str, str]]:
    """The hosts that gave no snapshot, and why."""
    return [{"host": host, "reason": why(result)} for host, result in results.items() if not result.get("snapshot")]


def why(result: t.Mapping[str, t.Any]) -> str:
    """Why a task brought nothing, in one line."""
    text = " ".join(str(result.get("msg") or "no reason was given").split()).removeprefix("Task failed: ")
    return ("it cannot be reached: " + text) if result.get("unreachable") else text


def open_hosts(by_host: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[str]:
    """Hosts that may be destinations."""
    return [host for host, snapshot in by_host.items() if is_open(snapshot)]


def connection(host: str, variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """How other hosts reach this one's libvirtd, and where guests are sent.

    >>> connection("h1", {"ansible_host": "198.18.1.11"})
    {'connect_uri': 'qemu+ssh://root@198.18.1.11/system', 'migration_address': None}
    """
    uri = variables.get("kvmops_cluster_connect_uri")
    if not uri:
        address = str(variables.get("ansible_host") or host)
        uri = f"qemu+ssh://root@{f'[{address}]' if ':' in address else address}/system"
    return {
        "connect_uri": str(uri),
        "migration_address": str(variables.get("kvmops_cluster_migration_address") or "") or None,
    }
