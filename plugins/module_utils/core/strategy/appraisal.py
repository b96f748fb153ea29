# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""One guest, two hosts and an intent: what the move will cost, and by which method.

The planner calls this, and so does the host that carries out a plan, each with what it knows. So both choose alike.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot, guest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import calibration, send_buffer
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import forecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import known_bugs
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy import available_methods, choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import CHOICE, Choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.remedy import ROOM
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import touched
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import curve_of, unmeasured

#: The downtime limit that a move opens with: QEMU uses all of it, and needs that much (forecast/convergence_limit.py).
OPENING_LIMIT_MS = 30
#: xbzrle's cache is a hash by address with one page in each place, so it wants more room than the hot set.
CACHE_ROOM = 2.0
LEAST_CACHE_BYTES = 64 * MIB
#: It must not press the other guests of the host.
CACHE_SHARE_OF_FREE = 0.25


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """What is known of a guest and a path from before. All of it may be missing.

    Attributes:
        working_set: the newest C(kvmops.working_set/1) of the guest, or None.
        path: state of the path's calibration, or None.
        guest: state of the guest's, or None.
        stated_bytes_per_s: what the operator says that the link gives, or None.
        tuned: whether what waits unsent in the move's connection is bounded (core/send_buffer.py).
        at_once: moves that share the path, this one among them.
    """

    working_set: t.Mapping[str, t.Any] | None = None
    path: t.Mapping[str, t.Any] | None = None
    guest: t.Mapping[str, t.Any] | None = None
    stated_bytes_per_s: float | None = None
    tuned: bool = False
    at_once: int = 1


@dataclasses.dataclass(frozen=True)
class Appraisal:
    """What came of it.

    Attributes:
        choice: the way to move the guest, or the refusal.
        working_set: what the forecast was made from; of a guest that was not measured it says so.
        link: the move's share of it; None when nobody knows the bandwidth. Then nothing can be forecast, and the
            control learns it in flight.
        guest_factor: touched memory as it was sent over as it was measured.
        unsent_limit: what may wait unsent in the move's connection, in bytes; None: it is left as it is.
    """

    choice: Choice
    working_set: t.Mapping[str, t.Any]
    link: Link | None
    guest_factor: float
    unsent_limit: int | None = None


def appraise(
    domain: Domain,
    source: Snapshot,
    destination: Snapshot,
    intent: Intent,
    known: Knowledge,
    *,
    disks: t.Sequence[t.Mapping[str, t.Any]] = (),
    without: t.Collection[str] = (),
) -> Appraisal:
    """Forecast every way to move a guest, and choose one.

    Args:
        domain: the guest in the source's snapshot.
        source, destination: snapshots; what a host does not say is no reason against anything.
        intent: a complete intent.
        known: from before.
        disks: those that go along, each with its C(copy_bytes).
        without: methods that were tried already and did not do.
    """
    working_set = _as_compressed(known.working_set or _unmeasured(domain), known.guest)
    factor = calibration.guest_factor(known.guest)
    closed = available_methods.closed(
        source,
        destination,
        intent,
        in_use_bytes=int(working_set["touched_bytes"]),
        copies_disks=bool(disks),
    )
    # What was tried is closed as well, but the operator's own reasons go before that.
    shut = {**dict.fromkeys(without, choice.TRIED), **closed}
    link = _link(known, intent, source)
    if link is None:
        blind = _simple("the speed of this path is not known yet; this move measures it", shut, intent)
        blind["measured_at"], blind["at_once"] = working_set["taken_at"] or None, known.at_once
        return Appraisal(blind, working_set, None, factor, _unsent_limit(known, None))
    forecast_of = functools.partial(
        forecast,
        working_set,
        link,
        cap_ms=int(intent["max_downtime_ms"]),
        limit_ms=_opening_ms(link),
        xbzrle_cache_bytes=cache_bytes(working_set, link, (source.get("capacity") or {}).get("available_bytes")),
        disks=disks,
        guest_factor=factor,
    )
    if working_set["points"]:
        recoverable = _sends_again(source) and _recoverable(destination)
        choose = functools.partial(
            choice.choose, intent=intent, closed=closed, recoverable=recoverable, without=without
        )
        chosen = choose(forecast_of(tell_enough=False))
        if chosen["refusal"]:
            chosen = choose(forecast_of())
    else:
        # A cap holds until the last copy; how fast that is, only the link tells.
        knows_link = calibration.link_of(known.path, known.stated_bytes_per_s) is not None
        chosen = _unmeasured_choice(forecast_of(tell_enough=False), shut, intent, knows_link=knows_link)
    chosen["at_once"] = known.at_once
    if chosen["refusal"] and known.at_once > 1:
        alone = dataclasses.replace(known, at_once=1)
        if not appraise(domain, source, destination, intent, alone, disks=disks, without=without).choice["refusal"]:
            chosen["refusal"]["remedy"] += (
                f"; alone on the link it would work: move fewer than {known.at_once} guests at once"
            )
    return Appraisal(chosen, working_set, link, factor, _unsent_limit(known, link))


def _as_compressed(working_set: t.Mapping[str, t.Any], guest: t.Mapping[str, t.Any] | None) -> t.Mapping[str, t.Any]:
    """The working set with shares of compression as the guest's own moves have shown them to be."""
    factor = calibration.compressed_factor(guest)
    shares = {name: working_set.get(name) for name in ("compressed_share", "hot_compressed_share")}
    return {**working_set, **{name: min(1.0, factor * share) for name, share in shares.items() if share is not None}}


def _recoverable(side: Snapshot) -> bool:
    """Whether a post-copy that broke off can be resumed there, as far as the host knows."""
    verdict = (side.get("migration") or {}).get("postcopy_recover") or {}
    return verdict.get("usable") is not False


