# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which guest goes where: greedy, and never unsafe in between.

Guests are placed one after the other, those with the fewest possible destinations first and the largest of these before
the others; each goes where most memory stays free. Room that a guest leaves behind is never counted on. So whatever
order the moves finish in, and wherever a run stops, no host is overfull and no keep-apart group shares a host because
of it.

Rules that are never broken: compatibility (core/compatibility.py), what the path says, room and reserve, keep-apart
groups, and keep-together groups: they go to one host, or none of them goes. A group that is already torn is brought
together where that works, and not torn further where it does not.

The planner proper takes this module's seat: same wishes in, same steps and stays out.
"""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import compatibility, leaving, room
from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Snapshot,
    Stay,
    Step,
    group_of,
    guest_of,
    is_off,
    metadata_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.paths import PathRefusals, against
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, listed

#: Up to so many destinations each has its own refusal in a stay; more of them are told together by cause.
MOST_DESTINATIONS_TOLD = 3


class Wish(t.NamedTuple):
    """A guest that should leave its host for one of these. ``why`` explains a step whose destination was no choice."""

    domain: Domain
    source: str
    candidates: tuple[str, ...]
    why: str | None = None


class Placement(t.NamedTuple):
    steps: list[Step]
    stays: list[Stay]


class _Mover(t.NamedTuple):
    """A wish that can leave, with its whole intent and what is known against each candidate (room and groups apart)."""

    wish: Wish
    intent: dict[str, t.Any]
    against: t.Mapping[str, list[Refusal]]

    @property
    def domain(self) -> Domain:
        return self.wish.domain


#: Guests that go to one host or not at all; nearly always just one.
_Unit = list[_Mover]


class _Occupancy:
    """What each host holds by now: its own guests and those that are on their way to it."""

    def __init__(self, snapshots: t.Mapping[str, Snapshot], reserve_bytes: int) -> None:
        self.reserve_bytes = reserve_bytes
        self.rooms = {host: room.room_of(snapshot) for host, snapshot in snapshots.items()}
        self.members: dict[tuple[str, str, str], dict[str, str]] = collections.defaultdict(dict)
        for host, snapshot in snapshots.items():
            for domain in snapshot.get("domains") or []:
                if not is_off(domain):
                    self._note(domain, host)

    def _note(self, domain: Domain, host: str) -> None:
        for kind in ("apart", "together"):
            group = group_of(domain, kind)
            if group:
                self.members[kind, group, host][domain["uuid"]] = domain["name"]

    def add(self, domain: Domain, host: str) -> None:
        self.rooms[host] = room.after_taking(self.rooms[host], domain)
        self._note(domain, host)

    def others(self, domain: Domain, kind: str, host: str) -> list[str]:
        """Names of the other members of the guest's group on a host."""
        group = group_of(domain, kind)
        if not group:
            return []
        members = self.members.get((kind, group, host), {})
        return sorted(name for uuid, name in members.items() if uuid != domain["uuid"])

    def against(self, unit: _Unit, host: str) -> list[Refusal]:
        """Why the whole unit cannot go there as things stand: what is known, then groups, then room."""
        left = self.rooms[host]
        apart: set[str] = set()
        for mover in unit:
            group = group_of(mover.domain, "apart")
            if group is not None and group in apart:
                return [_contradiction(mover.domain)]
            apart.update([group] if group else [])
            found = mover.against[host] or self._apart(mover.domain, host)
            found = found or room.no_room(host, left, mover.domain, self.reserve_bytes)
            if found:
                return found
            left = room.after_taking(left, mover.domain)
        return []

    def _apart(self, domain: Domain, host: str) -> list[Refusal]:
        others = self.others(domain, "apart", host)
        if not others:
            return []
        group = group_of(domain, "apart")
        return [
            refusal(
                "keep_apart",
                f"{host} runs or will run {listed(others)}, from which {domain['name']} is kept apart (group {group})",
                f"add a host that runs no guest of group {group}, or take {domain['name']} out of that group",
            )
        ]


def _contradiction(domain: Domain) -> Refusal:
    together, apart = group_of(domain, "together"), group_of(domain, "apart")
    return refusal(
        "groups_contradict",
        f"{domain['name']} is kept together with (group {together}) and apart from (group {apart}) the same guest",
        "take it out of one of the two groups",
    )


