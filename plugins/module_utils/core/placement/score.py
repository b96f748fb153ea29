# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Compute in one number how unevenly a cluster is loaded, and update it in constant time for each move.

A score is a weighted sum of standard deviations over the open hosts (population form). It is 0 if all hosts are alike.
There are two tables of weights: the formula of Ganeti's hbal for guests on shared storage, for comparison, and ours.

hbal (Ganeti 3.0, src/Ganeti/HTools/Cluster/Metrics.hs, and hbal(1) "CLUSTER SCORING"): free memory and the ratio of
virtual to physical CPUs weigh 1 each (0.5, and again 0.5 for their twins with forthcoming instances); the loads of CPU,
memory, disk and network weigh 1 each, and without measured values every guest has a load of 1, so that they count
guests with a weight of 4; a guest on an offline node adds 4, and 16 more as a primary. What else hbal counts is 0 here.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import Cluster, State

#: Ours: memory and CPU as shares of a host; the number of guests beside the mean number a host of that size has; the
#: share of time for which something waits. Counts weigh less, for they only stand for what was not measured.
WEIGHTS: t.Mapping[str, float] = {"memory": 1.0, "cpu": 1.0, "count": 0.1, "pressure": 1.0}

HBAL_COUNT_WEIGHT = 4.0
HBAL_OFFLINE_WEIGHT = 4.0 + 16.0


class Metric(t.NamedTuple):
    """One kind of load: of each unit, of each host without its guests, and the capacity of each host."""

    name: str
    weight: float
    loads: t.Sequence[float]
    capacities: t.Sequence[float]
    bases: t.Sequence[float]


class Score:
    """The score of a state that changes. ``after`` computes the score after a move; ``note_move`` follows a move."""

    def __init__(self, state: State, metrics: t.Sequence[Metric], *, stranded_weight: float = 0.0) -> None:
        """
        Args:
            state: where everything is; it is read once.
            metrics: what counts; those of weight 0 and those that nobody measured are left out.
            stranded_weight: what each unit on a closed host adds.
        """
        self.metrics = [metric for metric in metrics if metric.weight and any(metric.loads)]
        self.counted = list(state.is_open)
        self._count = max(1, sum(self.counted))
        self._stranded_weight = stranded_weight
        self._stranded = sum(len(on) for on, counted in zip(state.on, self.counted) if not counted)
        #: for each metric: loads of units, 1/capacity of hosts (0 where not counted), weight
        self._parts = [
            (m.loads, [1 / size if counted and size > 0 else 0.0 for size, counted in zip(m.capacities, self.counted)])
            for m in self.metrics
        ]
        self._weights = [metric.weight for metric in self.metrics]
        self.levels = [self._levels(number, state) for number in range(len(self.metrics))]
        # Levels are measured from their first mean: sums of squares lose no figures to it.
        self._sums = [math.fsum(levels) for levels in self.levels]
        self._squares = [math.fsum(level * level for level in levels) for levels in self.levels]

    def _levels(self, number: int, state: State) -> list[float]:
        metric, (loads, inverse) = self.metrics[number], self._parts[number]
        levels = [
            (base + math.fsum(loads[unit] for unit in on)) * share
            for base, on, share in zip(metric.bases, state.on, inverse)
        ]
        mean = math.fsum(levels) / self._count
        return [level - mean if counted else 0.0 for level, counted in zip(levels, self.counted)]

    @property
    def value(self) -> float:
        """The score of the current state."""
        total = self._stranded * self._stranded_weight
        for weight, deviation in zip(self._weights, self.deviations()):
            total += weight * deviation
        return total

    def deviations(self) -> list[float]:
        """The standard deviation of each metric."""
        count = self._count
        return [
            math.sqrt(max(0.0, squares / count - (sums / count) ** 2))
            for sums, squares in zip(self._sums, self._squares)
        ]

    def after(self, unit: int, source: int, destination: int, back: int | None = None) -> float:
        """Return the score with ``unit`` moved, and ``back`` moved the other way if it is given."""
        count, total = self._count, 0.0
        for number, (loads, inverse) in enumerate(self._parts):
            load = loads[unit] if back is None else loads[unit] - loads[back]
            less, more = load * inverse[source], load * inverse[destination]
            levels = self.levels[number]
            sums = (self._sums[number] - less + more) / count
            squares = (
                self._squares[number] + less * (less - 2 * levels[source]) + more * (more + 2 * levels[destination])
            )
            variance = squares / count - sums * sums
            if variance > 0:
                total += self._weights[number] * math.sqrt(variance)
        if self._stranded_weight:
            stranded = self._stranded
            if back is None:
                stranded += self.counted[source] - self.counted[destination]
            total += stranded * self._stranded_weight
        return total

    def after_each(self, unit: int, source: int, destinations: t.Sequence[int]) -> list[float]:
        """Return ``after`` for many destinations, in half the time."""
        count = self._count
        totals = [0.0] * len(destinations)
        for number, (loads, inverse) in enumerate(self._parts):
            load, levels, weight = loads[unit], self.levels[number], self._weights[number]
            less = load * inverse[source]
            sums = self._sums[number] - less
            squares = self._squares[number] + less * (less - 2 * levels[source])
            for place, host in enumerate(destinations):
                more = load * inverse[host]
                mean = (sums + more) / count
                variance = (squares + more * (more + 2 * levels[host])) / count - mean * mean
                if variance > 0:
                    totals[place] += weight * math.sqrt(variance)
        if self._stranded_weight:
            left = self._stranded + self.counted[source]
            totals = [
                total + (left - self.counted[host]) * self._stranded_weight for total, host in zip(totals, destinations)
            ]
        return totals

    def note_move(self, unit: int, source: int, destination: int) -> None:
        """Follow a move that was made."""
        for number, (loads, inverse) in enumerate(self._parts):
            load, levels = loads[unit], self.levels[number]
            less, more = load * inverse[source], load * inverse[destination]
            self._squares[number] += less * (less - 2 * levels[source]) + more * (more + 2 * levels[destination])
            self._sums[number] += more - less
            levels[source] -= less
            levels[destination] += more
        self._stranded += self.counted[source] - self.counted[destination]

    def gradient(self) -> list[float]:
        """Return how much the load of each host adds to the score, to first order: high where guests should leave."""
        gradient = [0.0] * len(self.counted)
        for number, deviation in enumerate(self.deviations()):
            factor = self._weights[number] / max(deviation, 1e-9)
            mean = self._sums[number] / self._count
            # Metrics of one size of unit are made comparable by the step that an average unit makes.
            factor *= self._mean_step(number)
            for host, level in enumerate(self.levels[number]):
                gradient[host] += factor * (level - mean)
        return gradient

    def _mean_step(self, number: int) -> float:
        loads, inverse = self._parts[number]
        return (math.fsum(loads) / max(1, len(loads))) * (math.fsum(inverse) / self._count)


