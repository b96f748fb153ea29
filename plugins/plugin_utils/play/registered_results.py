# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: put together what the hosts of a play have registered.

from __future__ import annotations

import math
import typing as t

from ansible.errors import AnsibleError

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import is_open

HostVars = t.Mapping[str, t.Mapping[str, t.Any]]


def results_of(hostvars: HostVars, hosts: t.Iterable[str], *names: str) -> dict[str, t.Mapping[str, t.Any]]:
    """What each host registered under these names; hosts that registered nothing, or skipped the task, are missing.

    A task that a host did in a loop, for other hosts by C(delegate_to), counts as theirs.
    """
    return {
        whose: result
        for host in hosts
        for name in names
        for whose, result in _by_host(host, hostvars[host].get(name))
        if not result.get("skipped")
    }


def _by_host(host: str, result: t.Any) -> t.Iterator[tuple[str, t.Mapping[str, t.Any]]]:
    if not isinstance(result, t.Mapping):
        return
    items = result.get("results")
    if isinstance(items, list) and items and all("ansible_loop_var" in item for item in items):
        yield from ((str(item[item["ansible_loop_var"]]), item) for item in items)
    else:
        yield host, result


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


def measurements(results: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """What all hosts have measured, in one.

    C(working_sets), C(changes), C(calibration) by host, C(hosts), and C(unmeasured).
    """
    found: dict[str, t.Any] = {"working_sets": [], "changes": [], "calibration": {}, "hosts": {}, "unmeasured": []}
    for host, result in results.items():
        if "working_sets" not in result:
            nothing = {"host": host, "code": "host_not_measured", "reason": why(result), "remedy": ""}
            found["unmeasured"].append(nothing)
            continue
        found["working_sets"] += result["working_sets"]
        found["changes"] += result.get("changes") or []
        found["calibration"][host] = result["calibration"]
        found["hosts"][host] = [document["guest"]["uuid"] for document in result["working_sets"]]
        found["unmeasured"] += [{"host": host, **refused} for refused in result["refusals"]]
    return found


def open_hosts(by_host: t.Mapping[str, t.Mapping[str, t.Any]]) -> list[str]:
    """Hosts that may be destinations."""
    return [host for host, snapshot in by_host.items() if is_open(snapshot)]


def connection(host: str, variables: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """How other hosts reach this one's libvirtd, where guests are sent, and what is known of the migration network.

    That is what it gives, in MiB/s, and the name of a link that this host shares with others.

    Raises: AnsibleError when the inventory gives a bandwidth that cannot be.

    >>> connection("h1", {"ansible_host": "h1"})
    {'connect_uri': 'qemu+ssh://root@h1/system', 'migration_address': None, 'bandwidth_mib_s': None, 'link': None}
    """
    uri = variables.get("kvmops_cluster_connect_uri")
    if not uri:
        address = str(variables.get("ansible_host") or host)
        uri = f"qemu+ssh://root@{f'[{address}]' if ':' in address else address}/system"
    return {
        "connect_uri": str(uri),
        "migration_address": str(variables.get("kvmops_cluster_migration_address") or "") or None,
        "bandwidth_mib_s": _bandwidth(host, variables.get("kvmops_cluster_bandwidth_mib_s")),
        "link": str(variables.get("kvmops_cluster_link") or "") or None,
    }


def incoming(snapshot: t.Mapping[str, t.Any], address: str | None) -> dict[str, t.Any]:
    """What paths to a host need to know of it: C(incoming) of its qemu.conf, and the C(mtu) of its interface.

    >>> incoming({"links": [{"name": "eth1", "addresses": ["198.18.0.12/24"], "mtu": 9000}]}, "198.18.0.12")
    {'incoming': {}, 'mtu': 9000}
    """
    links = [
        link
        for link in snapshot.get("links") or []
        if address in [one.partition("/")[0] for one in link.get("addresses") or []]
    ]
    return {
        "incoming": dict((snapshot.get("migration") or {}).get("incoming") or {}),
        "mtu": links[0].get("mtu") if links else None,
    }


def same_servers(hostvars: HostVars, hosts: t.Iterable[str]) -> list[list[str]]:
    """Names that the operator says mean one storage server each, from the inventory of all hosts.

    Raises: AnsibleError when the inventory gives anything but lists of names.
    """
    found: list[list[str]] = []
    for host in hosts:
        stated = hostvars[host].get("kvmops_cluster_same_servers") or []
        is_right = isinstance(stated, (list, tuple)) and all(
            isinstance(names, (list, tuple)) and names and all(isinstance(name, str) for name in names)
            for names in stated
        )
        if not is_right:
            raise AnsibleError(
                f"kvmops_cluster_same_servers of {host} is {stated!r}: give lists of names, one list for each server,"
                " such as [[nas, nas.example.org, 10.0.9.1]]."
            )
        found.extend(names for names in map(list, stated) if names not in found)
    return found


def _bandwidth(host: str, stated: t.Any) -> float | None:
    if stated in (None, ""):
        return None
    try:
        found = float(stated)
    except (TypeError, ValueError):
        found = 0.0
    if not (0 < found < math.inf):
        raise AnsibleError(
            f"kvmops_cluster_bandwidth_mib_s of {host} is {stated!r}: give what its migration network carries, in MiB/s"
            " (112 for 1 Gbit/s), or leave it out."
        )
    return found
