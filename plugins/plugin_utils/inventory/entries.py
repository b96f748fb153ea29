# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: turn hypervisors and guests into hosts, variables and groups of an inventory.

from __future__ import annotations

import collections
import re
import typing as t
import unicodedata
import urllib.parse

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import group_of, is_open, metadata_of

HYPERVISORS = "hypervisors"
GUESTS = "guests"
#: What Ansible itself calls a group, or this controller.
_ANSIBLES = frozenset(("all", "ungrouped", "localhost", "127.0.0.1", "::1"))
_UNSAFE = re.compile(r"[^\w.-]")

#: A snapshot, or as much of one as a look at a libvirtd gives, with C(connect_uri) where that is known.
Hypervisor = t.Mapping[str, t.Any]
Domain = t.Mapping[str, t.Any]


class Entry(t.NamedTuple):
    """One host of the inventory."""

    name: str
    groups: tuple[str, ...]
    variables: dict[str, t.Any]


def entries(
    hypervisors: t.Sequence[Hypervisor], *, guests: bool, taken: t.Mapping[str, str | None] | None = None
) -> list[Entry]:
    """The hosts of an inventory, hypervisors first, each kind by name.

    Args:
        hypervisors: what they are made of.
        guests: whether guests are among them.
        taken: names of hosts and groups that the inventory has already; of a host that is a guest, with its UUID.
    """
    found = sorted(hypervisors, key=lambda one: str(one["host"]))
    made = [_hypervisor(one) for one in found]
    return made + (_guests(found, made, taken or {}) if guests else [])


def clones(hypervisors: t.Iterable[Hypervisor]) -> list[str]:
    """Hosts that libvirt takes for one and the same, a sentence each."""
    machines: dict[str, list[str]] = {}
    for one in hypervisors:
        machines.setdefault(one.get("host_uuid") or one["host"], []).append(one["host"])
    return [
        f"{' and '.join(sorted(names))} have the same host UUID {uuid}: either one machine is listed twice, or machines"
        " were cloned; see host_uuid_source in libvirtd.conf"
        for uuid, names in sorted(machines.items())
        if len(names) > 1
    ]


def strays(hypervisors: t.Iterable[Hypervisor]) -> list[str]:
    """Guests that are active on more than one host, a sentence each."""
    active: dict[tuple[str, str], list[str]] = {}
    for one in hypervisors:
        for domain in one["domains"]:
            if _is_active(domain):
                active.setdefault((domain["name"], domain["uuid"]), []).append(one["host"])
    return [
        f"guest {name} ({uuid}) is active on {' and '.join(sorted(hosts))}: it is being moved, or it runs twice; check"
        " these hosts before you do anything with it"
        for (name, uuid), hosts in sorted(active.items())
        if len(hosts) > 1
    ]


def unread(hypervisors: t.Iterable[Hypervisor]) -> list[str]:
    """Guests whose definition cannot be read, a sentence each."""
    return [
        f"the definition of guest {domain['name']} on {one['host']} cannot be read ({domain['unreadable']}), so neither"
        " its memory nor its metadata is known; look at it with virsh dumpxml there"
        for one in hypervisors
        for domain in one["domains"]
        if domain.get("unreadable")
    ]


def _hypervisor(one: Hypervisor) -> Entry:
    record = one.get("maintenance") or {}
    state = "active" if is_open(one) else str(record["state"])
    variables = {
        **_reach(one),
        "kvmops_hypervisor_hostname": one.get("hostname"),
        "kvmops_hypervisor_uuid": one.get("host_uuid"),
        "kvmops_hypervisor_maintenance": {
            "state": state,
            **{key: record.get(key) for key in ("owner", "reason", "since")},
        },
        "kvmops_hypervisor_guests": sorted(domain["name"] for domain in one["domains"] if _is_active(domain)),
    }
    return Entry(one["host"], (HYPERVISORS, f"{HYPERVISORS}_{state}"), variables)


