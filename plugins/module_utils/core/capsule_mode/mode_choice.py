# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Which mode gets a guest to the far end: the one that is of use first, of those that keep the intent; and why."""

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode import bytes_avoided
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.cost_bands import bands, no_bands
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.mode_costs import (
    CARRY,
    LAZY,
    LIVE,
    MODES,
    SUSPENDED,
    Cost,
    NoCost,
    lazy,
    live,
    migrated_memory,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.moved_guest import Guest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.stopped_costs import carry, suspended
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.thin_path import Path
from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import DEFAULTS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal, sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import (
    human_bytes,
    human_milliseconds,
    human_seconds,
)

SCHEMA = "kvmops.capsule_choice/1"
#: Methods of a forecast that need no consent.
METHODS = ("pre-copy", "xbzrle", "parallel-zstd")

#: A mode that takes at most so many times as long as the first is as good. Forecasts err by more.
NEARLY = 1.05
#: A mode in which the guest goes on running may take so many times as long before another one is recommended.
RATHER = 1.5

_DOES: t.Mapping[str, str] = {
    LIVE: "migrates with its disks",
    LAZY: "migrates, and its disks follow",
    SUSPENDED: "is saved, sent and started",
    CARRY: "is carried, and what changes meanwhile is sent",
}


def choose(
    guest: Guest,
    path: Path,
    intent: t.Mapping[str, t.Any],
    *,
    refused: t.Mapping[str, Refusal] | None = None,
    methods: t.Sequence[str] = METHODS,
    fill_bytes_per_s: float | None = None,
    lazy_start: bool = False,
) -> dict[str, t.Any]:
    """The mode for a guest.

    Args:
        guest, path: see C(moved_guest) and C(thin_path).
        intent: as in docs/contracts.md; what is missing has its default.
        refused: why a mode cannot be had on these two hosts, by mode.
        methods: of a forecast that both hosts have and the intent permits.
        fill_bytes_per_s: rate of a fill; None: the whole link.
        lazy_start: whether a guest that was saved may be started before its disks have come, where C(lazy) can be had.

    Returns:
        the document (docs/contracts.md, "Capsule choice").
    """
    intent = {**DEFAULTS, **intent}
    refused = refused or {}
    makers = _makers(intent["max_downtime_ms"], methods, lazy_start and LAZY not in refused, fill_bytes_per_s)
    costs = {mode: makers[mode](guest, path) for mode in MODES}
    out = {mode: _ruled_out(mode, costs[mode], guest, intent, refused) for mode in MODES}
    fitting = {mode: cost for mode, cost in costs.items() if isinstance(cost, Cost) and out[mode] is None}
    mode = _best(fitting)
    return {
        "schema": SCHEMA,
        "guest": dict(guest.working_set["guest"]),
        "mode": mode,
        "reason": _reason(mode, fitting) if mode else None,
        "refusal": None if mode else _refusal(guest.name, out, costs),
        "modes": {one: {**_figures(one, costs[one], makers[one], guest, path), "ruled_out": out[one]} for one in MODES},
    }


def _makers(
    cap_ms: int, methods: t.Sequence[str], lazy_disks: bool, fill_bytes_per_s: float | None
) -> dict[str, t.Callable[[Guest, Path], Cost | NoCost]]:
    """What gives the cost of each mode."""

    def memory(guest: Guest, path: Path) -> Cost | NoCost:
        return migrated_memory(guest, path, cap_ms, methods)

    return {
        LIVE: lambda guest, path: live(guest, path, memory(guest, path)),
        LAZY: lambda guest, path: lazy(guest, path, memory(guest, path), fill_bytes_per_s),
        SUSPENDED: lambda guest, path: suspended(
            guest, path, cap_ms, lazy_disks=lazy_disks, fill_bytes_per_s=fill_bytes_per_s
        ),
        CARRY: carry,
    }


def _best(fitting: t.Mapping[str, Cost]) -> str | None:
    """The mode that is of use first; of those that are nearly as early, the one with the least downtime."""
    first = min((cost.useful_s for cost in fitting.values()), default=0.0)
    near = [mode for mode, cost in fitting.items() if cost.useful_s <= NEARLY * first]
    return min(near, key=lambda mode: fitting[mode].downtime_s, default=None)


def _ruled_out(
    mode: str, cost: Cost | NoCost, guest: Guest, intent: t.Mapping[str, t.Any], refused: t.Mapping[str, Refusal]
) -> Refusal | None:
    name = guest.name
    if mode in refused:
        return refused[mode]
    if mode in (LIVE, LAZY) and guest.disks and not intent["allow_storage_copy"]:
        return refusal(
            "storage_copy_not_permitted", f"the disks of {name} would be copied", "permit it (allow_storage_copy: true)"
        )
    if mode in (SUSPENDED, CARRY) and not intent["allow_suspend"]:
        down = "" if isinstance(cost, NoCost) else f" for {human_seconds(cost.downtime_s)}"
        return refusal("suspend_not_permitted", f"{name} would stand still{down}", "permit it (allow_suspend: true)")
    if isinstance(cost, NoCost):
        return refusal("mode_never_ends" if mode != CARRY else "carry_time_unknown", cost.reason, cost.remedy)
    if intent["deadline_s"] is not None and cost.useful_s > intent["deadline_s"]:
        return refusal(
            "deadline",
            f"it takes {human_seconds(cost.useful_s)} until {name} is of use, and deadline_s is {intent['deadline_s']}",
            f"set deadline_s to {math.ceil(cost.useful_s)} or more",
        )
    return None


def _reason(mode: str, fitting: t.Mapping[str, Cost]) -> str:
    cost = fitting[mode]
    text = (
        f"it {_DOES[mode]}: of use after {human_seconds(cost.useful_s)},"
        f" down for {human_milliseconds(1000 * cost.downtime_s)}, {human_bytes(cost.sent_bytes)} sent"
    )
    others = [f"{one} after {human_seconds(fitting[one].useful_s)}" for one in MODES if one in fitting and one != mode]
    return f"{text} ({', '.join(others)})" if others else text


def _refusal(name: str, out: t.Mapping[str, Refusal | None], costs: t.Mapping[str, Cost | NoCost]) -> Refusal:
    """Why there is no mode. The remedy is that of the mode which would be of use first, were it permitted; but rather
    that of one in which the guest goes on running.
    """
    reasons = [f"{mode}: {one['reason']}" for mode, one in out.items() if one is not None]
    seconds = {mode: cost.useful_s for mode, cost in costs.items() if isinstance(cost, Cost)}
    first = min(seconds.values(), default=math.inf)
    easiest = next((mode for mode in MODES if seconds.get(mode, math.inf) <= RATHER * first), CARRY)
    found = out[easiest]
    remedy = found["remedy"] if found else ""
    return refusal("no_capsule_mode", f"there is no way to get {name} there ({'; '.join(reasons)})", remedy)


def _figures(
    mode: str, cost: Cost | NoCost, cost_of: t.Callable[[Guest, Path], Cost | NoCost], guest: Guest, path: Path
) -> dict[str, t.Any]:
    if isinstance(cost, NoCost):
        return {**no_bands(), "avoided_by": None, "settings": None}
    as_capsule = mode in (SUSPENDED, CARRY)
    avoided = bytes_avoided.avoided_as_capsule(guest) if as_capsule else bytes_avoided.avoided_by_migration(guest)
    return {
        **bands(cost, cost_of, guest, path),
        "avoided_by": bytes_avoided.document(avoided),
        "settings": dict(cost.settings),
    }


def line(choice: t.Mapping[str, t.Any]) -> str:
    """A choice in one line, for a table."""
    if choice["refusal"]:
        return sentence(choice["refusal"])
    return f"{choice['mode']}: {choice['reason']}"
