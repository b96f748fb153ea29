# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the modules that move guests share. They call this, and nothing else of this room.

from __future__ import annotations

import contextlib
import difflib
import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal, sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import capabilities
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import kept_settings, left_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.guest_look import find
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import left_digests
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.reporting import (
    JournalWriter,
    MoveReporter,
    ProgressWriter,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.definitions import hand_over_left
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.hosts import Hosts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.mover import GuestMover
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.memory_return import give_back_all
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import PreparationOptions

KIB = 1024


def host_uuid(connections: Connections, uri: str) -> str | None:
    """A host's UUID as its own libvirtd gives it."""
    connection = connections.get(uri).connection
    return capabilities.host_uuid(capabilities.parse(connection.getCapabilities()))


def find_guest(connections: Connections, shared: Settings, wanted: str, target: str) -> tuple[dict[str, str], int]:
    """A guest that is on this host or at its destination: its name and UUID, and the bytes of its memory.

    Args:
        wanted: its name or UUID.
        target: the destination's name.

    Raises: VirtError when neither host knows it.
    """
    places = {shared.source.host: shared.source.uri, target: shared.destinations[target]["connect_uri"]}
    known: list[str] = []
    for uri in places.values():
        connection = connections.get(uri).connection
        domain = find(connection, wanted)
        if domain is not None:
            return {"name": domain.name(), "uuid": domain.UUIDString()}, domain.maxMemory() * KIB
        known.extend(other.name() for other in connection.listAllDomains())
    close = difflib.get_close_matches(wanted, known, n=1)
    raise virt.VirtError(
        refusal(
            "unknown_guest",
            f"there is no guest {wanted[:200]} on {', nor on '.join(places)}",
            f"did you mean {close[0]}?" if close else f"see what runs where: virsh list --all on {shared.source.host}",
        )
    )


class NoProgress:
    """Shows nothing, for check mode."""

    def write(self, phase: str, message: str, *, step: Step | None = None, level: int = 0, **figures: t.Any) -> None:
        """Show nothing."""

    def due(self, step: Step, phase: str) -> bool:
        """Never."""
        return False


def checking_mover(connections: Connections, shared: Settings) -> GuestMover:
    """What only checks moves, and reports to nobody."""
    never = threading.Event()
    return GuestMover(MoveContext(connections, shared, MoveReporter(None, NoProgress(), utc_now), never, never))


def mover(
    connections: Connections,
    shared: Settings,
    journal: JournalWriter | None,
    progress: ProgressWriter,
    interrupted: threading.Event,
    stopping: threading.Event,
    preparation: PreparationOptions | None = None,
) -> GuestMover:
    """What moves guests.

    Args:
        connections: writable ones.
        shared: what all moves of the run share.
        journal: keeps events; None keeps none.
        progress: shows lines.
        interrupted: when set, what is in pre-copy is aborted.
        stopping: when set, no guest is sent any more.
        preparation: what is done to each guest around its move.
    """
    reporter = MoveReporter(journal, progress, utc_now)
    return GuestMover(MoveContext(connections, shared, reporter, interrupted, stopping), preparation)


def give_back_memory(
    connections: Connections, shared: Settings, journal: JournalWriter | None, progress: ProgressWriter
) -> None:
    """Give back to the guests of this host the memory that a run that died has taken by their balloons."""
    connection = connections.get(shared.source.uri).connection

    def told(event: str, phase: str, message: str, *, level: int = 0, **data: t.Any) -> None:
        if journal:
            with contextlib.suppress(OSError):
                journal.write(event, **data)
        progress.write(phase, message, level=level)

    give_back_all(shared.state_dir, connection.lookupByUUIDString, told)


def hand_over_left_settings(
    connections: Connections,
    shared: Settings,
    steps: t.Sequence[Step],
    journal: JournalWriter | None,
    progress: ProgressWriter,
) -> None:
    """Set at the destination what runs that died had on record of guests that they sent.

    A guest that has a step in this run is left to its step.
    """
    hosts, own = Hosts(connections, shared), {step["guest"]["uuid"] for step in steps}
    for uuid in kept_settings.guests(shared.state_dir):
        kept = None if uuid in own else kept_settings.read(shared.state_dir, uuid)
        corrections = None if kept is None else hand_over_left(hosts, shared.state_dir, kept)
        if kept is None or corrections is None:
            continue
        if journal:
            with contextlib.suppress(OSError):
                journal.write("settings.handed_over", uuid=uuid, corrected=corrections.done)
        what = "; ".join([*corrections.done, *(sentence(fault) for fault in corrections.faults)])
        if what:
            progress.write("setup", f"{kept['name']} was moved by a run that died: {what}")


def digest_left(results: t.Iterable[t.Mapping[str, t.Any]], state_dir: str) -> None:
    """Compute digests of the images that guests have left here, in a process that outlives this one.

    Called last, when all connections are closed.

    Args:
        results: of the steps.
        state_dir: where this host keeps its records.
    """
    left = {
        result["guest"]["uuid"]
        for result in results
        if any(not left_copies.digests_are_there(disk) for disk in result.get("left_copies") or ())
    }
    left_digests.compute_later(state_dir, left)


def diff(results: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
    """Where each guest that moves is before and after, for Ansible's diff mode."""
    moving = [one for one in results if one["outcome"] in ("moved", "would_move")]
    return {
        "before": {one["guest"]["name"]: one["source"] for one in moving},
        "after": {one["guest"]["name"]: one["destination"] for one in moving},
    }


def summary(undone: t.Sequence[t.Mapping[str, t.Any]], total: int) -> str:
    """One sentence for each guest that did not move as wanted."""
    reasons = []
    for one in undone:
        why = "; ".join(sentence(refused) for refused in one["refusals"]) or one["error"] or one["outcome"]
        reasons.append(f"{one['guest']['name']} ({one['outcome']}): {why}")
    return visible(f"{len(undone)} of {total} guests did not move. " + " | ".join(reasons))
