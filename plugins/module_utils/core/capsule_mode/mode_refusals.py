# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which modes two hosts cannot do for a guest, whatever the link: what it has, and what they are."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.mode_costs import (
    CARRY,
    LAZY,
    LIVE,
    SUSPENDED,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import managers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility, copy_destination
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.capsule_tools import (
    LIBVIRT_LAZY,
    LIBVIRT_SPARSE,
    tool_refusal,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.evacuability import refusals as own_refusals


def mode_refusals(domain: Domain, source: Snapshot, destination: Snapshot, intent: Intent) -> dict[str, Refusal]:
    """Why a mode cannot be had, by mode. Modes that are not in it can be had, as far as anybody knows.

    Args:
        domain: the guest.
        source, destination: snapshots of both hosts.
        intent: with its defaults.
    """
    found: dict[str, Refusal] = {}
    migrating = (
        _first(own_refusals(domain, source, intent))
        or _first(compatibility.destination_refusals(domain, source, destination, intent))
        or _first(copy_destination.refusals(domain, source, destination, intent))
    )
    if migrating:
        found[LIVE] = found[LAZY] = migrating
    lazy = _no_lazy(destination)
    if lazy:
        found.setdefault(LAZY, lazy)
    tools = tool_refusal(source) or tool_refusal(destination)
    saved = tools or _not_saved(domain, intent) or _not_started(domain, source, destination, intent)
    if saved:
        found[SUSPENDED] = found[CARRY] = saved
    return found


def has_sparse(source: Snapshot, destination: Snapshot) -> bool:
    """Whether memory that was saved can be compared with what was saved before. Where it is not known, it can."""
    both = [versions.parsed((one.get("versions") or {}).get("libvirt")) for one in (source, destination)]
    return all(one is None or one >= LIBVIRT_SPARSE for one in both)


def _no_lazy(destination: Snapshot) -> Refusal | None:
    found = versions.parsed((destination.get("versions") or {}).get("libvirt"))
    if found is None or found >= LIBVIRT_LAZY:
        return None
    host, least = destination["host"], versions.shown(LIBVIRT_LAZY)
    return refusal(
        "lazy_libvirt",
        f"libvirt {versions.shown(found)} of {host} cannot wait for a disk that has not come",
        f"upgrade libvirt on {host} to {least} or later",
    )


def _not_saved(domain: Domain, intent: Intent) -> Refusal | None:
    """What keeps the guest from being saved: devices of the host hold state that no capsule has."""
    found = [managers.managed(domain, intent)]
    if not is_off(domain):
        found += [refusal(one["code"], one["reason"], one["remedy"] or "") for one in domain.get("blockers") or []]
    return _first([one for one in found if one])


def _not_started(domain: Domain, source: Snapshot, destination: Snapshot, intent: Intent) -> Refusal | None:
    """What the far end has against it.

    A capsule brings the disks that the far end does not share. It goes through ssh, and nothing of it migrates.
    """
    disks = [disk for disk in domain.get("disks") or [] if disk.get("shared") is not False]
    there = {**destination, "migration": {}}
    found = compatibility.destination_refusals(
        {**domain, "disks": disks}, source, t.cast(Snapshot, there), {**intent, "encryption": "off"}
    )
    return _first(found)


def _first(refusals: t.Sequence[Refusal]) -> Refusal | None:
    return refusals[0] if refusals else None
