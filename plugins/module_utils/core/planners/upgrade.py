# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Plan a rolling upgrade: the order of hosts, and where the guests of each host go."""

from __future__ import annotations

import functools
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Stay, Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import n_plus_one, no_destination
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import Move
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.rolling_order import (
    Wave,
    WaveOrder,
    order_waves,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import (
    ANY_TIME,
    Window,
    expectation,
    stays_of,
    steps_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed


class UpgradeWave(t.NamedTuple):
    """Hosts to empty and upgrade at the same time; their steps, the guests that stay, the seconds of the moves."""

    hosts: list[str]
    steps: list[Step]
    stays: list[Stay]
    seconds: float


class Upgrade(t.NamedTuple):
    """A whole rolling upgrade.

    Attributes:
        waves: in order.
        moves: how many there are in all waves.
        guests: how many guests move.
        moves_per_guest: 1.0 where no guest moves twice.
        seconds: of the moves alone, without upgrades and reboots.
        n_plus_one_remarks: waves during which no further host may fail; empty where nobody asked.
    """

    waves: list[UpgradeWave]
    moves: int
    guests: int
    moves_per_guest: float
    seconds: float
    n_plus_one_remarks: list[Refusal]


def plan_upgrade(
    hosts: t.Sequence[str], constraints: Constraints, *, at_once: int = 1, window: Window = ANY_TIME, spare: str = "off"
) -> Upgrade:
    """Order hosts and moves of a rolling upgrade.

    Args:
        hosts: those to upgrade. Guests may stay on open hosts that are not among them.
        constraints: what the plan must keep to, in every state on the way.
        at_once: how many hosts may be away at the same time, where there is room for their guests.
        window: slots, and what to reckon with where there is no forecast.
        spare: N+1 while the hosts of a wave are away, so that one more may fail: ``off``, ``warn``, or ``require``,
            with which fewer hosts are away at once where that helps.

    Returns:
        Waves in order. After each wave its hosts are upgraded, empty but for who stays, and take guests again. A later
        wave's steps start where the waves before it left the guests.
    """
    numbered = NumberedCluster(constraints)
    ordered, n_plus_one_remarks = _ordered_waves(numbered, hosts, at_once, spare)
    waves: list[UpgradeWave] = []
    upgraded: set[int] = set()
    for wave in ordered.waves:
        waves.append(_wave(numbered, wave, upgraded, constraints, window))
        upgraded.update(wave.hosts)
    moves = sum(len(one.steps) for one in waves)
    guests = len({step["guest"]["uuid"] for one in waves for step in one.steps})
    return Upgrade(
        waves=waves,
        moves=moves,
        guests=guests,
        moves_per_guest=moves / guests if guests else 1.0,
        seconds=math.fsum(one.seconds for one in waves),
        n_plus_one_remarks=n_plus_one_remarks,
    )


def _ordered_waves(
    numbered: NumberedCluster, hosts: t.Sequence[str], at_once: int, spare: str
) -> tuple[WaveOrder, list[Refusal]]:
    numbers = [numbered.hosts[host] for host in hosts]
    while True:
        ordered = order_waves(State(numbered.cluster), numbers, at_once=at_once)
        n_plus_one_remarks = _n_plus_one_remarks(numbered, ordered) if spare != "off" else []
        if not n_plus_one_remarks or spare == "warn" or at_once == 1:
            return ordered, n_plus_one_remarks
        at_once -= 1


def _n_plus_one_remarks(numbered: NumberedCluster, ordered: WaveOrder) -> list[Refusal]:
    """Return a remark if the other hosts must not fail while a wave is away."""
    state = State(numbered.cluster)
    found: list[tuple[Wave, list[int]]] = []
    for wave in ordered.waves:
        for move in wave.moves:
            state.move(move.unit, move.destination)
        for host in wave.hosts:
            state.is_open[host] = False
        unprotected = n_plus_one.unprotected(state)
        for host in wave.hosts:
            state.is_open[host] = True
        if unprotected:
            found.append((wave, unprotected))
    if not found:
        return []
    first, unprotected = found[0]
    away = listed([numbered.names[host] for host in first.hosts])
    several = f", and so in {len(found)} of {len(ordered.waves)} waves" if len(found) > 1 else ""
    return [
        refusal(
            "n_plus_one",
            f"while {away} {'is' if len(first.hosts) == 1 else 'are'} away, the others could not take the guests of "
            f"{listed([numbered.names[host] for host in unprotected])} if it failed as well{several}",
            "free memory or add a host, or permit it (warn or off)",
        )
    ]


def _wave(
    numbered: NumberedCluster, wave: Wave, upgraded: t.Collection[int], constraints: Constraints, window: Window
) -> UpgradeWave:
    names = [numbered.names[host] for host in wave.hosts]
    steps = steps_of(numbered, wave.moves, functools.partial(_why, numbered, frozenset(wave.hosts)))
    stays = [
        {**stay, "host": names[0] if len(names) == 1 else stay["host"]}
        for unit in wave.left
        for stay in stays_of(numbered, unit, functools.partial(_refusals, numbered, unit, names, upgraded))
    ]
    # Whether a wave fits is asked of the whole; the search for what to leave out would be thrown away.
    seconds = float(expectation(steps, constraints.expected, window._replace(window_s=None))["seconds"])
    return UpgradeWave(names, steps, t.cast("list[Stay]", stays), seconds)


def _why(numbered: NumberedCluster, emptied: t.Collection[int], move: Move) -> str:
    there = numbered.names[move.destination]
    if move.source in emptied:
        return f"{numbered.names[move.source]} is upgraded next, and {there} has room for it"
    return f"makes room on {numbered.names[move.source]}"


def _refusals(
    numbered: NumberedCluster, unit: int, hosts: list[str], upgraded: t.Collection[int], member: int
) -> list[Refusal]:
    """Return why a guest stays: its own reasons, its companions, the other hosts, or no free memory at that moment.

    Hosts that were upgraded before are open by then.
    """
    own = numbered.pinned_by_itself(unit, member) or numbered.pinned_by(unit)
    if own:
        return own
    state = State(numbered.cluster)
    for host in upgraded:
        state.is_open[host] = True
    others = [host for host, is_open in enumerate(state.is_open) if is_open and host != state.where[unit]]
    # What keeps it from one that was open all along is surely not that this is closed.
    others.sort(key=lambda host: not numbered.cluster.hosts[host].is_open)
    if others and not any(state.may_go(unit, host) for host in others):
        return no_destination.refusals_of_host(numbered, state, unit, member, others[0])
    return [
        refusal(
            "no_placement",
            f"when it is the turn of {' and '.join(hosts)}, no other host has room for "
            f"{numbered.domains[unit][member]['name']}",
            "free memory or add a host, or permit to shut it down while its host is upgraded",
        )
    ]
