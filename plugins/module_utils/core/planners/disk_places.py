# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find the destinations that have no place for the disks of a guest, where disks are copied with it."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Snapshot,
    is_off,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.guest_intent import guest_intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import (
    copied_disks,
    copy_destination,
    left_copies,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.path_refusals import PathRefusals


def with_disk_places(
    paths: PathRefusals, snapshots: t.Mapping[str, Snapshot], run_intent: t.Mapping[str, t.Any]
) -> PathRefusals:
    """What stands against each guest on each path, with what the destination's storage pools say.

    Args:
        paths: refusals by source, destination and UUID of the guest.
        snapshots: every host by name.
        run_intent: as the operator stated it.
    """
    if not run_intent.get("allow_storage_copy"):
        return paths
    found: dict[tuple[str, str, str], t.Sequence[Refusal]] = dict(paths)
    for name, source in snapshots.items():
        for domain in source.get("domains") or []:
            if is_off(domain) or not any(map(copied_disks.is_copied, domain.get("disks") or ())):
                continue
            intent = guest_intent(domain, run_intent)
            if intent is None or not intent["allow_storage_copy"]:
                continue
            for other, destination in snapshots.items():
                if other == name:
                    continue
                uuid, begun = domain["uuid"], source.get("begun_copies")
                ours = left_copies.unchanged_of(destination, uuid) | left_copies.begun_at(begun, destination, uuid)
                why = copy_destination.refusals(domain, source, destination, intent, ours=ours)
                if why:
                    key = (name, other, domain["uuid"])
                    found[key] = [*found.get(key, ()), *why]
    return found
