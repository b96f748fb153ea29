# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a guest is started with: its files here, and its definitions as they may be here.

from __future__ import annotations

import os
import re
import typing as t
import uuid as uuids
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import (
    MOST_STATE_BYTES,
    Capsule,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition import definition_file, identity
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.definition_file import (
    Definition,
    DefinitionError,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Layer, Place
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.rebuild import rebuilt
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import backing_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule, sha256_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import layers, saved_cpu, tpm_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import (
    before_disks,
    host_place,
    image_layers,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.start_checks import (
    StartRequest,
    stopped_here,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.starter import Parts

NVRAM_DIR = "/var/lib/libvirt/qemu/nvram"


class Prepared(t.NamedTuple):
    """All that a start needs, before anything was changed.

    Attributes:
        guest: name and UUID of the guest that will run.
        parts: what it is made of.
        persistent, running: its definitions as they are here.
        autostart: whether it starts with this host.
        layers: its own files, by the target of the disk.
        adopted: those of them that are there already, and empty.
        notes: what was left out or changed.
        later: disks that come later: the number of each at the source, by target.
    """

    guest: dict[str, str]
    parts: Parts
    persistent: ET.Element
    running: ET.Element | None
    autostart: bool
    layers: dict[str, str]
    adopted: list[str]
    notes: list[str]
    later: dict[str, int]


def prepared(connection: t.Any, store: CapsuleStore, request: StartRequest, capsule: StoredCapsule) -> Prepared:
    """All that a start needs; nothing is changed.

    Raises:
        CapsuleError: something is missing, damaged or not permitted.
    """
    document = capsule.document
    later = before_disks.missing(
        store, capsule, request.lazy, host_place.versions(connection, request.host), request.as_new is not None
    )
    if request.lazy is not None and later:
        before_disks.reach(store, document, request.lazy.ticket, later, request.wait_s, request.check)
    image_layers.check_all(store, document, later)
    here = [disk["target"] for disk in document["disks"] if disk["target"] not in later]
    below = image_layers.below(store, document, here)
    definition = _definition(capsule)
    guest = dict(document["guest"])
    if request.as_new is not None:
        guest = {"name": request.as_new, "uuid": str(uuids.uuid4())}
    own, adopted = _own_layers(store, request, document, guest)
    nvram = _nvram(capsule, definition, guest)
    with_memory = document["memory"] is not None and not request.discard_memory
    disks = {target: (Layer(path, "qcow2"), *below.get(target, ())) for target, path in own.items()}
    place = definition_place(connection, request, disks, nvram[1] if nvram else None)
    if not with_memory:
        definition = definition._replace(running=None)
    persistent, running, notes = definitions_here(definition, document, place)
    cpu = _cpu_refusal(connection, request, document, definition)
    if cpu is not None:
        raise CapsuleError(**cpu)
    if request.lazy is not None:
        for domain in filter(None, (persistent, running)):
            before_disks.read_from_source(domain, own, request.lazy.ticket, later)
    if request.as_new is not None:
        identity.renamed(persistent, identity.Identity(guest["name"], guest["uuid"]))
        if document["tpm"] is not None:
            notes.append(f"its TPM is a copy of that of {document['guest']['name']}: replace keys that are in it")
    memory = image_layers.image_of(store, document, "memory", document["memory"]["image"]) if with_memory else None
    parts = Parts(
        below,
        {disk["target"]: disk["size_bytes"] for disk in document["disks"]},
        nvram,
        tpm_state.unpacked(_part(capsule, "tpm")) if document["tpm"] is not None else None,
        memory["path"] if memory else None,
        {target: backing_of(request.lazy.ticket, slot) for target, slot in later.items()} if request.lazy else {},
    )
    return Prepared(guest, parts, persistent, running, definition.autostart, own, adopted, notes, later)


def definition_place(
    connection: t.Any, request: StartRequest, disks: t.Mapping[str, tuple[Layer, ...]], nvram: str | None
) -> Place:
    """What this host has for the definition of a guest, and what is permitted to it.

    Args:
        connection: to this host's libvirtd; read-only is enough.
        request: what is wanted.
        disks: the layers of each disk by its target.
        nvram: the file with the guest's NVRAM, or None.
    """
    return host_place.place(
        connection,
        Place(
            request.host,
            disks,
            nvram=nvram,
            networks=request.networks,
            files=tuple(request.allow_files),
            shares_files=request.as_new is not None,
        ),
    )


def definitions_here(
    definition: Definition, document: Capsule, place: Place
) -> tuple[ET.Element, ET.Element | None, list[str]]:
    """The definitions of a guest as they are here, for its next start and for its memory; and what was changed.

    Args:
        definition: what its old host says.
        document: the capsule; of it C(guest), C(number) and C(made_on).
        place: what this host has, and what is permitted.

    Raises:
        CapsuleError: something in it is not permitted, or it is of another guest.
    """
    found = [rebuilt(definition.persistent, document["guest"]["name"], place)]
    if definition.running is not None:
        found.append(rebuilt(definition.running, document["guest"]["name"], place))
    for why in (why for one in found for why in one.refusals):
        raise CapsuleError(**why)
    for one in found:
        _check_identity(one.domain, document)
    notes = list(dict.fromkeys(note for one in found for note in one.notes))
    return found[0].domain, found[1].domain if len(found) > 1 else None, notes


def _cpu_refusal(connection: t.Any, request: StartRequest, document: Capsule, definition: Definition) -> Refusal | None:
    if request.check or definition.running is None:
        # libvirt does not compare CPUs over read-only connections.
        return None
    cpu = saved_cpu.described(definition.running)
    return saved_cpu.cpu_refusal(connection, cpu, document["guest"]["name"], request.host)


def _definition(capsule: StoredCapsule) -> Definition:
    try:
        found = definition_file.parsed(_part(capsule, "definition"))
        if (capsule.document["memory"] is not None) != (found.running is not None):
            raise DefinitionError("the definition and the capsule differ about the memory")
    except DefinitionError as error:
        raise CapsuleError(
            "definition_damaged",
            f"capsule {capsule.document['number']} of {capsule.document['guest']['name']} cannot be used: {error}",
            f"send it again from {capsule.document['made_on']}",
        ) from error
    return found


def _check_identity(domain: ET.Element, document: Capsule) -> None:
    """The document is what is signed and refused by; the definition must be of the same guest."""
    found = {"name": domain.findtext("name"), "uuid": domain.findtext("uuid")}
    if found != document["guest"]:
        raise CapsuleError(
            "definition_of_other",
            f"capsule {document['number']} of {document['guest']['name']} has the definition of another guest",
            f"find out who made it on {document['made_on']}, and remove it",
        )


def _part(capsule: StoredCapsule, key: str) -> bytes:
    path = capsule.part(key)
    content = durable_files.read_bytes(path, MOST_STATE_BYTES) if path else None
    state = capsule.document[key]
    if content is None or len(content) != state["size_bytes"] or sha256_of([content]) != state["digest"]:
        raise CapsuleError(
            "part_damaged",
            f"the {key} of capsule {capsule.document['number']} of {capsule.document['guest']['name']} is damaged",
            f"send the capsule again from {capsule.document['made_on']}",
        )
    return content


def _own_layers(
    store: CapsuleStore, request: StartRequest, document: Capsule, guest: t.Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The guest's own files by target, and those of them that are there already."""
    stopped = stopped_here(store, document) if request.as_new is None else None
    adopted = {disk.target: disk.overlay for disk in stopped.disks} if stopped else {}
    found = {}
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", guest["name"]).lstrip(".") or guest["uuid"]
    for disk in document["disks"]:
        target = disk["target"]
        stem = os.path.join(request.image_dir, f"{plain}-{target}")
        found[target] = adopted.get(target) or layers.free_path(stem, document["number"])
    return found, [path for path in found.values() if path in adopted.values()]


def nvram_path(definition: Definition, guest: t.Mapping[str, str]) -> tuple[str, str]:
    """The format of a guest's NVRAM, and the file for it on this host."""
    element = definition.persistent.find("os/nvram")
    form = element.get("format", "raw") if element is not None else "raw"
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", guest["name"]).lstrip(".") or guest["uuid"]
    return form, os.path.join(NVRAM_DIR, f"{plain}_VARS.{'fd' if form == 'raw' else form}")


def _nvram(capsule: StoredCapsule, definition: Definition, guest: t.Mapping[str, str]) -> tuple[bytes, str] | None:
    if capsule.document["nvram"] is None:
        return None
    content = _part(capsule, "nvram")
    form, path = nvram_path(definition, guest)
    if form not in ("raw", "qcow2") or (form == "qcow2" and not host_place.stands_alone(content)):
        raise CapsuleError(
            "nvram_hostile",
            f"the NVRAM of {capsule.document['guest']['name']} is not used: it names other files",
            f"find out who made this capsule on {capsule.document['made_on']}",
        )
    return content, path
