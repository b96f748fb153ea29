# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Times of a run in which a source host sends no guest, each with the reason, as far as the records tell it."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_record import SENDING

#: A shorter time needs no explanation: it is what two libvirtds take to agree.
LEAST_S = 1.0


@dataclasses.dataclass(frozen=True)
class Span:
    """A phase of a move, in seconds since the start of the run."""

    phase: str
    start_s: float
    end_s: float


@dataclasses.dataclass(frozen=True)
class Moved:
    """One move as far as gaps go.

    Attributes:
        guest: its name.
        source, destination: names of hosts.
        spans: its phases, in order.
    """

    guest: str
    source: str
    destination: str
    spans: tuple[Span, ...]

    @property
    def sending(self) -> tuple[Span, ...]:
        return tuple(span for span in self.spans if span.phase in SENDING)


@dataclasses.dataclass(frozen=True)
class Gap:
    """A time in which a host sends nothing between two guests, and why."""

    host: str
    start_s: float
    end_s: float
    reason: str


def gaps(moves: t.Sequence[Moved]) -> list[Gap]:
    """The gaps of all sources, in the order of time."""
    found: list[Gap] = []
    for host in dict.fromkeys(move.source for move in moves):
        found += _gaps_of([move for move in moves if move.source == host and move.sending])
    return sorted(found, key=lambda gap: (gap.start_s, gap.host))


def _gaps_of(moves: t.Sequence[Moved]) -> list[Gap]:
    ordered = sorted(moves, key=lambda move: move.sending[0].start_s)
    found, free_at = [], None
    seen: list[Moved] = []
    for move in ordered:
        for span in move.sending:
            if free_at is not None and span.start_s - free_at >= LEAST_S:
                found.append(Gap(move.source, free_at, span.start_s, _reason(move, seen, free_at, span.start_s)))
            free_at = span.end_s if free_at is None else max(free_at, span.end_s)
        seen.append(move)
    return found


def _reason(move: Moved, before: t.Sequence[Moved], start_s: float, end_s: float) -> str:
    """Why nothing was sent until this guest was."""
    for phase, words in _OWN:
        if any(span.phase == phase and _overlap(span, start_s, end_s) for span in move.spans):
            return words.format(guest=move.guest, destination=move.destination)
    if any(
        span.phase == "prepare" and _overlap(span, start_s, end_s) and span.start_s > start_s for span in move.spans
    ):
        return f"both hosts were asked about {move.guest}, and its method was chosen"
    first = next((one for one in before if one.destination == move.destination), None)
    if first is not None and len([one for one in before if one.destination == move.destination]) == 1:
        return f"{first.guest} was the first guest to {move.destination}: {move.guest} waited until it was verified"
    if before:
        return f"{before[-1].guest} was verified, and {move.guest} was made ready"
    return "the records do not tell why"


#: What the guest that comes next was doing itself, the strongest reason first.
_OWN = (
    ("wait", "{guest} waited for {destination} or for others"),
    ("hook", "a hook of {guest} ran"),
    ("free_memory", "memory of {guest} was freed"),
)


def _overlap(span: Span, start_s: float, end_s: float) -> bool:
    return min(span.end_s, end_s) - max(span.start_s, start_s) > 0
