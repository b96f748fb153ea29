# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Say what a destination lacks of what a guest names on its host, and what to do about it."""

from __future__ import annotations

import re
import shlex
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import number_sets, shares
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.named_paths import (
    DIRECTORY,
    RESCTRL,
    SHARED_DIRECTORY,
    SOCKET,
    VHOST_VSOCK,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.requirements import (
    Requirement,
    is_floating,
    requirements_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.resources import (
    STATES,
    collide,
    cpus_of,
    emulators_of,
    has_too_few_cpus,
    is_mounted,
    is_there,
    numbers_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed


def refusals(domain: Domain, source: Snapshot, destination: Snapshot) -> list[Refusal]:
    """Return a refusal for each thing that a guest names on its host and the destination does not have."""
    found = [
        lack(requirement, domain, source, destination)
        for requirement in requirements_of(domain)
        if is_there(requirement, domain, source, destination) is False
    ]
    for other in destination.get("domains") or []:
        found.extend(taken(domain, other, destination["host"]))
    if has_too_few_cpus(domain, source, destination):
        found.append(_too_few_cpus(domain, destination))
    return found


class _Lack(t.NamedTuple):
    """A requirement that a destination does not meet, and whose it is."""

    requirement: Requirement
    domain: Domain
    source: Snapshot
    destination: Snapshot

    @property
    def name(self) -> str:
        return self.requirement["name"]

    @property
    def what(self) -> str:
        return self.requirement.get("what") or ""

    @property
    def guest(self) -> str:
        return str(self.domain["name"])

    @property
    def here(self) -> str:
        return str(self.source["host"])

    @property
    def there(self) -> str:
        return str(self.destination["host"])

    @property
    def resources(self) -> t.Mapping[str, t.Any]:
        return self.destination.get("resources") or {}


def lack(requirement: Requirement, domain: Domain, source: Snapshot, destination: Snapshot) -> Refusal:
    """The refusal for a requirement that a destination does not meet."""
    return _TEXTS[requirement["kind"]](_Lack(requirement, domain, source, destination))


def _no_link(lack: _Lack) -> Refusal:
    return refusal(
        "no_link",
        f"{lack.there} has no network interface {lack.name}, to which {lack.guest} is attached",
        f"give an interface of {lack.there} the name {lack.name}, or choose another host",
    )


def _no_secret(lack: _Lack) -> Refusal:
    return refusal(
        "no_secret",
        f"{lack.there} has no libvirt secret {lack.name}, which {lack.guest} needs for its storage",
        f"define it on {lack.there} with the same UUID (virsh secret-define, virsh secret-set-value), or choose "
        "another host",
    )


def _no_filter(lack: _Lack) -> Refusal:
    return refusal(
        "no_filter",
        f"{lack.there} has no network filter {lack.name}, which an interface of {lack.guest} has",
        f"define it there (virsh nwfilter-dumpxml {shlex.quote(lack.name)} on {lack.here}, virsh nwfilter-define on "
        f"{lack.there}), or choose another host",
    )


def _no_security_driver(lack: _Lack) -> Refusal:
    models = listed(list(lack.resources.get("security_models") or ())) or "none"
    return refusal(
        "no_security_driver",
        f"{lack.there} has no security driver {lack.name}, which labels {lack.guest} (it has {models})",
        f"set security_driver in /etc/libvirt/qemu.conf on {lack.there} and restart its libvirtd (virtqemud), or "
        "choose another host",
    )


def _no_partition(lack: _Lack) -> Refusal:
    return refusal(
        "no_partition",
        f"{lack.there} has no resource partition {lack.name}, in which {lack.guest} runs",
        f"make it on {lack.there}, with its limits (under systemd: /etc/systemd/system/{slice_of(lack.name)}), or "
        "choose another host",
    )


def _no_address(lack: _Lack) -> Refusal:
    return refusal(
        "no_address",
        f"the {lack.what or 'display'} of {lack.guest} listens on {lack.name}, which is no address of {lack.there}",
        f"let it listen on 0.0.0.0 or on the address of a network (virsh edit {shlex.quote(lack.guest)}, then restart "
        f"it), or give {lack.there} that address",
    )


def slice_of(partition: str) -> str:
    """The unit of systemd for a resource partition.

    >>> slice_of("/machine/gold"), slice_of("/machine/a-b")
    ('machine-gold.slice', 'machine-a\\\\x2db.slice')
    """
    parts = [
        re.sub(r"[^A-Za-z0-9:_.]", lambda found: f"\\x{ord(found[0]):02x}", part)
        for part in partition.split("/")
        if part
    ]
    return "-".join(parts) + ".slice"


def _no_state(lack: _Lack) -> Refusal:
    """A libvirt network or a storage pool that is not there, or not active."""
    kind, name, guest, host = lack.requirement["kind"], lack.name, lack.guest, lack.there
    thing = shlex.quote(name)
    states = lack.resources.get(STATES[kind]) or {}
    word, command, use, inactive, missing = (
        ("libvirt network", "net", f"to which {guest} is attached", "network_inactive", "no_network")
        if kind == "network"
        else ("storage pool", "pool", f"in which {guest} has a disk", "pool_inactive", "no_pool")
    )
    if name in states:
        return refusal(
            inactive,
            f"the {word} {name} of {host} is not active, and {guest} needs it",
            f"start it on {host}: virsh {command}-start {thing} (and virsh {command}-autostart {thing})",
        )
    return refusal(
        missing,
        f"{host} has no {word} {name}, {use}",
        f"define it on {host} (virsh {command}-dumpxml {thing} on {lack.here} shows how, then virsh {command}-define "
        f"and virsh {command}-start), or choose another host",
    )


def _no_file(lack: _Lack) -> Refusal:
    path, what, guest, host = lack.name, lack.what or "file", lack.guest, lack.there
    if is_mounted(lack.requirement, lack.destination):
        at = lack.resources["mounted"][path]
        return refusal(
            "device_mounted_there",
            f"{host} has mounted {path} at {at}, the {what} of {guest}: both would write to it",
            f"unmount it on {host} (umount {shlex.quote(at)}), or choose another host",
        )
    share = shares.shared_mount_of(path, lack.source)
    if share is not None:
        return refusal(
            "no_file",
            f"the {what} of {guest} ({path}) is on {share['source']}, which {host} has not mounted at {share['path']}",
            f"mount {share['source']} at {share['path']} on {host}",
        )
    if path.startswith("/dev/"):
        load = " (modprobe vhost_vsock)" if path == VHOST_VSOCK else ""
        return refusal(
            "no_device",
            f"{host} has no {path}, the {what} of {guest}",
            f"attach it to {host} under that name{load}, or choose another host than {host}",
        )
    return refusal(
        "no_file",
        f"{host} has no {path}, the {what} of {guest}",
        f"{_how_to_have(path, what, host, lack.here)}, or choose another host than {host}",
    )


def _no_volume(lack: _Lack) -> Refusal:
    pool, _slash, volume = lack.name.partition("/")
    return refusal(
        "no_volume",
        f"storage pool {pool} of {lack.there} has no volume {volume}, the {lack.what} of {lack.guest}",
        f"copy it there (virsh vol-download on {lack.here}, virsh vol-upload on {lack.there}), or take it out (virsh "
        f"change-media {shlex.quote(lack.guest)} {lack.what.rpartition(' ')[2]} --eject)",
    )


def _how_to_have(path: str, what: str, host: str, here: str) -> str:
    if path == RESCTRL:
        return f"mount it on {host} (mount -t resctrl resctrl /sys/fs/resctrl), if its CPUs have that"
    if what.startswith(SOCKET):
        return f"start on {host} what listens there on {here}"
    if what.startswith((DIRECTORY, SHARED_DIRECTORY)):
        return f"make it on {host} as on {here}"
    return f"install it on {host} as on {here}"


def _no_bridge(lack: _Lack) -> Refusal:
    host, name, guest = lack.there, lack.name, lack.guest
    is_switch = bool(lack.what)
    links = lack.resources.get("links") or ()
    make = f"ovs-vsctl add-br {shlex.quote(name)}" if is_switch else f"ip link add {shlex.quote(name)} type bridge"
    kind = "Open vSwitch bridge" if is_switch else "bridge"
    if name in links:
        reason = f"{name} is no {kind} on {host}, and {guest} is attached to one of that name"
    else:
        reason = f"{host} has no {kind} {name}, to which {guest} is attached"
    return refusal(
        "no_bridge",
        reason,
        f"make it on {host} ({make}, and in its network configuration), or choose another host than {host}",
    )


def _no_emulator(lack: _Lack) -> Refusal:
    path, host, known = lack.name, lack.there, sorted(set(emulators_of(lack.domain, lack.destination)))
    return refusal(
        "no_emulator",
        f"{host} has no emulator {path}, on which {lack.guest} runs (it has {listed(known)})",
        f"make it there (on {host}: ln -s {shlex.quote(known[0])} {shlex.quote(path)}), or choose another host than "
        f"{host}",
    )


def _no_numbers(lack: _Lack) -> Refusal:
    kind, guest, host = lack.requirement["kind"], lack.guest, lack.there
    there = numbers_of(kind, lack.destination)
    lacking, has = number_sets.shown(number_sets.parsed(lack.name) - there), number_sets.shown(there)
    if kind == "cpus":
        return refusal(
            "no_cpus",
            f"{guest} is pinned to CPU {lacking}, which {host} does not have (it has {has})",
            f"change its pins (virsh vcpupin {shlex.quote(guest)} --live, virsh emulatorpin), or choose a host with "
            "these CPUs",
        )
    return refusal(
        "no_cells",
        f"the memory of {guest} is bound to NUMA cell {lacking}, which {host} does not have (it has {has})",
        f"take the binding out (virsh edit {shlex.quote(guest)}: numatune; then restart it), or choose a host with "
        "that cell",
    )


_TEXTS: dict[str, t.Callable[[_Lack], Refusal]] = {
    "network": _no_state,
    "pool": _no_state,
    "bridge": _no_bridge,
    "link": _no_link,
    "filter": _no_filter,
    "secret": _no_secret,
    "file": _no_file,
    "program": _no_file,
    "volume": _no_volume,
    "emulator": _no_emulator,
    "cpus": _no_numbers,
    "cells": _no_numbers,
    "address": _no_address,
    "security_model": _no_security_driver,
    "partition": _no_partition,
}


def _too_few_cpus(domain: Domain, destination: Snapshot) -> Refusal:
    guest, host, vcpus = domain["name"], destination["host"], int(domain.get("vcpus") or 1)
    there = cpus_of(destination)
    return refusal(
        "too_few_cpus",
        f"{guest} has {vcpus} virtual CPUs, but {host} has only {there} CPUs",
        f"choose a host with {vcpus} CPUs or more, or take some away (virsh setvcpus {shlex.quote(guest)} {there} "
        "--live)",
    )


def taken(domain: Domain, other: Domain, host: str, *, at_any_address: bool = False) -> list[Refusal]:
    """Return a refusal for each port and CID that must stay as it is, and that another guest of the host has.

    ``at_any_address``: also where the two listen on different addresses.
    """
    fixed = [one for one in domain.get("requires") or () if is_floating(one) and one.get("fixed")]
    if not fixed or other["uuid"] == domain["uuid"] or is_off(other):
        return []
    return [
        _no_port(own, domain["name"], other["name"], host)
        for own in fixed
        if any(collide(own, theirs, at_any_address=at_any_address) for theirs in other.get("requires") or ())
    ]


def _no_port(own: Requirement, guest: str, other: str, host: str) -> Refusal:
    name = own["name"]
    if own["kind"] == "vsock":
        return refusal(
            "vsock_taken",
            f"{guest} has the fixed vsock CID {name}, which {other} has on {host}",
            f"give one of the two another CID (virsh edit: cid auto='yes'; then restart it), or choose another host "
            f"than {host}",
        )
    return refusal(
        "port_taken",
        f"the {own.get('what') or 'display'} of {guest} has the fixed port {name}, which {other} has on {host}",
        f"give one of the two another port (virsh edit: autoport='yes'; then restart it), or choose another host than "
        f"{host}",
    )
