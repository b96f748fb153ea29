# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may have died: only a guest whose own QEMU or host was killed, or whose owner has ended it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Struck:
    """Where and when a fault struck.

    Attributes:
        guest: whose move it was.
        waiting: another guest that had not moved.
        source, destination: of that move.
        at: when it began, as the journal writes times.
        reached_at: when the phase was seen to begin.
        job: the process of the run.
    """

    guest: str
    waiting: str
    source: str
    destination: str
    at: str = ""
    reached_at: str = ""
    job: int | None = None


#: Where the memory of a moving guest is, by phase; before the switchover it is at the source.
AT_DESTINATION = ("verify", "hand-over")
AT_BOTH = ("switchover", "post-copy")


def holders(
    phase: str, struck: Struck, homes: Mapping[str, str], journal: Iterable[Mapping[str, Any]]
) -> dict[str, set[str]]:
    """Return for each guest the hosts whose QEMU it could not live without when the fault struck.

    Args:
        phase: of the move of the struck guest.
        struck: the fault.
        homes: where each guest ran before.
        journal: of the run.
    """
    held = {guest: {home} for guest, home in homes.items()}
    for line in journal:
        if line["event"] == "step.verified" and line["at"] <= struck.at and line["data"].get("verdict") == "moved":
            moved_to = next((one["data"]["destination"] for one in journal if _begins(one, line["guest"])), None)
            held[line["guest"]] = {moved_to} if moved_to else held[line["guest"]]
    if phase in AT_DESTINATION:
        held[struck.guest] = {struck.destination}
    elif phase in AT_BOTH:
        held[struck.guest] = {struck.source, struck.destination}
    return held


def _begins(line: Mapping[str, Any], guest: str) -> bool:
    return bool(line["event"] == "migration.started" and line["guest"] == guest)


def may_be_dead(kills: str, end: str, struck: Struck, held: Mapping[str, set[str]]) -> set[str]:
    """Return the guests that may have died by it.

    Args:
        kills: C(guest), C(host) or nothing.
        end: C(source) or C(destination).
        struck: the fault.
        held: by L(holders).
    """
    host = struck.source if end == "source" else struck.destination
    candidates = {"guest": [struck.guest], "host": list(held)}.get(kills, [])
    return {guest for guest in candidates if host in held[guest]}


def lateness(journal: Sequence[Mapping[str, Any]], guest: str, over: Sequence[str], struck: Struck) -> str | None:
    """Return which event shows that a phase was over before the fault struck; None: it struck within the phase."""
    for line in journal:
        if line["guest"] == guest and line["event"] in over and struck.reached_at <= line["at"] < struck.at:
            return f"{line['event']} at {line['at']}, before the fault at {struck.at}"
    return None
