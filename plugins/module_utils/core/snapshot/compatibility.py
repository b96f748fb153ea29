# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Decide whether a guest can go from one host to another, from two snapshots.

Some answers only the destination has: all CPU features, free ports. They are asked over the path, not here. A value
that a host could not tell (null) is no reason to refuse: libvirt checks again before it moves anything.
"""

from __future__ import annotations

import json
import shlex
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Intent,
    Snapshot,
    is_off,
    is_open,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import (
    placement_rules,
    resource_refusals,
    shares,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.requirements import is_local_medium
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import (
    copied_disks,
    evacuability,
    memory_demand,
    shared_devices,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: On these, KVM itself compares the identity of the CPUs when a guest arrives, and QEMU gives up: the guest stays.
_COMPARED_BY_KVM = ("aarch64",)
#: More disks than this on one local storage are told in one sentence.
MANY_DISKS = 3


def refusals(
    domain: Domain,
    source: Snapshot,
    destination: Snapshot,
    intent: Intent,
    *,
    reserve_bytes: int = 0,
) -> list[Refusal]:
    """Return each reason why this guest cannot go there now; empty if it can."""
    return [
        *evacuability.refusals(domain, source, intent),
        *destination_refusals(domain, source, destination, intent),
        *memory_demand.memory_refusals(
            destination["host"], memory_demand.free_memory(destination), domain, reserve_bytes
        ),
    ]


def destination_refusals(domain: Domain, source: Snapshot, destination: Snapshot, intent: Intent) -> list[Refusal]:
    """Return what the destination has against this guest, except free memory."""
    same = _same_host(source, destination)
    if same:
        return [same]
    found = [
        cordon_refusal(destination),
        evacuability.old_libvirt(destination),
        evacuability.not_live(destination),
        evacuability.no_tls(destination, intent),
        _clash(domain, destination),
        _machine(domain, source, destination) or _cpu(domain, source, destination),
    ]
    disks = domain.get("disks") or []
    found.extend(_together(disks, [_disk(domain, disk, source, destination, intent) for disk in disks]))
    found.extend(resource_refusals.refusals(domain, source, destination))
    found.append(placement_rules.refusal_of(domain, destination, placement_rules.rule_of(domain)))
    return [refused for refused in found if refused]


def cordon_refusal(destination: Snapshot) -> Refusal | None:
    """The destination is cordoned or in maintenance."""
    if is_open(destination):
        return None
    record, host = destination["maintenance"], destination["host"]
    about = ", ".join(str(record[key]) for key in ("owner", "reason") if record.get(key))
    since = f" since {record['since']}" if record.get("since") else ""
    code, what = ("maintenance", "in maintenance") if record["state"] == "maintenance" else ("cordoned", "cordoned")
    return refusal(
        code,
        f"{host} is {what}{since}{f' ({about})' if about else ''}",
        f"open {host} again (host_maintenance with state: active), or choose another host",
    )


def _same_host(source: Snapshot, destination: Snapshot) -> Refusal | None:
    uuid = source.get("host_uuid")
    if source["host"] == destination["host"]:
        return refusal(
            "same_host", f"source and destination are the same host ({source['host']})", "choose another destination"
        )
    if uuid and uuid == destination.get("host_uuid"):
        return refusal(
            "same_host",
            f"{source['host']} and {destination['host']} say they are the same host (UUID {uuid})",
            "if they are two machines, give each libvirtd its own host_uuid in /etc/libvirt/libvirtd.conf "
            "(virtqemud.conf) and restart it",
        )
    return None


def _clash(domain: Domain, destination: Snapshot) -> Refusal | None:
    host, name, uuid = destination["host"], domain["name"], domain["uuid"]
    for other in destination.get("domains") or []:
        if other["uuid"] == uuid and not is_off(other):
            return refusal(
                "running_twice",
                f"a guest with the UUID of {name} ({uuid}) is active on {host} as well",
                "stop nothing yet: look at both guests and find out which one holds the live state",
            )
        if other["uuid"] == uuid and other["name"] != name:
            return refusal(
                "uuid_clash",
                f"{host} has defined the UUID of {name} ({uuid}) under another name, {other['name']}",
                f"remove that definition on {host} (virsh undefine {shlex.quote(other['name'])}) if it is a left-over",
            )
        if other["name"] == name and other["uuid"] != uuid:
            return refusal(
                "name_clash",
                f"{host} already has another guest called {name} (UUID {other['uuid']})",
                f"rename one of the two (virsh domrename, while it is off), or choose another host than {host}",
            )
    return None


def _emulators(domain: Domain, snapshot: Snapshot) -> list[t.Mapping[str, t.Any]] | None:
    """The host's emulators of the domain's kind; None when the host could not tell any."""
    emulators = snapshot.get("emulators")
    if emulators is None:
        return None
    return [
        emulator
        for emulator in emulators
        if emulator.get("type") == domain.get("type") and emulator.get("arch") == domain.get("arch")
    ]


def _machine(domain: Domain, source: Snapshot, destination: Snapshot) -> Refusal | None:
    emulators, host = _emulators(domain, destination), destination["host"]
    if emulators is None:
        return None
    if not emulators:
        kvm = domain.get("type") == "kvm"
        return refusal(
            "emulator",
            f"{host} offers no {'KVM' if kvm else domain.get('type')} for {domain.get('arch')}",
            f"load the KVM module on {host} and check that virtualisation is on in its firmware (virt-host-validate)"
            if kvm
            else f"install QEMU for {domain.get('arch')} on {host}",
        )
    machines = [machine for emulator in emulators for machine in emulator.get("machines") or []]
    if domain.get("machine") in machines or (not machines and not _is_older(source, destination)):
        return None
    here, there = ((snapshot.get("versions") or {}).get("qemu") or "?" for snapshot in (source, destination))
    return refusal(
        "machine_type",
        f"{host} (QEMU {there}) does not know the machine type {domain.get('machine')} of {domain['name']}, "
        f"which runs on QEMU {here}",
        f"upgrade QEMU on {host}, or choose a host with QEMU {here} or later"
        if _is_older(source, destination)
        else f"choose a host whose QEMU still has {domain.get('machine')}, or restart the guest with a newer type",
    )


def _is_older(source: Snapshot, destination: Snapshot) -> bool:
    here, there = (versions.parsed((snapshot.get("versions") or {}).get("qemu")) for snapshot in (source, destination))
    return here is not None and there is not None and there < here


def _cpu(domain: Domain, source: Snapshot, destination: Snapshot) -> Refusal | None:
    cpu = domain.get("cpu") or {}
    if domain.get("type") == "kvm" and cpu.get("mode") in ("host-passthrough", "maximum"):
        return _host_cpu(domain, cpu["mode"], source, destination)
    if cpu.get("mode") != "custom" or not cpu.get("model"):
        return None
    emulators = _emulators(domain, destination) or []
    usable = [emulator["cpu_models_usable"] for emulator in emulators if emulator.get("cpu_models_usable") is not None]
    if not usable or any(cpu["model"] in models for models in usable):
        return None
    return refusal(
        "cpu_model",
        f"the CPU of {destination['host']} cannot act as {cpu['model']}, the model that {domain['name']} has",
        f"choose a host with a CPU of that kind, or restart {domain['name']} with a CPU model that all hosts can be "
        "(virsh hypervisor-cpu-baseline)",
    )


def _host_cpu(domain: Domain, mode: str, source: Snapshot, destination: Snapshot) -> Refusal | None:
    """libvirt does not check these modes: the guest would crash at the first instruction the new CPU lacks."""
    here, there = source.get("cpu") or {}, destination.get("cpu") or {}
    remedy = (
        f"choose a host with the same CPU as {source['host']}, or restart {domain['name']} with a CPU model that all "
        "hosts can be (virsh hypervisor-cpu-baseline)"
    )
    same = _same_host_cpu(here, there)
    if same is not True:
        if same is None and domain.get("arch") in _COMPARED_BY_KVM:
            return None
        return refusal(
            "cpu_host_differs",
            f"{domain['name']} has exactly the CPU of {source['host']} ({mode}, {_cpu_name(here)}), but "
            f"{destination['host']} has another ({_cpu_name(there)})",
            remedy,
        )
    lacking = sorted(set(here.get("features") or []) - set(there.get("features") or []))
    if lacking and there.get("features"):
        return refusal(
            "cpu_host_differs",
            f"{domain['name']} has exactly the CPU of {source['host']} ({mode}), but {destination['host']} lacks "
            f"{listed(lacking)}",
            remedy,
        )
    return None


def _cpu_name(cpu: t.Mapping[str, t.Any]) -> str:
    told = [line for line in cpu.get("identity") or () if not line.lower().startswith("features")]
    return str(cpu.get("model") or ", ".join(told) or "unknown")


def _same_host_cpu(here: t.Mapping[str, t.Any], there: t.Mapping[str, t.Any]) -> bool | None:
    """Whether two hosts have the same CPU, features apart. libvirt has no names for many CPUs other than x86."""
    named = (here.get("model"), here.get("vendor")), (there.get("model"), there.get("vendor"))
    if named[0] != named[1]:
        return False
    if here.get("model"):
        return True
    ids = here.get("identity"), there.get("identity")
    return ids[0] == ids[1] if all(ids) else None


def _disk(
    domain: Domain, disk: t.Mapping[str, t.Any], source: Snapshot, destination: Snapshot, intent: Intent
) -> Refusal | None:
    where = disk.get("source")
    # libvirt takes a missing medium out of its drive on arrival, where the guest permits that. Whether another one is
    # at the destination too is asked with all that the guest names.
    if not where or disk.get("shared") is None or disk.get("startup_policy") or is_local_medium(disk):
        return None
    if disk["shared"]:
        found = (_not_mounted(what, path, source, destination) for what, path in _files(disk))
        return next(filter(None, found), None)
    if disk.get("uncopyable"):
        return refusal(**disk["uncopyable"])
    what = f"disk {disk['target']} ({where}) is on local storage"
    what += f" ({disk['shared_why']})" if disk.get("shared_why") else ""
    if disk.get("readonly"):
        return refusal(
            "unshared_media",
            f"{what}, and read-only media are not copied",
            f"take it out (virsh change-media {shlex.quote(domain['name'])} {disk['target']} --eject), or put it on "
            "shared storage",
        )
    if disk.get("shareable"):
        return refusal(
            "unshared_shareable_disk",
            f"{what}, and disks that several guests share are not copied",
            "put it on shared storage, or detach it",
        )
    if not copied_disks.is_copied(disk):
        return copied_disks.cannot_copy(disk, what)
    if not intent.get("allow_storage_copy"):
        return refusal("unshared_disk", what, _make_it_reachable(disk))
    return None


def _together(
    disks: t.Sequence[t.Mapping[str, t.Any]], found: t.Sequence[Refusal | None]
) -> t.Iterator[Refusal | None]:
    """The refusals of disks, with one for all that are on the same local storage, if they are many."""
    places = [
        (disk.get("shared_why"), refused["remedy"]) if refused and refused["code"] == "unshared_disk" else None
        for disk, refused in zip(disks, found)
    ]
    told = set()
    for refused, place in zip(found, places):
        targets = [str(disk["target"]) for disk, other in zip(disks, places) if other == place]
        if place is None or len(targets) <= MANY_DISKS:
            yield refused
        elif place not in told:
            told.add(place)
            why, remedy = place
            where = f"on local storage ({why})" if why else "on local storage"
            yield refusal("unshared_disk", f"disks {listed(targets)} are {where}", remedy.replace("put it", "put them"))


def _make_it_reachable(disk: t.Mapping[str, t.Any]) -> str:
    remedy = "put it on shared storage, or permit copying it with allow_storage_copy"
    if disk.get("type") != "block":
        return remedy
    if shared_devices.pattern_refusal([str(disk["source"])]):
        return (
            f"{remedy}; if all hosts see this very device, let the guest name it by what is the same on all of them "
            "(/dev/disk/by-id/...), and list that name in the inventory (kvmops_cluster_shared_devices)"
        )
    path = json.dumps(str(disk["source"]))
    return (
        f"{remedy}; if all hosts see this very device, say so in the inventory: kvmops_cluster_shared_devices: [{path}]"
    )


def _files(disk: t.Mapping[str, t.Any]) -> t.Iterator[tuple[str, str]]:
    """The files of a disk: its image and what that rests on, each with the start of a sentence about it."""
    if disk.get("type") == "file":
        yield f"disk {disk['target']} ({disk['source']})", str(disk["source"])
    for layer in disk.get("layers") or ():
        if layer.get("type") == "file":
            yield f"{layer['source']}, on which disk {disk['target']} rests,", str(layer["source"])


def _not_mounted(what: str, path: str, source: Snapshot, destination: Snapshot) -> Refusal | None:
    """A file on a shared file system that the destination has not mounted at the same place.

    ``what`` is the start of a sentence about the file.
    """
    here = shares.mount_of(path, source.get("mounts") or ())
    if here is None or destination.get("mounts") is None:
        return None
    there = shares.mount_of(path, destination["mounts"])
    is_same = shares.same(here, source, there, destination) if there else False
    if is_same:
        return None
    host, what = destination["host"], f"{what} is on {here['source']}"
    if there is not None and there.get("path") == here.get("path"):
        if is_same is None:
            return _perhaps_another_server(what, here, there, host)
        if shares.is_local(here, source):
            what = f"{what} of {source['host']} itself"
        return refusal(
            "storage_unreachable",
            f"{what}, which {host} has not mounted at {here['path']} ({there['source']} is mounted there)",
            f"mount it at {here['path']} on {host} by a name or address of its server that means the same on both hosts"
            if there["source"] == here["source"]
            else f"mount {here['source']} at {here['path']} on {host}",
        )
    return refusal(
        "storage_unreachable",
        f"{what}, which {host} has not mounted at {here['path']}",
        f"mount {here['source']} at {here['path']} on {host}",
    )


def _perhaps_another_server(what: str, here: t.Mapping[str, t.Any], there: t.Mapping[str, t.Any], host: str) -> Refusal:
    servers = [shares.servers_of(here)[0], shares.servers_of(there)[0]]
    return refusal(
        "storage_unreachable",
        f"{what}, and {host} has mounted {there['source']} at {here['path']}: nothing proves that {servers[0]} and "
        f"{servers[1]} are one server",
        f"mount it by the same name on both hosts; or, if they are one server, say so in the inventory: "
        f"kvmops_cluster_same_servers: [{json.dumps(servers)}]",
    )
