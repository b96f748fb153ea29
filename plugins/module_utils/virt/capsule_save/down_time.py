# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: how long a guest stands still while it is saved with its memory, from how long it took the
# last times on this host.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore

SCHEMA = "kvmops.capsule_rates/1"
#: Without any memory: libvirt and QEMU start and end in about this time (11.3 and 10.0, 128 MiB guest, 1.32 s in all).
FIXED_S = 0.9
#: Where nothing was measured yet: 76 MB in 0.35 s to the page cache of the lab, and a disk that writes as fast as SSDs.
USUAL_BYTES_PER_S = 220e6


class Forecast(t.NamedTuple):
    """How long a guest will stand still.

    Attributes:
        down_s: seconds.
        measured: whether the rate is one of this host.
    """

    down_s: float
    measured: bool


def forecast(store: CapsuleStore, memory_bytes: int, *, restores: bool) -> Forecast:
    """How long a guest with so much memory in use will stand still.

    Args:
        store: of this host.
        memory_bytes: what will be written.
        restores: whether it goes on afterwards; the time until it goes on elsewhere is not known here.
    """
    known = _read(store)
    save_rate = known.get("save_bytes_per_s") or USUAL_BYTES_PER_S
    restore_rate = known.get("restore_bytes_per_s") or USUAL_BYTES_PER_S
    seconds = FIXED_S / 2 + memory_bytes / save_rate
    if restores:
        seconds += FIXED_S / 2 + memory_bytes / restore_rate
    return Forecast(round(seconds, 2), "save_bytes_per_s" in known)


def learn(store: CapsuleStore, memory_bytes: int, saved_s: float, restored_s: float | None) -> None:
    """Remember how fast memory was written and read. Half of it is what was known before."""
    known = _read(store)
    for key, seconds in (("save_bytes_per_s", saved_s), ("restore_bytes_per_s", restored_s)):
        if seconds is None or memory_bytes <= 0:
            continue
        rate = memory_bytes / max(0.05, seconds - FIXED_S / 2)
        known[key] = round((known[key] + rate) / 2 if key in known else rate)
    durable_files.write_json(_path(store), {"schema": SCHEMA, **known})


def _path(store: CapsuleStore) -> str:
    return f"{store.directory}/rates.json"


def _read(store: CapsuleStore) -> dict[str, float]:
    try:
        document = durable_files.read_json(_path(store))
    except CapsuleError:
        # A forecast is no reason to stop a save.
        return {}
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return {}
    return {
        key: float(value)
        for key, value in document.items()
        if key in ("save_bytes_per_s", "restore_bytes_per_s") and isinstance(value, (int, float)) and value > 0
    }
