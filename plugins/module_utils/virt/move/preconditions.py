# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether a guest may be moved now, as both hosts say just before it. Asks, and changes
# nothing.

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import connect_uri
from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Result, Step, step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility, copied_disks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.expected_deltas import too_old
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.lazy_move import LazyMove
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import cpu_check, destination, host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.hosts import Hosts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.ports import closed_to_disks
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import disk_copy_check, saved_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.disk_copies import DiskCopies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.disk_deltas import (
    NO_DELTAS,
    Deltas,
    proposed,
)


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the two hosts say just before a move.

    Attributes:
        source, destination: their snapshots.
        guest: its part of the source's snapshot; empty when it is gone.
        intent: of this move, complete.
        refusals: every reason not to move the guest.
        deltas: of which disks only what differs from an old copy at the destination is sent.
    """

    source: dict[str, t.Any]
    destination: dict[str, t.Any]
    guest: dict[str, t.Any]
    intent: dict[str, t.Any]
    refusals: list[Refusal]
    deltas: Deltas = NO_DELTAS


class Preconditions:
    """Asks both hosts of a step whether its guest may be moved.

    Args:
        hosts: who is asked.
        settings: of all moves.
        copies: knows which images at a destination may be overwritten.
        lazy: knows which disks can come after their guest.
    """

    def __init__(self, hosts: Hosts, settings: Settings, copies: DiskCopies, lazy: LazyMove) -> None:
        self._hosts = hosts
        self._settings = settings
        self._copies = copies
        self._lazy = lazy

    def ask(self, step: Step) -> Answers:
        """Ask this host about the guest, and the destination about itself, as they are now."""
        source, target = self._hosts.endpoints(step)
        here, there = (link.connection for link in self._hosts.links(step))
        uuid = step["guest"]["uuid"]
        local = host.snapshot(
            here,
            name=source.host,
            state_dir=pathlib.Path(self._settings.state_dir),
            only=uuid,
            shared_devices=self._settings.shared_devices,
        )
        # Without the guest, which was there a moment ago, the caller's next call says that it is gone.
        guest = next(iter(local["domains"]), None)
        remote = destination.snapshot(there, target.host, guest, here)
        intent = intents.normalise(step["intent"])
        if guest is None:
            return Answers(local, remote, {}, intent, [_vanished(step)])
        if guest["name"] != step["guest"]["name"]:
            return Answers(local, remote, guest, intent, [_other_name(step, guest["name"])])
        exposed = connect_uri.unencrypted(target.uri) if intent["encryption"] == "required" else None
        if exposed is not None:
            return Answers(local, remote, guest, intent, [exposed])
        deltas = NO_DELTAS
        refusals = compatibility.refusals(guest, local, remote, intent, reserve_bytes=self._settings.reserve_bytes)
        if not refusals:
            ours = self._copies.ours(there, guest, intent, target.host)
            deltas = proposed(there, guest, intent, target.host, ours, too_old(local, remote))
            guest = deltas.in_guest(guest)
            refusals = [
                *cpu_check.refusals(there, guest, target.host),
                *disk_copy_check.refusals(there, guest, local, remote, intent, ours=ours, changed=deltas.changed),
                *saved_memory.refusals(here, source.host, uuid),
                *saved_memory.refusals(there, target.host, uuid),
            ]
        if not refusals and copied_disks.to_copy(guest, intent):
            refusals = self._lazy.refusals(guest, remote, intent) or self._closed_ports(step, there)
        return Answers(local, remote, guest, intent, refusals, deltas)

    def _closed_ports(self, step: Step, there: t.Any) -> list[Refusal]:
        """Why disks cannot be copied. Where nobody has stated the ports of a destination, its path was tried before."""
        source, target = self._hosts.endpoints(step)
        known = self._settings.destinations[target.host]
        if not known.get("ports"):
            return []
        address = known.get("migration_address") or there.getHostname()
        found = closed_to_disks(source.host, target.host, str(address).strip("[]"), known["ports"])
        return [found] if found else []


def nothing_to_move(step: Step, here: Side, there: Side) -> Result | None:
    """The result of a step whose guest is at its destination already, or not at its source; None for all others."""
    guest = step["guest"]["name"]
    if there.active and not here.active and not there.migrating and there.state == "running":
        return step_result(step, "already_there")
    if here.state == "absent" and there.state == "absent":
        why = refusal(
            "unknown_guest",
            f"there is no guest {guest} on {here.host}, nor on {there.host}",
            f"see what runs where (virsh list --all on {here.host}), or make a new plan",
        )
        return step_result(step, "refused", refusals=[why])
    if here.state == "absent":
        why = refusal(
            "not_here",
            f"{guest} is not on {here.host}: it is {there.describe()}",
            f"see why it does not run there: virsh domstate --reason {quoted(guest)} on {there.host}",
        )
        return step_result(step, "refused", refusals=[why])
    return None


def _vanished(step: Step) -> Refusal:
    name, source = step["guest"]["name"], step["source"]
    return refusal("vanished", f"{name} has just left {source}", "see who stopped or moved it, and run again")


def _other_name(step: Step, name: str) -> Refusal:
    guest = step["guest"]
    return refusal(
        "other_guest",
        f"the guest {guest['uuid']} on {step['source']} is {name}, not {guest['name']}",
        "make a new plan, and see who changed this one",
    )
