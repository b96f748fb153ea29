# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: turn the options of capsule_plan into a choice for each guest.

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import bit_rate
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode import mode_choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.both_ends import (
    guest_at,
    in_common,
    standing,
    store_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.mode_refusals import (
    has_sparse,
    mode_refusals,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.thin_path import (
    PAYLOAD_SHARE,
    Overheads,
    Path,
    thin_path,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Snapshot,
    guest_of,
    is_off,
    is_open,
    metadata_of,
    plain_state,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.calibration import link_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import merge, stated
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.input_checks import by_host
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import stated_bytes_per_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.memory_demand import free_memory, need_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB, human_bytes, listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning import guest_selection

Arguments = t.Mapping[str, t.Any]
#: After the choice and before the guest stops: the lease on both hosts, what the source and what the far end say, the
#: move begins. Each is a module of Ansible, which takes about a second on an idle host (measured: 5.9 s in all).
TASKS_S = 6.0
OVERHEADS = tuple(field.name for field in dataclasses.fields(Overheads))


class _Leaving(t.NamedTuple):
    """A guest and the host that it leaves."""

    domain: Domain
    source: str


class Planner:
    """Chooses a mode and a host for each guest.

    Raises: PlanError, IntentError and AnsibleError for options that make no sense.
    """

    def __init__(self, arguments: Arguments, now: datetime.datetime) -> None:
        self._arguments = arguments
        self._now = now
        self._snapshots = by_host(arguments["snapshots"])
        self._intent = stated(arguments["intent"], whose="intent")
        self._working_sets = {one["guest"]["uuid"]: one for one in arguments["working_sets"] or []}
        self._changes = {one["guest"]["uuid"]: one for one in arguments.get("changes") or []}
        self._rate = _rate(arguments["rate"], "rate")
        self._fill = _rate(arguments["fill_rate"], "fill_rate")
        self._overheads = _overheads(arguments["overheads"])
        self._destinations = self._hosts("destinations")
        if not self._destinations:
            raise PlanError("no_destination", "destinations is empty", "name the hosts at the far end in destinations")
        self._free = {host: self._room(self._snapshots[host]) for host in self._destinations}
        self._all = self._leaving()

    def choices(self) -> list[dict[str, t.Any]]:
        """Return the choice of each guest: the largest memory first, as it is the hardest to find a place for."""
        arrived = {one["guest"]["uuid"] for one in self.arrived()}
        leaving = [one for one in self._all if one.domain["uuid"] not in arrived]
        order = sorted(leaving, key=lambda one: (-int(one.domain["memory_bytes"]), str(one.domain["name"])))
        # Those that are safe first go first. Those that cannot go are told last.
        return sorted((self._choice(one) for one in order), key=_useful_s)

    def arrived(self) -> list[dict[str, t.Any]]:
        """Return the guests of the sources that a host at the far end runs already, each with both hosts."""
        there = {
            domain["uuid"]: host
            for host in self._destinations
            for domain in self._snapshots[host].get("domains") or []
            if not is_off(domain)
        }
        return [
            {"guest": guest_of(one.domain), "source": one.source, "destination": there[one.domain["uuid"]]}
            for one in self._all
            if one.domain["uuid"] in there
        ]

    def there(self) -> list[dict[str, t.Any]]:
        """Return the guests that were named, and that only a host at the far end has; an earlier run has moved them."""
        if not self._arguments["guests"]:
            return []
        far = {host: self._snapshots[host] for host in self._destinations}
        leaving = {one.domain["uuid"] for one in self._all}
        named = guest_selection.select(self._arguments["guests"], self._snapshots, option="guests")
        return [
            {"guest": guest_of(domain), "destination": host, "state": plain_state(domain)}
            for host, snapshot in far.items()
            for domain in snapshot.get("domains") or []
            if domain["uuid"] in named and domain["uuid"] not in leaving
        ]

    def _hosts(self, option: str) -> list[str]:
        unknown = [host for host in self._arguments[option] if host not in self._snapshots]
        if unknown:
            raise PlanError(
                "unknown_host",
                f"{option} names {listed(unknown)}, and there is no snapshot of that",
                f"give hosts that have answered ({listed(sorted(self._snapshots), most=8)})",
            )
        return list(self._arguments[option])

    def _leaving(self) -> list[_Leaving]:
        sources = self._hosts("sources") or [host for host in self._snapshots if host not in self._destinations]
        seen = {host: self._snapshots[host] for host in sources if host not in self._destinations}
        ends = {**seen, **{host: self._snapshots[host] for host in self._destinations}}
        wanted = guest_selection.select(self._arguments["guests"], ends, option="guests")
        return [
            _Leaving(domain, host)
            for host, snapshot in seen.items()
            for domain in snapshot.get("domains") or []
            if not self._arguments["guests"] or domain["uuid"] in wanted
        ]

    def _choice(self, one: _Leaving) -> dict[str, t.Any]:
        uuid = one.domain["uuid"]
        here = store_of(self._arguments["capsules"].get(one.source), uuid)
        whose = f"metadata of {one.domain['name']}"
        intent = merge(self._intent, metadata_of(one.domain).get("intent"), whose=whose)
        destination = self._destination(one)
        there = store_of(self._arguments["capsules"].get(destination), uuid)
        source, far = self._snapshots[one.source], self._snapshots[destination]
        guest = guest_at(
            one.domain, self._working_sets.get(uuid), here, there, self._now, changes=self._changes.get(uuid)
        )
        if not has_sparse(source, far):
            guest = dataclasses.replace(guest, seed_age_s=None, memory_changed_bytes=None)
        refused = mode_refusals(one.domain, source, far, intent)
        refused = {**refused, **self._not_wanted()}
        short = self._short_of_memory(one.domain, destination)
        path = self._path(one.source, destination)
        made = mode_choice.choose(
            dataclasses.replace(guest, pack_exponent=path.pack_exponent),
            path,
            intent,
            refused=dict.fromkeys(mode_choice.MODES, short) if short else refused,
            methods=self._methods(source, far),
            fill_bytes_per_s=self._fill,
        )
        if made["mode"]:
            self._free[destination] -= need_bytes(one.domain)
        ends = {"source": one.source, "destination": destination}
        return {**made, **ends, **standing(here, there, self._now)}

    def _destination(self, one: _Leaving) -> str:
        """The host that has most of the guest already, otherwise the one with most room; of those that can take it."""

        def rank(host: str) -> tuple[bool, bool, int, float]:
            far = self._snapshots[host]
            stores = [store_of(self._arguments["capsules"].get(end), one.domain["uuid"]) for end in (one.source, host)]
            seed = in_common(*stores)
            refused = mode_refusals(one.domain, self._snapshots[one.source], far, self._intent)
            can = is_open(far) and any(mode not in refused for mode in mode_choice.MODES)
            fits = self._free[host] >= need_bytes(one.domain)
            return can, fits, -1 if seed is None else int(seed["number"]), self._free[host]

        return max(self._destinations, key=rank)

    def _room(self, snapshot: Snapshot) -> float:
        free = free_memory(snapshot).memory_bytes
        return float("inf") if free is None else float(free - self._arguments["reserve_mib"] * MIB)

    def _short_of_memory(self, domain: Domain, host: str) -> t.Any:
        need = need_bytes(domain)
        if self._free[host] >= need:
            return None
        return refusal(
            "no_memory",
            f"{domain['name']} needs {human_bytes(need)} of memory, and {host} has"
            f" {human_bytes(max(0.0, self._free[host]))} left",
            f"free memory on {host}, or name more hosts in destinations",
        )

    def _not_wanted(self) -> dict[str, t.Any]:
        wanted = self._arguments["modes"] or mode_choice.MODES
        why = refusal("mode_not_wanted", f"only {' and '.join(wanted)} is wanted", "leave out modes, or add it there")
        return {mode: why for mode in mode_choice.MODES if mode not in wanted}

    def _path(self, source: str, destination: str) -> Path:
        arguments = self._arguments
        delay_s, carry_s = float(arguments["delay_ms"] or 0.0) / 1000, arguments["carry_s"]
        if self._rate is not None:
            return thin_path(self._rate * PAYLOAD_SHARE, delay_s, carry_s, self._overheads)
        said = stated_bytes_per_s(arguments["connect"], source, destination)
        learned = ((arguments["calibration"].get(source) or {}).get("paths") or {}).get(destination)
        link = link_of(learned, said)
        if link is None:
            raise PlanError(
                "rate_unknown",
                f"nobody knows what the link from {source} to {destination} carries",
                "set rate (such as 20mbit), or kvmops_cluster_bandwidth_mib_s in the inventory",
            )
        made = thin_path(link.bandwidth_bytes_per_s, delay_s, carry_s, self._overheads)
        # What moves have taught of this path is better than what is known of thin ones.
        return made if learned is None else dataclasses.replace(made, link=link)

    @staticmethod
    def _methods(source: Snapshot, far: Snapshot) -> list[str]:
        ends = [one.get("migration") or {} for one in (source, far)]
        zstd = all("zstd" in (end.get("compression") or ["zstd"]) for end in ends)
        parallel = all((end.get("parallel") or {}).get("usable") is not False for end in ends)
        return [method for method in mode_choice.METHODS if method != "parallel-zstd" or (zstd and parallel)]


def _rate(text: str | None, option: str) -> float | None:
    if not text:
        return None
    try:
        return bit_rate.bytes_per_s(text, option)
    except bit_rate.RateError as error:
        raise PlanError(**error.refusal) from None


def _overheads(given: t.Mapping[str, t.Any]) -> Overheads:
    unknown = sorted(set(given) - set(OVERHEADS))
    if unknown:
        raise PlanError(
            "overheads", f"overheads has {listed(unknown)}, which it does not know", f"it knows {', '.join(OVERHEADS)}"
        )
    try:
        found = {name: float(value) for name, value in given.items() if value is not None}
    except (TypeError, ValueError):
        found = {"": -1.0}
    if any(not 0 <= value < float("inf") for value in found.values()):
        raise PlanError("overheads", f"overheads is {dict(given)!r}", "give seconds, as numbers of 0 or more")
    found = {name: (int(value) if name in ("round_trips", "asks") else value) for name, value in found.items()}
    return dataclasses.replace(Overheads(tasks_s=TASKS_S), **found)  # type: ignore[arg-type]


def _useful_s(choice: t.Mapping[str, t.Any]) -> float:
    return float("inf") if not choice["mode"] else float(choice["modes"][choice["mode"]]["useful_s"]["value"])


def ahead(choices: t.Sequence[t.Mapping[str, t.Any]]) -> list[t.Mapping[str, t.Any]]:
    """Choices of guests that are sent ahead while they run, each so many times; all of them once, then again."""
    moving = [one for one in choices if one["mode"]]
    times = [int((one["modes"][one["mode"]]["settings"] or {}).get("seeds") or 0) for one in moving]
    return [
        one for number in range(max(times, default=0)) for one, most in zip(moving, times, strict=True) if number < most
    ]


def seconds(choices: t.Sequence[t.Mapping[str, t.Any]]) -> float:
    """How long all guests take, one after the other, until their disks are there."""
    figures = [one["modes"][one["mode"]] for one in choices if one["mode"]]
    return round(sum(one["useful_s"]["value"] + one["fill_s"]["value"] for one in figures), 3)


def summary(choices: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """All choices in one line."""
    moving = [one for one in choices if one["mode"]]
    modes = {mode: sum(one["mode"] == mode for one in moving) for mode in mode_choice.MODES}
    sent = sum(one["modes"][one["mode"]]["bytes"]["value"] for one in moving)
    told = ", ".join(f"{count} {mode}" for mode, count in modes.items() if count)
    stay = len(choices) - len(moving)
    text = f"{len(moving)} of {len(choices)} guests can go"
    text += f" ({told}), {human_bytes(sent)} to send" if moving else ""
    return f"{text}; {stay} cannot" if stay and moving else text
