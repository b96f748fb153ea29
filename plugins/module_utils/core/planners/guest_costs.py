# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Estimate what moving each guest costs, before it is known where the guest goes.

A guest that was measured is forecast towards each open host. Destinations that a forecast cannot tell apart are
forecast once. If no method keeps the guest's intent towards a destination, the guest does not go there. If that is so
for all destinations, the guest stays, with the refusal. A guest that was not measured is refused only what no guest can
have there.

A forecast takes milliseconds, and few guests of a large cluster move. So only guests that surely move, or that a plan
has chosen, are forecast. For the others, the cost is estimated: the bytes of two passes over their memory.
"""

from __future__ import annotations

import copy
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Intent,
    Step,
    is_off,
    is_open,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.guest_intent import guest_intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import (
    NOTHING_EXPECTED,
    Constraints,
    Expected,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import value_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import (
    PlanForecasts,
    stated_bytes_per_s,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import Choice

#: A forecast that is so many times what was reckoned with is a reason to choose anew.
MUCH_LONGER = 1.5
#: How many times as much is reckoned for a guest that plain pre-copy does not get through with.
PRECOPY_FAILS_FACTOR = 10.0
NOTHING_FITTED = {"hot_bytes": 0.0, "fill_s": 0.0, "cold_bytes_per_s": 0.0}


class GuestCosts:
    """The constraints of a plan with what forecasts say so far: costs, refused paths, refused guests."""

    def __init__(self, constraints: Constraints, forecasts: PlanForecasts, *, closing: t.Collection[str] = ()) -> None:
        """
        Args:
            constraints: what the plan must keep to otherwise.
            forecasts: forecasts moves.
            closing: hosts that are to be empty, to which nobody goes.
        """
        self._given, self._forecasts = constraints, forecasts
        self._open = [
            h for h in sorted(constraints.snapshots) if h not in closing and is_open(constraints.snapshots[h])
        ]
        self._classes = _DestinationClasses(forecasts)
        self._cache = _ForecastCache(forecasts, self._classes)
        self._by_source: dict[str, list[list[str]]] = {}
        self._guests = dict(self._running())
        self._asked: set[str] = set()
        self._expected = dict(constraints.expected)
        self._paths = {key: list(refusals) for key, refusals in constraints.paths.items()}
        self._refused: dict[str, list[Refusal]] = {}
        for uuid in self._measured():
            self._expected[uuid] = self._estimated(uuid)

    @property
    def constraints(self) -> Constraints:
        return self._given._replace(
            expected=self._expected, paths=self._paths, refused_guests=self._refused, appraise=self._cache.choice
        )

    def ask(self, guests: t.Iterable[str]) -> None:
        """Forecast these guests, by UUID, towards every open host."""
        for uuid in guests:
            if uuid in self._guests and uuid not in self._asked:
                self._asked.add(uuid)
                self._ask(uuid)

    def ask_all(self) -> None:
        """Forecast every guest that was measured."""
        self.ask(self._measured())

    def newly_refused(self, steps: t.Iterable[Step]) -> list[str]:
        """Return guests that were not forecast yet and that cannot move as these steps say."""
        return [uuid for uuid, choice in self._new(steps) if choice["refusal"]]

    def much_longer(self, steps: t.Iterable[Step]) -> list[str]:
        """Return guests that were not forecast yet and whose step takes much longer than estimated."""
        found = []
        for uuid, choice in self._new(steps):
            seconds = value_of(choice["total_s"])
            estimated = self._expected.get(uuid, NOTHING_EXPECTED).seconds
            if seconds is not None and estimated is not None and seconds > MUCH_LONGER * estimated:
                found.append(uuid)
        return found

    def _new(self, steps: t.Iterable[Step]) -> t.Iterator[tuple[str, Choice]]:
        for step in steps:
            uuid = step["guest"]["uuid"]
            if step["forecast"] is not None and uuid in self._guests and uuid not in self._asked:
                yield uuid, t.cast(Choice, step["forecast"])

    def _measured(self) -> list[str]:
        """Guests that were measured and run."""
        return [uuid for uuid in self._guests if uuid in self._forecasts.measured]

    def _running(self) -> t.Iterator[tuple[str, tuple[Domain, str, Intent]]]:
        """Each guest that runs, its host and its whole intent."""
        for source in sorted(self._given.snapshots):
            for domain in self._given.snapshots[source].get("domains") or []:
                if not is_off(domain):
                    intent = guest_intent(domain, self._given.intent)
                    if intent is not None:
                        yield domain["uuid"], (domain, source, intent)

    def _destinations(self, source: str) -> list[list[str]]:
        """Return the open hosts by class, seen from a source."""
        if source not in self._by_source:
            self._by_source[source] = self._classes.by_class(source, [host for host in self._open if host != source])
        return self._by_source[source]

    def _ask(self, uuid: str) -> None:
        domain, source, intent = self._guests[uuid]
        hosts_by_class = self._destinations(source)
        asked = [(self._cache.choice(domain, source, hosts[0], intent), hosts) for hosts in hosts_by_class]
        refused = [(choice["refusal"], hosts) for choice, hosts in asked if choice["refusal"]]
        if uuid in self._forecasts.measured:
            cpus = self._expected[uuid].cpus
            self._expected[uuid] = _expected(cpus, [one for one in asked if not one[0]["refusal"]])
        if refused and len(refused) == len(asked):
            self._refused[uuid] = [max(refused, key=lambda one: len(one[1]))[0]]
            return
        for why, hosts in refused:
            for host in hosts:
                self._paths.setdefault((source, host, uuid), []).append(why)

    def _estimated(self, uuid: str) -> Expected:
        """Estimate the cost from two passes over its memory: all touched pages, and those written meanwhile.

        If plain pre-copy would not get below the accepted downtime, the cost is multiplied, so that other guests are
        preferred.
        """
        domain, source, intent = self._guests[uuid]
        working_set = self._forecasts.measured[uuid]
        hosts_by_class = self._destinations(source)
        rate = self._forecasts.bytes_per_s(source, hosts_by_class[0][0]) if hosts_by_class else None
        touched, fit = float(working_set["touched_bytes"]), working_set["fit"] or NOTHING_FITTED
        again = fit["hot_bytes"] + fit["cold_bytes_per_s"] * touched / rate if rate else 0.0
        sent = touched + min(touched, again)
        if rate and _exceeds_precopy(fit, rate, int(intent["max_downtime_ms"]) / 1000):
            sent *= PRECOPY_FAILS_FACTOR
        return Expected(
            seconds=sent / rate if rate else None,
            bytes=round(sent),
            cpus=_cpus(domain, working_set, self._given),
        )


def _exceeds_precopy(fit: t.Mapping[str, t.Any], rate: float, cap_s: float) -> bool:
    """Return whether the hot set is rewritten faster than it is sent, and too large for the downtime."""
    hot, fill_s = fit["hot_bytes"], fit["fill_s"]
    return bool(hot > cap_s * rate and hot > fill_s * rate)


#: Stated bandwidth, lessons of the path, how many may share it, and what the host can do.
DestinationClass = tuple[t.Optional[float], str, int, str]


class _DestinationClasses:
    """Destinations that a forecast cannot tell apart: the same bandwidth, as far as known, and the same abilities."""

    def __init__(self, forecasts: PlanForecasts) -> None:
        self._forecasts = forecasts
        self._known_abilities: dict[str, str] = {}

    def class_of(self, source: str, host: str) -> DestinationClass:
        """What a forecast sees of a destination."""
        stated = stated_bytes_per_s(self._forecasts.connect, source, host)
        lessons, at_once = repr(self._forecasts.lessons(source, host)), self._forecasts.at_once(source, host)
        return stated, lessons, at_once, self._abilities(host)

    def by_class(self, source: str, hosts: t.Sequence[str]) -> list[list[str]]:
        """The hosts by kind, those of the most common kind first."""
        found: dict[DestinationClass, list[str]] = {}
        for host in hosts:
            found.setdefault(self.class_of(source, host), []).append(host)
        return sorted(found.values(), key=lambda classes: (-len(classes), classes))

    def _abilities(self, host: str) -> str:
        if host not in self._known_abilities:
            snapshot = self._forecasts.snapshots[host]
            self._known_abilities[host] = repr((snapshot.get("migration"), snapshot.get("versions")))
        return self._known_abilities[host]


class _ForecastCache:
    """Forecasts that were made already, for the steps. To make them again would be half of the work of a plan."""

    def __init__(self, forecasts: PlanForecasts, classes: _DestinationClasses) -> None:
        self._forecasts, self._classes = forecasts, classes
        self._made: dict[tuple[t.Any, ...], tuple[str, Choice]] = {}

    def choice(self, guest: Domain, source: str, destination: str, intent: Intent) -> Choice:
        """As PlanForecasts has it. A choice that names its destination is another one's no more."""
        key = (guest["uuid"], source, self._classes.class_of(source, destination), repr(sorted(intent.items())))
        asked, made = self._made.get(key, (destination, None))
        if made is None or (asked != destination and asked in repr(made)):
            made = self._forecasts.choice(guest, source, destination, intent)
            self._made[key] = destination, made
        return copy.deepcopy(made)


def _cpus(domain: Domain, working_set: t.Mapping[str, t.Any], constraints: Constraints) -> float | None:
    """Return the CPUs that the guest uses: from its host now, otherwise from its measurement."""
    seen, share = constraints.expected.get(domain["uuid"]), working_set.get("vcpu_utilisation")
    if seen is not None and seen.cpus is not None:
        return seen.cpus
    return None if share is None else float(share) * int(domain.get("vcpus") or 1)


def _expected(cpus: float | None, asked: t.Sequence[tuple[Choice, list[str]]]) -> Expected:
    """Return what a move costs to most of the hosts that the guest can go to."""
    if not asked:
        return Expected(cpus=cpus)
    choice = asked[0][0]
    sent = value_of(choice["bytes"])
    return Expected(
        seconds=value_of(choice["total_s"]),
        bytes=None if sent is None else round(sent),
        cpus=cpus,
        is_risky=choice["measured_at"] is not None and choice["verdict"] != "converges",
    )