def _reach(one: Hypervisor) -> dict[str, t.Any]:
    """How others reach the host's libvirtd, and Ansible the host, as far as the URI says so."""
    uri = one.get("connect_uri")
    parts = urllib.parse.urlsplit(uri or "")
    if not uri or not parts.hostname:
        return {}
    # What comes after a question mark, such as a key, is how this controller gets there.
    found: dict[str, t.Any] = {"kvmops_cluster_connect_uri": uri.partition("?")[0]}
    if parts.hostname != one["host"]:
        found["ansible_host"] = parts.hostname
    if parts.scheme.endswith("+ssh"):
        if parts.username:
            found["ansible_user"] = urllib.parse.unquote(parts.username)
        if parts.port:
            found["ansible_port"] = parts.port
    return found


def _guests(
    hypervisors: t.Sequence[Hypervisor], others: t.Iterable[Entry], taken: t.Mapping[str, str | None]
) -> list[Entry]:
    placed = [(host, domain, tuple(_guest_groups(host, domain))) for host, domain in _placed(hypervisors)]
    times = collections.Counter(domain["name"] for dummy, domain, _groups in placed)
    groups = {group for *dummy, found in placed for group in found}
    reserved = _ANSIBLES | groups | {name for entry in others for name in (entry.name, *entry.groups)}
    made = []
    for host, domain, of_guest in placed:
        name, variables = domain["name"], _guest_variables(host, domain)
        of_another = name in reserved or taken.get(name, domain["uuid"]) != domain["uuid"]
        if not _is_host_name(name):
            name = f"guest_{_UNSAFE.sub('_', domain['uuid'])}"
        elif of_another or times[name] > 1:
            # Two guests of one name, or a guest named like something else, must not become one host.
            name = f"{name}@{host}"
        if name != domain["name"]:
            # Ansible would go where the name leads: to a hypervisor, or into the options of ssh. This leads nowhere.
            variables["ansible_host"] = domain["uuid"]
        made.append(Entry(name, of_guest, variables))
    return sorted(made, key=lambda entry: entry.name)


def _is_host_name(name: str) -> bool:
    """Whether nothing takes a name for something else: ssh for an option, Ansible for a pattern, a shell for a command.

    Letters of all scripts are welcome.
    """
    return name[:1] not in ("", "-", ".", " ") and all(
        char.isalnum() or char in "._- " if char.isascii() else unicodedata.category(char)[0] not in "CZ"
        for char in name
    )


def _placed(hypervisors: t.Sequence[Hypervisor]) -> list[tuple[str, Domain]]:
    """Each guest once, where it runs; neither a definition left behind elsewhere nor one half of a move is it."""
    found: dict[str, tuple[str, Domain]] = {}
    for one in hypervisors:
        for domain in one["domains"]:
            if domain["uuid"] not in found or _liveliness(domain) > _liveliness(found[domain["uuid"]][1]):
                found[domain["uuid"]] = (one["host"], domain)
    return list(found.values())


def _liveliness(domain: Domain) -> int:
    return 2 if domain["state"] == "running" else int(_is_active(domain))


def _is_active(domain: Domain) -> bool:
    return domain["state"] != "shutoff"


def _guest_groups(host: str, domain: Domain) -> t.Iterator[str]:
    yield GUESTS
    yield f"{GUESTS}_on_{host}"
    yield f"{GUESTS}_{'active' if _is_active(domain) else 'off'}"
    # Owners write these words.
    for kind in ("apart", "together"):
        group = group_of(domain, kind)
        if group:
            yield f"{GUESTS}_{kind}_{_UNSAFE.sub('_', group)}"
    metadata = metadata_of(domain)
    if metadata.get("home"):
        yield f"{GUESTS}_home_{_UNSAFE.sub('_', metadata['home'])}"
    for word, value in sorted((metadata.get("intent") or {}).items()):
        if word.startswith("allow_") and value:
            yield f"{GUESTS}_{word}"


def _guest_variables(host: str, domain: Domain) -> dict[str, t.Any]:
    metadata = metadata_of(domain)
    return {
        "kvmops_guest_name": domain["name"],
        "kvmops_guest_uuid": domain["uuid"],
        "kvmops_guest_host": host,
        "kvmops_guest_state": domain["state"],
        "kvmops_guest_memory_bytes": domain.get("memory_bytes"),
        "kvmops_guest_vcpus": domain.get("vcpus"),
        "kvmops_guest_home": metadata.get("home"),
        "kvmops_guest_group": {kind: group_of(domain, kind) for kind in ("apart", "together")},
        "kvmops_guest_policy": dict(metadata.get("intent") or {}),
        "kvmops_guest_metadata": dict(metadata),
    }
