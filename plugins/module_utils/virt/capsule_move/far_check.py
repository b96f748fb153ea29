# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether this host would take and start the next capsule of a guest that still runs
# elsewhere. The start decides the same again; what it would refuse is known before the guest is stopped.

from __future__ import annotations

import os
import pathlib
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import acceptance
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition import definition_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.definition_file import (
    DefinitionError,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Layer
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility, memory_demand
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.signature import verified
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import preparing, start_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.start_checks import (
    StartRequest,
    own_host_refusal,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.reservation import (
    MARGIN_BYTES,
    free_bytes,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import cpu_check
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host as hosts

Needs = t.Mapping[str, t.Any]
#: Elements of a definition that name a file which is on the host, and in no capsule.
_HOST_FILES = ("os/kernel", "os/initrd", "os/dtb", "os/shim", "os/loader")


class FarHost(t.NamedTuple):
    """The host that would start the guest.

    Attributes:
        connection: a writable one to its libvirtd, which compares CPUs over no other.
        store: its capsules.
        ticket: what the sender would be permitted.
        state_dir: where the host keeps its records.
    """

    connection: t.Any
    store: CapsuleStore
    ticket: Ticket
    state_dir: str


def check(far: FarHost, needs: Needs, told: bytes, signature: bytes, request: StartRequest) -> list[str]:
    """See that the guest could be started here; returns what would be left out or changed of it.

    Args:
        far: this host.
        needs: what the next capsule needs.
        told: the bytes of it, which are signed as the capsule will be.
        signature: of them; empty: the capsule will have none.
        request: with which it would be started.

    Raises:
        CapsuleError: it could not, or what was told makes no sense.
    """
    if runs_already(far, needs):
        return []
    for why in _acceptance(far, needs, told, signature):
        raise CapsuleError(**why)
    try:
        found = _of_hosts(far, needs)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CapsuleError(
            "needs_damaged",
            f"what {far.ticket.sender} tells of the guest makes no sense ({type(error).__name__}: {error})",
            "use the same version of kvmops.cluster on both hosts, and run capsule_move again",
        ) from error
    own = own_host_refusal(far.connection, far.store, request, dict(needs))
    for why in (*found, *([own] if own else ()), *_places(far, needs, request)):
        raise CapsuleError(**why)
    return _definition(far, needs, request)


def runs_already(far: FarHost, needs: Needs) -> bool:
    """Whether the guest runs here from this very capsule: an earlier run has had no answer."""
    record = start_record.read(far.store, needs["guest"]["uuid"], None)
    domain = guest_look.find(far.connection, needs["guest"]["uuid"])
    if record is None or domain is None or not needs["digest"] or record["digest"] != needs["digest"]:
        return False
    return bool(domain.isActive())


def _acceptance(far: FarHost, needs: Needs, told: bytes, signature: bytes) -> t.Iterator[Refusal]:
    """What this host has against the capsule itself."""
    ticket, capsule = far.ticket, dict(needs)
    known = far.store.known(needs["guest"]["uuid"])
    worth = verified(told, signature, ticket.keys)
    if worth.state == "bad":
        yield refusal(
            "signature_bad",
            f"{ticket.sender} signs with a key that {ticket.name} does not accept ({worth.detail})",
            f"add its public key (ssh-keygen -y -f FILE on {ticket.sender}) to kvmops_cluster_capsule_signers of"
            f" {ticket.name}, or name the file of a key that is there with sign_with",
        )
    found = [
        acceptance.signature_refusal(capsule, worth, known, bool(ticket.keys)),
        acceptance.replay_refusal(capsule, needs["digest"] or "", known, ticket.allow_older),
        *acceptance.host_refusals(capsule, ticket.host),
    ]
    yield from (why for why in found if why is not None)


def _of_hosts(far: FarHost, needs: Needs) -> list[Refusal]:
    """What the two hosts are: their CPUs, their versions, whether this one is open and has the memory."""
    seen = hosts.snapshot(far.connection, name=far.ticket.name, state_dir=pathlib.Path(far.state_dir))
    # Disks come along. What else the guest names is held against this host when its definition is rebuilt.
    guest = {**needs["domain"], "disks": [], "interfaces": [], "requires": []}
    there = t.cast("t.Any", {**seen, "migration": {}})
    intent = {**intents.normalise({}), "encryption": "off"}
    source = t.cast("t.Any", {**needs["source"], "migration": {}})
    found = compatibility.destination_refusals(t.cast("t.Any", guest), source, there, t.cast("t.Any", intent))
    if not found and needs["memory"] is not None and guest.get("cpu"):
        found += cpu_check.refusals(far.connection, guest, far.ticket.name)
    free = memory_demand.free_memory(there)
    if needs["memory"] is not None and free.memory_bytes is not None:
        found += memory_demand.memory_refusals(far.ticket.name, free, t.cast("t.Any", guest), 0)
    return found


def _places(far: FarHost, needs: Needs, request: StartRequest) -> t.Iterator[Refusal]:
    """The directories that the guest's files would be in."""
    name, host = needs["guest"]["name"], far.ticket.name
    if not os.path.isdir(request.image_dir):
        yield refusal(
            "no_image_dir",
            f"{host} has no directory {request.image_dir} for the disks of {name}",
            f"make it there, or name another one: kvmops_cluster_capsule_image_dir of {host}",
        )
    wanted = MARGIN_BYTES + (needs["memory"]["size_bytes"] if needs["memory"] else 0)
    for disk in needs["disks"]:
        wanted += disk["layer_bytes"]
        for one in disk["below"]:
            record = far.store.image(one["image"])
            if record is None:
                wanted += one["bytes"]
                continue
            why = far.store.changed(record)
            if why is not None:
                yield refusal(
                    "base_changed",
                    f"what disk {disk['target']} of {name} stands on is on {host} ({record['path']}) and is not known"
                    f" to be right any more: {why}",
                    f"see what it is now: capsule_verify on {host}; remove it there (capsule_prune), and move again",
                )
    folder = far.store.directory
    while not os.path.isdir(folder) and folder != "/":
        folder = os.path.dirname(folder)
    free = free_bytes(folder)
    if free < wanted:
        yield refusal(
            "no_space",
            f"the memory of {name} and what was written to its disks may need {human_bytes(wanted)} in"
            f" {far.store.directory} on {host}, and {human_bytes(free)} are free there",
            f"free {human_bytes(wanted - free)} there (capsule_prune removes old capsules), or set"
            f" kvmops_cluster_capsule_dir of {host} to a larger file system",
        )


def _definition(far: FarHost, needs: Needs, request: StartRequest) -> list[str]:
    """The definition as it would be here; returns what would be left out or changed of it."""
    try:
        definition = definition_file.parsed(needs["definition"].encode("utf-8"))
    except (DefinitionError, UnicodeError) as error:
        raise CapsuleError(
            "definition_damaged",
            f"the definition of {needs['guest']['name']} cannot be used: {error}",
            f"see what {far.ticket.sender} has: virsh dumpxml",
        ) from error
    disks = {
        disk["target"]: (Layer(os.path.join(request.image_dir, f"{disk['target']}.qcow2"), "qcow2"),)
        for disk in needs["disks"]
    }
    nvram = preparing.nvram_path(definition, needs["guest"])[1] if needs["nvram"] else None
    place = preparing.definition_place(far.connection, request, disks, nvram)
    persistent, running, notes = preparing.definitions_here(definition, dict(needs), place)
    for domain in (persistent, running):
        if domain is not None:
            _check_files(domain, needs["guest"]["name"], far.ticket.name)
    return notes


def _check_files(domain: ET.Element, guest: str, host: str) -> None:
    for tag in _HOST_FILES:
        path = (domain.findtext(tag) or "").strip()
        if path and not os.path.exists(path):
            raise CapsuleError(
                "file_missing",
                f"the definition of {guest} names {path}, which {host} does not have",
                f"put the same file there on {host}",
            )