def place(
    wishes: t.Sequence[Wish],
    snapshots: t.Mapping[str, Snapshot],
    run_intent: t.Mapping[str, t.Any],
    *,
    reserve_bytes: int = 0,
    paths: PathRefusals | None = None,
    excluded: t.Collection[str] = (),
) -> Placement:
    """Find a destination for every guest that can have one.

    Args:
        wishes: the guests to move; none of them is shut off.
        snapshots: every host by name, sources and candidates among them.
        run_intent: the run's intent as the operator stated it.
        reserve_bytes: memory that must stay free on every destination.
        paths: what the paths say against moves (core/paths.py).
        excluded: UUIDs of guests that the operator leaves out.

    Returns:
        Steps in the order in which they were decided, numbered from s001, and the guests that stay, with the reasons.
    """
    occupancy = _Occupancy(snapshots, reserve_bytes)
    movers: list[_Mover] = []
    stays: list[Stay] = []
    for wish in wishes:
        mover, refused = _mover(wish, snapshots, run_intent, paths or {}, excluded)
        if mover is None:
            stays.append(_stay(wish, refused))
        else:
            movers.append(mover)
    held = _held_back(movers, snapshots)
    stays.extend(_stay(m.wish, [held[m.domain["uuid"]]]) for m in movers if m.domain["uuid"] in held)
    steps, left = _placed(_units([m for m in movers if m.domain["uuid"] not in held]), occupancy)
    stays.extend(left)
    order = {wish.domain["uuid"]: number for number, wish in enumerate(wishes)}
    stays.sort(key=lambda stay: order[stay["guest"]["uuid"]])
    return Placement(steps, stays)


def _placed(units: list[_Unit], occupancy: _Occupancy) -> Placement:
    """Place unit after unit. A group that fits nowhere as a whole is tried by the hosts it is spread over already."""
    steps: list[Step] = []
    stays: list[Stay] = []
    while units:
        unit, options = _next(units, occupancy)
        units = [other for other in units if other is not unit]
        parts = _by_source(unit)
        if options:
            host, reason = _best(unit, options, occupancy)
            for mover in unit:
                occupancy.add(mover.domain, host)
                steps.append(_step(len(steps) + 1, mover, host, mover.wish.why or reason))
        elif len(parts) > 1:
            units.extend(parts)
        else:
            stays.extend(_stay(mover.wish, _nowhere(unit, mover, occupancy)) for mover in unit)
    return Placement(steps, stays)


def _mover(
    wish: Wish,
    snapshots: t.Mapping[str, Snapshot],
    run_intent: t.Mapping[str, t.Any],
    paths: PathRefusals,
    excluded: t.Collection[str],
) -> tuple[_Mover | None, list[Refusal]]:
    """Judge one guest by itself: either it may go, or these are the reasons why it stays."""
    domain, source = wish.domain, snapshots[wish.source]
    if domain["uuid"] in excluded:
        return None, [
            refusal("excluded", f"{domain['name']} is left out on request", "drop it from the exclusion to move it")
        ]
    try:
        intent = intents.merge(run_intent, metadata_of(domain).get("intent"), whose=f"metadata of {domain['name']}")
    except intents.IntentError as exc:
        return None, [refusal("intent", str(exc), "correct the kvmops:intent element in the guest's metadata")]
    refused = leaving.leaving(domain, source, intent)
    if refused:
        return None, refused
    known = {
        host: compatibility.arriving(domain, source, snapshots[host], intent)
        + against(paths, wish.source, host, domain["uuid"])
        for host in wish.candidates
    }
    return _Mover(wish, intent, known), []


def _units(movers: t.Sequence[_Mover]) -> list[_Unit]:
    """Bind the members of each keep-together group; every other guest is a unit of its own."""
    bound: dict[tuple[str, str], _Unit] = {}
    for mover in movers:
        group = group_of(mover.domain, "together")
        key = ("group", group) if group else ("guest", mover.domain["uuid"])
        bound.setdefault(key, []).append(mover)
    return list(bound.values())


def _held_back(movers: t.Sequence[_Mover], snapshots: t.Mapping[str, Snapshot]) -> dict[str, Refusal]:
    """Guests whose companions on the same host do not come along, by UUID: going without them would tear the group."""
    going = {mover.domain["uuid"] for mover in movers}
    held: dict[str, Refusal] = {}
    for mover in movers:
        group, source = group_of(mover.domain, "together"), mover.wish.source
        if group is None:
            continue
        staying = sorted(
            other["name"]
            for other in snapshots[source].get("domains") or []
            if group_of(other, "together") == group and not is_off(other) and other["uuid"] not in going
        )
        if staying:
            held[mover.domain["uuid"]] = refusal(
                "keep_together",
                f"{mover.domain['name']} is kept together with {listed(staying)} (group {group}), "
                f"which {'does' if len(staying) == 1 else 'do'} not leave {source}",
                f"let {listed(staying)} move too, or take {mover.domain['name']} out of that group",
            )
    return held


