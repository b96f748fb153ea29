# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The document of a capsule (docs/contracts.md, "Capsule"): what it consists of, and the digest of each part.

It names contents and no files of a host, as another host keeps them in other files: a disk is a chain of layers on a
base, each named by what a guest sees of it. What comes in is not trusted, also where it is signed.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import canonical_json
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import MOST_IMAGE_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.canonical_json import MOST_NUMBER
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.fields import FieldError, Fields, shown

SCHEMA = "kvmops.capsule/1"

Capsule = dict[str, t.Any]

#: C(memory): with the memory of the running guest. C(frozen): the agent froze the file systems. C(crash): as after a
#: loss of power.
CONSISTENCY = ("memory", "frozen", "crash")
#: How a file with memory is written: C(sparse) has each page at a place of its own, so two of them can be compared.
MEMORY_FORMATS = ("sparse", "raw")

#: More than 25 layers do not start with libvirt before 12.0; each layer also costs lookups at each read.
MOST_LAYERS = 16
MOST_DISKS = 64
#: Of the definition, NVRAM and TPM state: files of kilobytes to a few megabytes.
MOST_STATE_BYTES = 64 * 1024**2

_IMAGE = r"blocks:[0-9a-f]{64}"
_SHA256 = r"sha256:[0-9a-f]{64}"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
#: Any name that libvirt takes: no control characters, no lone halves of a character.
_NAME = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,255}"
_AT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
_VERSION = r"\d{1,5}\.\d{1,5}(\.\d{1,9})?"


def parsed(data: bytes, what: str) -> Capsule:
    """The capsule in these bytes.

    Args:
        data: as L(canonical_json.canonical) has written it.
        what: where it came from, for messages.

    Raises:
        CapsuleError: it is damaged or forged, or of a version that is not known here.
    """
    try:
        document = canonical_json.parsed(data)
        version = document.get("schema") if isinstance(document, dict) else None
        if isinstance(version, str) and version != SCHEMA and version.startswith(SCHEMA.split("/", maxsplit=1)[0]):
            raise CapsuleError(
                "capsule_version",
                f"the capsule in {what} is of version {shown(version)}, and this host reads {SCHEMA}",
                "use the same version of kvmops.cluster on both hosts",
            )
        check(document)
    except ValueError as error:
        raise CapsuleError(
            "capsule_damaged",
            f"the capsule in {what} cannot be used: {error}",
            "send it again from its source; capsule_verify says there whether that one is right",
        ) from error
    return t.cast(Capsule, document)


def check(document: t.Any) -> None:
    """Hold a capsule against its definition.

    Raises:
        FieldError: a part is missing, unknown or not possible.
    """
    capsule = Fields(document, "")
    capsule.one_of("schema", (SCHEMA,))
    _check_guest(capsule.fields("guest"))
    number = capsule.number("number", 1, MOST_NUMBER)
    _check_parent(capsule.fields_or_none("parent"), number)
    capsule.text("made_at", _AT)
    capsule.text("made_on", _NAME)
    capsule.text("trust_domain", _WORD)
    consistency = capsule.one_of("consistency", CONSISTENCY)
    _check_versions(capsule.fields("versions"))
    capsule.text("arch", _WORD)
    capsule.text("machine", _WORD)
    _check_state(capsule.fields("definition"))
    for key in ("nvram", "tpm"):
        state = capsule.fields_or_none(key)
        if state is not None:
            _check_state(state)
    _check_memory(capsule, consistency)
    _check_disks(capsule.listed("disks", MOST_DISKS))
    capsule.end()


def _check_guest(guest: Fields) -> None:
    guest.text("name", _NAME)
    guest.text("uuid", _UUID)
    guest.end()


def _check_parent(parent: Fields | None, number: int) -> None:
    if parent is not None:
        # Numbers only grow, so no lineage has a circle.
        parent.number("number", 1, number - 1)
        parent.text("digest", _SHA256)
        parent.end()


def _check_versions(versions: Fields) -> None:
    versions.text("libvirt", _VERSION)
    versions.text("qemu", _VERSION)
    versions.end()


def _check_state(state: Fields) -> None:
    state.number("size_bytes", 1, MOST_STATE_BYTES)
    state.text("digest", _SHA256)
    state.end()


def _check_memory(capsule: Fields, consistency: str) -> None:
    memory = capsule.fields_or_none("memory")
    if (memory is None) == (consistency == "memory"):
        raise FieldError(f"memory is {'missing' if memory is None else 'there'} in a capsule that is {consistency}")
    if memory is not None:
        memory.one_of("format", MEMORY_FORMATS)
        memory.number("size_bytes", 1, MOST_IMAGE_BYTES)
        memory.text("image", _IMAGE)
        memory.end()


def _check_disks(disks: list[Fields]) -> None:
    targets: set[str] = set()
    for disk in disks:
        target = disk.text("target", r"[a-z]{1,8}[0-9a-z]{0,8}")
        if target in targets:
            raise FieldError(f"the disk {target} is there twice")
        targets.add(target)
        disk.number("size_bytes", 1, MOST_IMAGE_BYTES)
        image, top = disk.text("image", _IMAGE), disk.text_or_none("base", _IMAGE)
        for layer in disk.listed("layers", MOST_LAYERS):
            layer.number("number", 1, MOST_NUMBER)
            top = layer.text("image", _IMAGE)
            layer.end()
        if top != image:
            raise FieldError(f"the layers of the disk {target} do not end with its image")
        disk.end()


def images_of(capsule: Capsule) -> dict[str, str]:
    """The digests of all images that a host needs to start a capsule, by what they are.

    >>> images_of({"memory": None, "disks": [{"target": "vda", "image": "blocks:…"}]})
    {'disk vda': 'blocks:…'}
    """
    images = {f"disk {disk['target']}": disk["image"] for disk in capsule["disks"]}
    if capsule["memory"] is not None:
        images["memory"] = capsule["memory"]["image"]
    return images


def bases_of(capsule: Capsule) -> set[str]:
    """The digests of all bases and layers that a capsule stands on."""
    named: set[str] = set()
    for disk in capsule["disks"]:
        named.update(layer["image"] for layer in disk["layers"])
        if disk["base"] is not None:
            named.add(disk["base"])
    return named
