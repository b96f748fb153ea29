# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The shape of a snapshot that was saved, as docs/schemas/snapshot.schema.json describes it for other programs.

Keys that are not named here are let pass: a later release may have added them, and nothing here reads them.
"""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.document_shapes import GUEST, REFUSAL
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import SNAPSHOT

_NAME = shape.text(r"(?s).+", "a name")
_TEXT = shape.text()
_WORD = shape.or_null(_TEXT)
_TRUTH = shape.or_null(shape.truth)
_COUNT = shape.or_null(shape.whole(0))
_ONE_OR_MORE = shape.or_null(shape.whole(1))
_AMOUNT = shape.or_null(shape.number(0))
_TEXTS = shape.or_null(shape.list_of(_TEXT))
_REFUSALS = shape.list_of(REFUSAL)

_CELL = shape.mapping(
    {
        "id": shape.whole(0),
        "cpus": _COUNT,
        "memory_bytes": _COUNT,
        "free_bytes": _COUNT,
        "pages": shape.list_of(shape.mapping({"size_bytes": shape.whole(1), "free": _COUNT}, others=True)),
    },
    others=True,
)

_CAPACITY = shape.mapping(
    {
        "cpus": _ONE_OR_MORE,
        "memory_bytes": _COUNT,
        "available_bytes": _COUNT,
        "cells": shape.or_null(shape.list_of(_CELL)),
    },
    others=True,
)

_EMULATOR = shape.mapping(
    {
        "type": _TEXT,
        "arch": _TEXT,
        "emulator": _WORD,
        "machines": shape.list_of(_TEXT),
        "cpu_models_usable": _TEXTS,
    },
    others=True,
)

_CAPABILITY = shape.mapping({"usable": _TRUTH, "reason": _WORD, "remedy": _WORD}, others=True)

_MIGRATION = shape.mapping(
    {
        "live": _TRUTH,
        "transports": _TEXTS,
        **dict.fromkeys(("postcopy", "postcopy_recover", "parallel", "tls"), _CAPABILITY),
        "compression": _TEXTS,
        "known_bugs": _REFUSALS,
    },
    {
        "lock_manager": _WORD,
        "incoming": shape.mapping(
            {"host": _WORD, "listen": _WORD, "first_port": shape.whole(1), "last_port": shape.whole(1)}, others=True
        ),
    },
    others=True,
)

_LINK = shape.mapping(
    {"name": _TEXT, "addresses": shape.list_of(_TEXT), "speed_mbit": _COUNT, "up": _TRUTH},
    {"mtu": _ONE_OR_MORE},
    others=True,
)

_MOUNT = shape.mapping(
    {"path": _TEXT, "type": _TEXT, "source": _WORD, "shared": _TRUTH},
    {"address": _TEXT, "fsid": _TEXT, "mac": _TEXT, "server": _TEXT},
    others=True,
)

MAINTENANCE = shape.mapping(
    {
        "state": shape.one_of("active", "cordoned", "maintenance"),
        "owner": _WORD,
        "reason": _WORD,
        "since": _WORD,
    },
    {"schema": _TEXT, "autostart": shape.list_of(GUEST)},
    others=True,
)

_POOL = shape.mapping(
    {
        "name": _TEXT,
        "type": _WORD,
        "path": _WORD,
        "active": shape.truth,
        "capacity_bytes": _COUNT,
        "available_bytes": _COUNT,
        "volumes": _TEXTS,
    },
    others=True,
)

_RESOURCES = shape.mapping(
    {
        **dict.fromkeys(("links", "bridges", "switches", "addresses", "secrets", "filters"), _TEXTS),
        **dict.fromkeys(("security_models", "partitions"), _TEXTS),
        **{kind: shape.or_null(shape.mapping_of(shape.truth)) for kind in ("networks", "pools")},
        "cpus": _WORD,
        "files": shape.mapping_of(_TRUTH),
        "listed": shape.list_of(_TEXT),
    },
    {"mounted": shape.mapping_of(_TEXT)},
    others=True,
)

_LAYER = shape.mapping(
    {"type": _WORD, "source": _TEXT, "role": shape.one_of("backing", "data")},
    others=True,
)

_DISK = shape.mapping(
    {
        "target": _WORD,
        "type": _WORD,
        "format": _WORD,
        "source": _WORD,
        "readonly": shape.truth,
        "shareable": shape.truth,
        "cache": _WORD,
        "capacity_bytes": _COUNT,
        "allocation_bytes": _COUNT,
        "shared": _TRUTH,
        "shared_why": _WORD,
    },
    {
        "backing": shape.list_of(_WORD),
        "device": _TEXT,
        "servers": shape.list_of(_TEXT),
        "data_bytes": _COUNT,
        "layers": shape.list_of(_LAYER),
        "startup_policy": shape.or_null(shape.one_of("optional", "requisite")),
        "uncopyable": shape.or_null(REFUSAL),
        "written_bytes": _COUNT,
    },
    others=True,
)

_MEMORY_PART = shape.mapping(
    {
        "bytes": shape.whole(0),
        "page_bytes": _ONE_OR_MORE,
        "host_cells": shape.or_null(shape.list_of(shape.whole(0))),
    },
    others=True,
)

_METADATA = shape.mapping(
    {
        "home": _WORD,
        "group": shape.or_null(shape.mapping({"apart": _WORD, "together": _WORD}, others=True)),
        "intent": shape.or_null(shape.mapping({}, others=True)),
    },
    others=True,
)

_REQUIREMENT = shape.mapping(
    {"kind": _TEXT, "name": _NAME},
    {"what": _TEXT, "address": _TEXT, "fixed": shape.truth},
    others=True,
)

_LIMITS = shape.mapping(
    {"memory_bytes": _COUNT, **dict.fromkeys(("cpus", "emulator_cpus", "vcpu_cpus"), _AMOUNT)}, others=True
)

DOMAIN = shape.mapping(
    {
        "name": _NAME,
        "uuid": _TEXT,
        "state": _TEXT,
        "state_reason": _WORD,
        "persistent": _TRUTH,
        "autostart": _TRUTH,
        "type": _WORD,
        "arch": _WORD,
        "machine": _WORD,
        "emulator": _WORD,
        "vcpus": _ONE_OR_MORE,
        "memory_bytes": shape.or_null(shape.whole(0)),
        "hugepage_bytes": _ONE_OR_MORE,
        "balloon": shape.or_null(
            shape.mapping(
                {"current_bytes": _COUNT, "unused_bytes": _COUNT, "rss_bytes": _COUNT, "age_s": _AMOUNT}, others=True
            )
        ),
        "cpu": shape.or_null(shape.mapping({"mode": _WORD, "model": _WORD, "xml": _WORD}, others=True)),
        "disks": shape.list_of(_DISK),
        "interfaces": shape.list_of(shape.mapping({"type": _WORD, "source": _WORD, "mac": _WORD}, others=True)),
        "job": shape.or_null(shape.either(shape.mapping({}, others=True), _TEXT)),
        "blockers": _REFUSALS,
        "metadata": shape.or_null(_METADATA),
    },
    {
        "tpm": shape.truth,
        "local_nvram": _WORD,
        "cpus_used": _AMOUNT,
        "memory_parts": shape.list_of(_MEMORY_PART),
        "limits": shape.or_null(_LIMITS),
        "remarks": _REFUSALS,
        "managed_by": _WORD,
        "requires": shape.list_of(_REQUIREMENT),
    },
    others=True,
)

_CPU = shape.mapping(
    {"arch": _WORD, "model": _WORD, "vendor": _WORD, "features": _TEXTS}, {"identity": _TEXTS}, others=True
)

SHAPE = shape.mapping(
    {
        "schema": shape.one_of(SNAPSHOT),
        "host": _NAME,
        "hostname": _WORD,
        "host_uuid": _TEXT,
        "taken_at": _TEXT,
        "versions": shape.mapping(dict.fromkeys(("libvirt", "qemu", "binding", "kernel"), _WORD), others=True),
        "capacity": _CAPACITY,
        "cpu": shape.or_null(_CPU),
        "emulators": shape.or_null(shape.list_of(_EMULATOR)),
        "migration": shape.or_null(_MIGRATION),
        "links": shape.or_null(shape.list_of(_LINK)),
        "mounts": shape.or_null(shape.list_of(_MOUNT)),
        "sysctls": shape.or_null(shape.mapping_of(_WORD)),
        "maintenance": shape.or_null(MAINTENANCE),
        "domains": shape.list_of(DOMAIN),
    },
    {
        "pressure": shape.or_null(shape.mapping(dict.fromkeys(("cpu", "memory", "io"), _AMOUNT), others=True)),
        "storage_pools": shape.or_null(shape.list_of(_POOL)),
        "left_copies": shape.or_null(
            shape.list_of(shape.mapping({"uuid": _TEXT, "path": _TEXT}, {"digests": shape.truth}, others=True))
        ),
        "begun_copies": shape.or_null(
            shape.list_of(shape.mapping({"uuid": _TEXT, "destination": _TEXT, "path": _TEXT}, others=True))
        ),
        "rights": shape.or_null(
            shape.mapping({"user": _TEXT, "root": shape.truth, "checks_calls": shape.truth}, others=True)
        ),
        "capsule_tools": shape.or_null(shape.mapping_of(shape.truth)),
        "resources": shape.or_null(_RESOURCES),
    },
    others=True,
)