def _sends_again(source: Snapshot) -> bool:
    """The same of a source. That no guest can arrive there by post-copy says nothing of those that leave."""
    arriving = (source.get("migration") or {}).get("postcopy") or {}
    if arriving.get("usable") is not False:
        return _recoverable(source)
    libvirt = versions.parsed((source.get("versions") or {}).get("libvirt"))
    sends = known_bugs.Verdict(usable=True, reason=None, remedy=None)
    return known_bugs.postcopy_recover(libvirt, sends)["usable"] is not False


def cache_bytes(working_set: t.Mapping[str, t.Any], link: Link, free_bytes: int | None) -> int:
    """Room for xbzrle's cache: a power of two (QEMU takes nothing else) that holds what is dirtied in the first pass,
    as far as the host can spare it.

    Args:
        free_bytes: memory that is free on the source, or None when it does not say.
    """
    first_s = working_set["touched_bytes"] / link.bandwidth_bytes_per_s
    wanted = max(LEAST_CACHE_BYTES, CACHE_ROOM * curve_of(working_set).value(first_s))
    size = 1 << math.ceil(math.log2(wanted))
    spare = math.inf if free_bytes is None else CACHE_SHARE_OF_FREE * free_bytes
    while size > LEAST_CACHE_BYTES and size > spare:
        size //= 2
    return size


def _link(known: Knowledge, intent: Intent, source: Snapshot) -> Link | None:
    floor, ceiling = (
        None if intent[name] is None else float(intent[name]) * MIB
        for name in ("bandwidth_floor_mib_s", "bandwidth_mib_s")
    )
    cap = ceiling if ceiling is None or floor is None else max(floor, ceiling)
    link = calibration.link_of(known.path, known.stated_bytes_per_s)
    if link is None:
        return None if cap is None else Link(cap, floor_bytes_per_s=floor)
    link = link.scaled(1 / known.at_once)
    queue = send_buffer.queue_bytes(
        (source.get("sysctls") or {}).get("net.ipv4.tcp_wmem"),
        learned_bytes=link.queue_bytes,
        limit=_unsent_limit(known, link),
        bandwidth_bytes_per_s=link.bandwidth_bytes_per_s,
    )
    return dataclasses.replace(link, queue_bytes=queue, floor_bytes_per_s=floor).limited(cap)


def _unsent_limit(known: Knowledge, link: Link | None) -> int | None:
    """What may wait unsent in the move's connection, in bytes; None: it is left as it is."""
    if not known.tuned:
        return None
    if link is None:
        return send_buffer.UNKNOWN_LINK_BYTES
    return send_buffer.limit_bytes(link.last_copy_bytes_per_s)


def _opening_ms(link: Link) -> int:
    """QEMU lifts a cap for the last copy but decides with the capped rate, so the same limit means so much less."""
    return round(OPENING_LIMIT_MS * link.last_copy_bytes_per_s / link.bandwidth_bytes_per_s)


def _unmeasured(domain: Domain) -> dict[str, t.Any]:
    memory = int(domain["memory_bytes"])
    return unmeasured(
        guest=t.cast("dict[str, str]", guest_of(domain)),
        taken_at="",
        memory_bytes=memory,
        touched=touched(domain.get("balloon"), memory),
    )


def _unmeasured_choice(
    forecast_: t.Mapping[str, t.Any], closed: t.Mapping[str, str], intent: Intent, *, knows_link: bool
) -> Choice:
    """What a guest dirties is not known, so nothing but the least that its move can take is forecast."""
    chosen = _simple("it was not measured, so its dirty rate shows only while it moves", closed, intent)
    # Where pre-copy may never end, the least is one pass and a stop.
    outcomes = [forecast_["outcomes"][name] for name in ("pre-copy", "suspend")]
    least = {}
    for name in choice.FIGURES:
        lows = [outcome[name]["low"] for outcome in outcomes if outcome[name]["low"] is not None]
        least[name] = {"value": None, "low": min(lows, default=None), "high": None}
    chosen.update(least)  # type: ignore[typeddict-item]
    chosen["bandwidth_bytes_per_s"] = forecast_["bandwidth_bytes_per_s"]
    down_ms, cap_ms = least["downtime_ms"]["low"], int(intent["max_downtime_ms"])
    if down_ms is None or down_ms <= cap_ms or not knows_link or "suspend" not in closed:
        return chosen
    reason = f"no method keeps the intent: over this link every guest is down for {down_ms} ms or more"
    enough = math.ceil(ROOM * down_ms / 10) * 10
    refused = refusal(
        "cannot_keep_intent",
        f"{reason}, and {cap_ms} ms are accepted",
        f"permit max_downtime_ms of at least {enough} or allow_suspend, or give it a faster link",
    )
    return {
        **chosen,
        "method": None,
        "verdict": "never",
        "reason": reason,
        "settings": {},
        "fallbacks": [],
        "refusal": refused,
    }


def _simple(why: str, closed: t.Mapping[str, str], intent: Intent) -> Choice:
    """Begin with the simplest way, and let the control decide in flight."""
    return {
        "schema": CHOICE,
        "method": "pre-copy",
        "verdict": "marginal",
        "reason": f"pre-copy: {why}",
        "why_not": dict(closed),
        "settings": {"limit_ms": min(OPENING_LIMIT_MS, int(intent["max_downtime_ms"]))},
        "rounds": None,
        "bytes": None,
        "total_s": None,
        "downtime_ms": None,
        "work_lost_s": None,
        "fallbacks": [name for name in ("post-copy", "suspend") if name not in closed],
        "bandwidth_bytes_per_s": None,
        "at_once": 1,
        "needed_bytes_per_s": None,
        "measured_at": None,
        "refusal": None,
    }
