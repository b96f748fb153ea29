# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the next capsule of a guest will need of the far end, told before it is stopped.

from __future__ import annotations

import json
import os
import pathlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.fields import Fields
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition import definition_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.definition_file import Definition
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import guest_layers
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.guest_look import GuestLook
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import (
    memory_freeing,
    save_checks,
    save_record,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.saving import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host as hosts

SCHEMA = "kvmops.capsule_needs/1"
#: A definition has some ten KiB, the features of a CPU a few more.
MOST_BYTES = 4 * 1024**2
#: What of the guest and of its host decides whether another host can run it. What else a guest names is in its
#: definition.
_OF_GUEST = ("name", "uuid", "type", "arch", "machine", "state", "memory_bytes", "memory", "vcpus", "cpu", "group")
_OF_HOST = ("host", "host_uuid", "versions", "cpu")


def needs(connection: t.Any, domain: t.Any, store: CapsuleStore, host: str, state_dir: str) -> dict[str, t.Any]:
    """What the next capsule of a guest will need.

    Args:
        connection: to this host's libvirtd; read-only is enough.
        domain: the guest.
        store: of this host.
        host: its name.
        state_dir: where it keeps its records.
    """
    look = guest_look.look_at(domain, secure=False)
    kind = look.live.find("os/type")
    seen = hosts.snapshot(connection, name=host, state_dir=pathlib.Path(state_dir), only=look.uuid)
    described: dict[str, t.Any] = next(iter(seen["domains"]), {})
    memory = None
    if look.is_active:
        memory = {
            "format": save_checks.memory_format(connection, domain),
            "size_bytes": memory_freeing.memory_bytes(domain),
        }
    number, digest = _capsule(store, look)
    return {
        "schema": SCHEMA,
        "guest": {"name": look.name, "uuid": look.uuid},
        "number": number,
        "digest": digest,
        "made_on": host,
        "arch": "" if kind is None else kind.get("arch", ""),
        "machine": "" if kind is None else kind.get("machine", ""),
        "versions": versions(connection),
        "memory": memory,
        "nvram": look.nvram is not None,
        "disks": [_disk(store, look.uuid, disk) for disk in look.disks],
        "definition": _definition(look),
        "domain": {key: described[key] for key in _OF_GUEST if key in described},
        "source": {key: seen[key] for key in _OF_HOST},
    }


def _capsule(store: CapsuleStore, look: GuestLook) -> tuple[int, str | None]:
    """The number of the capsule that will be sent; and its digest, if an earlier run has made it."""
    record = save_record.read(store, look.uuid)
    if record is None or look.is_active:
        return store.next_number(look.uuid), None
    capsule = store.capsule(look.uuid, record.number)
    return record.number, capsule.digest if capsule is not None else None


def _disk(store: CapsuleStore, uuid: str, disk: guest_look.GuestDisk) -> dict[str, t.Any]:
    """A disk: what is in the files that nobody has hashed yet, and the images below them."""
    unknown, below = 0, []
    for layer in chain(disk.path, disk.form):
        image = guest_layers.image_at(store, uuid, layer.path)
        if image is not None:
            below.append({"image": image["image"], "bytes": os.stat(layer.path).st_blocks * 512})
        elif not below:
            unknown += os.stat(layer.path).st_blocks * 512
    return {"target": disk.target, "layer_bytes": unknown, "below": below}


def _definition(look: GuestLook) -> str:
    persistent = look.live if look.persistent is None else look.persistent
    running = look.live if look.is_active else None
    return definition_file.encoded(Definition(persistent, running, look.autostart)).decode("utf-8")


def encoded(needed: t.Mapping[str, t.Any]) -> bytes:
    """What is told, as bytes: these are signed as the capsule will be."""
    return json.dumps(needed, sort_keys=True, separators=(",", ":")).encode("ascii")


def parsed(data: bytes) -> dict[str, t.Any]:
    """What was told, if it has the right form. It is not trusted.

    Raises:
        CapsuleError: it has not.
    """
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"it has {len(data)} bytes, and {MOST_BYTES} is the most")
        told = json_text.parsed(data)
        _check(told)
    except ValueError as error:
        raise CapsuleError(
            "needs_damaged",
            f"what the guest needs is not told as this host knows it: {error}",
            "use the same version of kvmops.cluster on the controller and for both hosts, and run capsule_move again",
        ) from error
    return t.cast("dict[str, t.Any]", told)


def _check(told: t.Any) -> None:
    fields = Fields(told, "")
    fields.one_of("schema", (SCHEMA,))
    guest = fields.fields("guest")
    guest.text("name", r".{1,255}")
    guest.text("uuid", r"[0-9a-f-]{36}")
    guest.end()
    fields.number("number", 1, 2**53)
    fields.text_or_none("digest", r"sha256:[0-9a-f]{64}")
    for key in ("made_on", "arch", "machine"):
        fields.text(key, r".{0,255}")
    found = fields.fields("versions")
    for key in ("libvirt", "qemu"):
        found.text(key, r"[0-9.]{1,40}")
    found.end()
    memory = fields.fields_or_none("memory")
    if memory is not None:
        memory.one_of("format", ("sparse", "raw"))
        memory.number("size_bytes", 0, 2**53)
        memory.end()
    for disk in fields.listed("disks", 64):
        disk.text("target", r"[a-z0-9]{1,16}")
        disk.number("layer_bytes", 0, 2**53)
        for one in disk.listed("below", 64):
            one.text("image", r"blocks:[0-9a-f]{64}")
            one.number("bytes", 0, 2**53)
            one.end()
        disk.end()
    for key, kind in {"nvram": bool, "definition": str, "domain": dict, "source": dict}.items():
        if not isinstance(told.get(key), kind):
            raise ValueError(f"{key} is missing")
