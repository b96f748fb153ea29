# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Order the hosts and moves of a rolling upgrade so that few guests move twice.

Each guest leaves its host at least once. If there is an empty host, once is enough: it is upgraded first, the guests of
the next host go there, that host is upgraded and takes the guests of the next one, and so on. Without an empty host,
the guests of the first host go to hosts that are not upgraded yet, and move again with these. So the host with the
fewest guests is the first.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import evacuate
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import Move, joined, order


class Wave(t.NamedTuple):
    """Hosts that are emptied and then upgraded at the same time. ``left``: units on them that find no host."""

    hosts: tuple[int, ...]
    moves: tuple[Move, ...]
    left: tuple[int, ...]


class WaveOrder(t.NamedTuple):
    """All waves. ``moves``: all moves. ``bound``: guests that move, so no order has fewer moves."""

    waves: list[Wave]
    moves: int
    bound: int


def order_waves(state: State, hosts: t.Sequence[int], *, at_once: int = 1) -> WaveOrder:
    """Order the hosts and the moves. The state is updated, upgrades included.

    Args:
        state: the cluster before the first move.
        hosts: those to upgrade, and open from then on. An open host that is not among them is where guests may stay.
        at_once: how many hosts may be away at the same time, where their guests find room in final places.
    """
    opened = list(state.is_open)
    top = max(state.level) + 1
    todo = set(hosts)
    waves: list[Wave] = []
    while todo:
        wave = _wave(state, todo, opened, at_once)
        todo.difference_update(wave.hosts)
        for host in wave.hosts:
            state.level[host] = top
            state.is_open[host] = opened[host] = True
        waves.append(wave)
    moved = {move.unit for wave in waves for move in wave.moves}
    return WaveOrder(waves, sum(len(wave.moves) for wave in waves), len(moved))


def _wave(state: State, todo: t.Collection[int], opened: t.Sequence[bool], at_once: int) -> Wave:
    """Choose the next hosts and empty them. The state is updated."""
    final = [is_open and host not in todo for host, is_open in enumerate(opened)]
    before = state.copy()
    chosen: list[int] = []
    moves: list[Move] = []
    for host in sorted(todo, key=lambda one: (bool(_movable(state, one)), -_need(state, one), one)):
        if len(chosen) == at_once:
            break
        found = _emptied(state, host, final)
        if found is not None:
            chosen.append(host)
            moves += found
    if not chosen:
        return _first(state, todo, opened, final)
    left = tuple(sorted(unit for host in chosen for unit in state.on[host]))
    return Wave(tuple(chosen), tuple(joined(before, moves)), left)


def _first(state: State, todo: t.Collection[int], opened: t.Sequence[bool], final: t.Sequence[bool]) -> Wave:
    """Choose the host with the fewest guests that must move twice, where no host can be emptied into final places."""
    best: tuple[tuple[int, int, int], int, list[Move]] | None = None
    for host in sorted(todo, key=lambda one: (len(_movable(state, one)), _need(state, one), one)):
        if best is not None and best[0][0] == 0 and len(_movable(state, host)) >= best[0][1]:
            break
        trial = state.copy()
        others = [is_open and other != host for other, is_open in enumerate(opened)]
        moves = _as_far_as_possible(trial, host, final, others)
        rating = (len(_movable(trial, host)), len(moves), host)
        if best is None or rating < best[0]:
            best = (rating, host, moves)
    if best is None:
        raise ValueError("no host is left to do")
    dummy, host, moves = best
    before = state.copy()
    for move in moves:
        state.move(move.unit, move.destination)
    return Wave((host,), tuple(joined(before, moves)), tuple(sorted(state.on[host])))


def _emptied(state: State, host: int, open_to: t.Sequence[bool]) -> list[Move] | None:
    """Return the moves that empty a host into these hosts; None if a unit finds no host. Then the state is
    unchanged.
    """
    movers = _movable(state, host)
    trial = state.copy()
    trial.is_open = list(open_to)
    found = evacuate(trial, movers)
    if found.unplaced:
        return None
    return _in_order(state, found.places, open_to)


def _as_far_as_possible(state: State, host: int, final: t.Sequence[bool], others: t.Sequence[bool]) -> list[Move]:
    """Empty a host: into final places first, then anywhere; others make room if they must."""
    moves: list[Move] = []
    for open_to, may_eject in ((final, False), (others, False), (others, True)):
        movers = _movable(state, host)
        if not movers:
            break
        trial = state.copy()
        trial.is_open = list(open_to)
        away = [unit for other, is_open in enumerate(others) if is_open for unit in _movable(state, other)]
        found = evacuate(trial, movers, away if may_eject else ())
        moves += _in_order(state, found.places, open_to)
    return moves


def _in_order(state: State, places: t.Mapping[int, int], open_to: t.Sequence[bool]) -> list[Move]:
    """Order the moves. The state is updated."""
    opened, units = state.is_open, state.cluster.units
    state.is_open = list(open_to)
    ordered = order(state, places, lambda unit: (units[unit].goes_last, units[unit].cost, unit))
    state.is_open = opened
    return ordered.moves


def _movable(state: State, host: int) -> list[int]:
    """Return the units that some host could run, and that are not pinned."""
    units, others = state.cluster.units, range(len(state.on))
    return sorted(
        unit
        for unit in state.on[host]
        if not units[unit].is_pinned and any(state.may_go(unit, other) for other in others)
    )


def _need(state: State, host: int) -> int:
    return sum(state.need[unit] for unit in state.on[host])
