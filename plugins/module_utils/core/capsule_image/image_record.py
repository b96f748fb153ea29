# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The record of an image that a host has (docs/contracts.md, "Image record"): where it is, and what it stands on."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import MOST_IMAGE_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.fields import FieldError, Fields

SCHEMA = "kvmops.capsule_image/1"

ImageRecord = dict[str, t.Any]

#: C(memory): a file in which libvirt has saved the memory of a guest.
DISK, MEMORY = "disk", "memory"
KINDS = (DISK, MEMORY)
FORMATS = ("raw", "qcow2")
#: What shows cheaply whether a file is still the one that was sealed. The time is that of its content.
FACTS = ("inode", "size_bytes", "mtime_ns")
IMAGE = r"blocks:[0-9a-f]{64}"

_PATH = r"/[^\x00-\x1f\x7f]{1,4000}"
_WORD = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
#: Of the kernel: 64 bits, with a sign.
_MOST_FACT = 2**63 - 1
_AT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"


def record_of(
    image: str,
    *,
    kind: str,
    path: str,
    form: str,
    size_bytes: int,
    facts: t.Mapping[str, int],
    sealed_at: str,
    trust_domain: str,
    backing: str | None = None,
    base: bool = False,
) -> ImageRecord:
    """The record of an image.

    Args:
        image: its name (C(BlockManifest.name)).
        kind: C(DISK) or C(MEMORY).
        path: of its file.
        form: C(raw) or C(qcow2).
        size_bytes: of what a guest sees.
        facts: inode, size_bytes and mtime_ns of the file.
        sealed_at: the time, as in all documents.
        trust_domain: the operator's word.
        backing: name of the image that the file is a layer on; None: it has everything itself.
        base: whether it was sealed as a base.

    Raises:
        FieldError: one of them is not possible.
    """
    record = {
        "schema": SCHEMA,
        "image": image,
        "kind": kind,
        "path": path,
        "format": form,
        "size_bytes": size_bytes,
        "backing": backing,
        "base": base,
        "trust_domain": trust_domain,
        "sealed_at": sealed_at,
        "facts": {key: facts[key] for key in FACTS},
    }
    check(record)
    return record


def parsed(document: t.Any, image: str, what: str) -> ImageRecord:
    """The record in a document that was read from a file.

    Args:
        document: what the file holds.
        image: name of the image that it must be of.
        what: the file, for messages.

    Raises:
        CapsuleError: it is damaged, or of another image.
    """
    try:
        check(document)
        if document["image"] != image:
            raise FieldError(f"it is of {document['image']}")
    except FieldError as error:
        raise CapsuleError(
            "image_record_damaged",
            f"{what} does not say what image it is of: {error}",
            f"remove {what}, and seal the image again with capsule_base, or send its capsule again",
        ) from error
    return t.cast(ImageRecord, document)


def check(document: t.Any) -> None:
    """Hold a record against its definition.

    Raises:
        FieldError: a part is missing, unknown or not possible.
    """
    record = Fields(document, "")
    record.one_of("schema", (SCHEMA,))
    record.text("image", IMAGE)
    kind = record.one_of("kind", KINDS)
    record.text("path", _PATH)
    form = record.one_of("format", FORMATS)
    record.number("size_bytes", 0, MOST_IMAGE_BYTES)
    backing = record.text_or_none("backing", IMAGE)
    record.text("trust_domain", _WORD)
    record.text("sealed_at", _AT)
    record.flag("base")
    facts = record.fields("facts")
    for key in FACTS:
        facts.number(key, 0, _MOST_FACT)
    facts.end()
    record.end()
    if backing is not None and form != "qcow2":
        raise FieldError(f"a {form} image cannot stand on another one")
    if kind == MEMORY and form != "raw":
        raise FieldError("a file with memory is read as it is")


def facts_differ(record: ImageRecord, now: t.Mapping[str, int] | None) -> str | None:
    """Why an image is not known to be as it was when it was sealed, as a sentence without a full stop; or None.

    Args:
        record: of the image.
        now: inode, size_bytes and mtime_ns of its file; None: there is no such file.
    """
    if now is None:
        return f"{record['path']} is not there any more"
    facts = record["facts"]
    if now["size_bytes"] != facts["size_bytes"]:
        return f"{record['path']} has {now['size_bytes']} bytes now, and had {facts['size_bytes']} when it was sealed"
    if now["mtime_ns"] != facts["mtime_ns"]:
        return f"{record['path']} was written to after it was sealed"
    if now["inode"] != facts["inode"]:
        return f"{record['path']} is another file than the one that was sealed"
    return None