def hbal(state: State) -> Score:
    """Return the score that hbal computes (see the head of this file)."""
    cluster = state.cluster
    hosts, units = cluster.hosts, cluster.units
    guests = [float(len(unit.guests)) for unit in units]
    return Score(
        state,
        [
            Metric(
                "memory",
                1.0,
                [float(unit.need_bytes) for unit in units],
                [float(host.memory_bytes) for host in hosts],
                [float(host.base_bytes) for host in hosts],
            ),
            Metric(
                "vcpus",
                1.0,
                [float(unit.vcpus) for unit in units],
                [host.cpus for host in hosts],
                [float(host.base_vcpus) for host in hosts],
            ),
            Metric("count", HBAL_COUNT_WEIGHT, guests, [1.0] * len(hosts), [0.0] * len(hosts)),
        ],
        stranded_weight=HBAL_OFFLINE_WEIGHT,
    )


def kvmops(state: State, weights: t.Mapping[str, float] | None = None) -> Score:
    """Return our own score: memory, CPU as measured, count and pressure, with ``WEIGHTS`` or other weights."""
    weights = WEIGHTS if weights is None else weights
    cluster = state.cluster
    hosts, units = cluster.hosts, cluster.units
    none = [0.0] * len(hosts)
    room = [float(max(host.capacity_bytes, 1)) for host in hosts]
    guests = [float(len(unit.guests)) for unit in units]
    usual = math.fsum(guests) / max(1.0, math.fsum(room))
    pressures, own = _pressures(cluster)
    return Score(
        state,
        [
            Metric("memory", weights.get("memory", 0.0), [float(unit.need_bytes) for unit in units], room, none),
            Metric("cpu", weights.get("cpu", 0.0), [unit.cpu for unit in units], [h.cpus for h in hosts], none),
            Metric("count", weights.get("count", 0.0), guests, [max(1.0, usual * size) for size in room], none),
            Metric("pressure", weights.get("pressure", 0.0), pressures, [1.0] * len(hosts), own),
        ],
    )


def _pressures(cluster: Cluster) -> tuple[list[float], list[float]]:
    """Return the part of each unit in its host's pressure, and the rest of each host.

    If the guests use all CPUs of a host, the whole pressure is theirs, in proportion to their use. If they use few
    CPUs, something else causes the pressure, and it stays when guests move.
    """
    used = [0.0] * len(cluster.hosts)
    for unit in cluster.units:
        used[unit.host] += unit.cpu
    rates = [host.pressure / max(cpu, host.cpus, 1e-9) for host, cpu in zip(cluster.hosts, used)]
    own = [max(0.0, host.pressure - rate * cpu) for host, rate, cpu in zip(cluster.hosts, rates, used)]
    return [rates[unit.host] * unit.cpu for unit in cluster.units], own