def _next(units: list[_Unit], occupancy: _Occupancy) -> tuple[_Unit, list[str]]:
    """The unit with the fewest destinations left, and these; among equals the largest, then by name."""
    return min(
        ((unit, _options(unit, occupancy)) for unit in units),
        key=lambda item: (
            len(item[1]),
            -sum(int(mover.domain["memory_bytes"]) for mover in item[0]),
            item[0][0].domain["name"],
            item[0][0].domain["uuid"],
        ),
    )


def _options(unit: _Unit, occupancy: _Occupancy) -> list[str]:
    return [
        host
        for host in unit[0].wish.candidates
        if all(host in mover.wish.candidates for mover in unit[1:]) and not occupancy.against(unit, host)
    ]


def _best(unit: _Unit, options: list[str], occupancy: _Occupancy) -> tuple[str, str]:
    """The destination where most stays free, companions first; and why, in a sentence."""
    companions = {host: occupancy.others(unit[0].domain, "together", host) for host in options}
    near = [host for host in options if companions[host]]
    free = {host: _free_after(unit, host, occupancy) for host in options}
    host = min(near or options, key=lambda name: (-free[name], name))
    if near:
        reason = (
            f"{host} has {listed(companions[host])} of its keep-together group {group_of(unit[0].domain, 'together')}"
        )
    elif len(options) == 1:
        reason = f"{host} is the only host that can take {'it' if len(unit) == 1 else 'its keep-together group'}"
    else:
        reason = f"{host} keeps the most memory free ({human_bytes(free[host])} after the move)"
    return host, reason


def _free_after(unit: _Unit, host: str, occupancy: _Occupancy) -> int:
    left = occupancy.rooms[host]
    for mover in unit:
        left = room.after_taking(left, mover.domain)
    return room.free_in_pool(left, unit[0].domain)


def _by_source(unit: _Unit) -> list[_Unit]:
    parts: dict[str, _Unit] = {}
    for mover in unit:
        parts.setdefault(mover.wish.source, []).append(mover)
    return list(parts.values())


def _nowhere(unit: _Unit, mover: _Mover, occupancy: _Occupancy) -> list[Refusal]:
    """Why a guest fits nowhere: for each destination while they are few, by cause when they are many."""
    if not mover.wish.candidates:
        return [
            refusal("no_destination", f"there is no other host for {mover.domain['name']}", "add a host to the cluster")
        ]
    causes: dict[tuple[str, str], Refusal] = {}
    hosts: dict[str, list[str]] = {}
    for host in mover.wish.candidates:
        for refused in occupancy.against([mover], host) or _group_refused(unit, mover, host, occupancy):
            causes.setdefault((refused["code"], refused["reason"]), refused)
            hosts.setdefault(refused["code"], []).append(host)
    if len(mover.wish.candidates) <= MOST_DESTINATIONS_TOLD:
        return list(causes.values())
    told: dict[str, Refusal] = {}
    for refused in causes.values():
        code, others = refused["code"], hosts[refused["code"]][1:]
        if code not in told:
            more = (
                f"; much the same for {listed(others)}"
                if others and refused["reason"] != _all_the_same(code, causes)
                else ""
            )
            told[code] = refusal(code, refused["reason"] + more, refused["remedy"])
    return list(told.values())


def _all_the_same(code: str, causes: t.Mapping[tuple[str, str], Refusal]) -> str | None:
    """The one reason given with a code, if it is the same for every destination."""
    reasons = [reason for found, reason in causes if found == code]
    return reasons[0] if len(reasons) == 1 else None


def _group_refused(unit: _Unit, mover: _Mover, host: str, occupancy: _Occupancy) -> list[Refusal]:
    """A guest could go to this host, but not with all of its keep-together group."""
    others = [other.domain["name"] for other in unit if other is not mover]
    found = occupancy.against(unit, host) or [refusal("keep_together", f"{host} is not open to all of them", "")]
    if found[0]["code"] == "groups_contradict":
        return found
    return [
        refusal(
            "keep_together",
            f"{mover.domain['name']} is kept together with {listed(others)}, and {found[0]['reason']}",
            found[0]["remedy"],
        )
    ]


def _step(number: int, mover: _Mover, destination: str, reason: str) -> Step:
    return {
        "id": f"s{number:03d}",
        "guest": guest_of(mover.domain),
        "source": mover.wish.source,
        "destination": destination,
        "memory_bytes": int(mover.domain["memory_bytes"]),
        "intent": mover.intent,
        "reason": reason,
        "strategy": None,
        "forecast": None,
        "after": [],
    }


def _stay(wish: Wish, refused: list[Refusal]) -> Stay:
    return {"guest": guest_of(wish.domain), "host": wish.source, "refusals": refused}
