# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""One guest, two hosts and an intent: what the move will cost, and by which method.

The planner calls this, and so does the host that carries out a plan, each with what it knows. So both choose alike.
"""

from __future__ import annotations

import dataclasses
import functools
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, Intent, Snapshot, guest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import calibration, send_buffer
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import forecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import copied_disks, known_bugs
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy import available_methods, choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.allowance import (
    KINDS,
    Allowance,
    Bound,
    allowance,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import OPENING_LIMIT_MS, Choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.without_forecast import (
    UNKNOWN_LINK,
    start_with_precopy,
    unmeasured_choice,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.xbzrle_cache import cache_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import touched
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import unmeasured


@dataclasses.dataclass(frozen=True)
class Knowledge:
    """What is known of a guest and a path from before. All of it may be missing.

    Attributes:
        working_set: the newest C(kvmops.working_set/1) of the guest, or None.
        path: state of the path's calibration, or None.
        other_paths: states of other paths from the source.
        guest: state of the guest's, or None.
        stated_bytes_per_s: what the operator says that the link gives, or None.
        tuned: whether the unsent bytes in the move's connection are limited (C(core.forecast.send_buffer)).
        at_once: moves that share the path, this one among them.
    """

    working_set: t.Mapping[str, t.Any] | None = None
    path: t.Mapping[str, t.Any] | None = None
    guest: t.Mapping[str, t.Any] | None = None
    stated_bytes_per_s: float | None = None
    tuned: bool = False
    at_once: int = 1
    other_paths: t.Sequence[t.Mapping[str, t.Any]] = ()


@dataclasses.dataclass(frozen=True)
class Appraisal:
    """The choice for one move, and what it was made from.

    Attributes:
        choice: the method, or the refusal.
        working_set: what the forecast was made from; of a guest that was not measured it says so.
        link: the move's share of it; None when nobody knows the bandwidth. Then nothing can be forecast, and the
            control learns it in flight.
        guest_factor: touched memory as it was sent over as it was measured.
        unsent_limit: the unsent bytes that are permitted in the move's connection; None: it is left as it is.
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
    tried: t.Collection[str] = (),
) -> Appraisal:
    """Forecast the move of a guest by every method, and choose one.

    Args:
        domain: the guest in the source's snapshot.
        source, destination: snapshots; what a host does not say is no reason against anything.
        intent: a complete intent.
        known: from before.
        disks: those that go along, each with its C(copy_bytes).
        tried: methods that were tried already and did not do.
    """
    working_set = _as_compressed(known.working_set or _unmeasured(domain), known.guest)
    left = allowance(domain, working_set["vcpu_utilisation"])
    working_set = _as_limited(working_set, left)
    factor = calibration.guest_factor(known.guest, working_set["touched_how"])
    in_use_bytes = int(working_set["touched_bytes"])
    unavailable = available_methods.unavailable(
        source, destination, intent, in_use_bytes=in_use_bytes, copies_disks=bool(disks)
    )
    unavailable = {**left.ruled_out, **unavailable}
    # Where a method is unavailable and was tried as well, the operator learns why it is unavailable.
    ruled_out = {**dict.fromkeys(tried, choice.TRIED), **unavailable}
    link = _link(known, intent, source)
    if link is None:
        chosen = start_with_precopy(UNKNOWN_LINK, ruled_out, intent)
        chosen["measured_at"], chosen["at_once"] = working_set["taken_at"] or None, known.at_once
        if disks:
            chosen["disks"] = {"bytes": sum(int(disk["copy_bytes"]) for disk in disks), "seconds": None}
            _tell_whole_copies(chosen, disks)
        return Appraisal(chosen, working_set, None, factor, _unsent_limit(known, None))
    free_bytes = (source.get("capacity") or {}).get("available_bytes")
    forecast_of = functools.partial(
        forecast,
        working_set,
        link,
        cap_ms=int(intent["max_downtime_ms"]),
        limit_ms=_opening_ms(link),
        xbzrle_cache_bytes=cache_bytes(working_set, link, free_bytes, left.cache_bytes),
        compress_cpus=left.cpus,
        disks=disks,
        guest_factor=factor,
    )
    if working_set["points"]:
        recoverable = _sends_recoverable(source) and _recoverable(destination)
        chosen = _measured_choice(forecast_of, unavailable, intent, recoverable=recoverable, tried=tried)
    else:
        # A cap holds until the last copy; how fast that is, only the link tells.
        knows_link = calibration.link_of(known.path, known.stated_bytes_per_s) is not None
        rough = forecast_of(with_needs=False)
        chosen = unmeasured_choice(rough, ruled_out, intent, knows_link=knows_link)
        chosen["disks"] = rough["disks"]
    _tell_whole_copies(chosen, disks)
    chosen["at_once"] = known.at_once
    if chosen["refusal"]:
        moves = functools.partial(_moves, source, destination, intent, disks, tried)
        _name_sharing(chosen, domain, known, moves)
        _name_limits(chosen, domain, left.bounds, lambda freer: moves(freer, known))
    return Appraisal(chosen, working_set, link, factor, _unsent_limit(known, link))


def _tell_whole_copies(chosen: choice.Choice, disks: t.Sequence[t.Mapping[str, t.Any]]) -> None:
    """Add what whole copies of the disks would send, where only what differs from old copies is sent."""
    found = chosen["disks"]
    if found and any(disk.get("delta_bytes") is not None for disk in disks):
        whole = [copied_disks.whole_bytes(disk) for disk in disks]
        chosen["disks"] = {**found, "whole_bytes": sum(size or 0 for size in whole)}


def _moves(
    source: Snapshot,
    destination: Snapshot,
    intent: Intent,
    disks: t.Sequence[t.Mapping[str, t.Any]],
    tried: t.Collection[str],
    domain: Domain,
    known: Knowledge,
) -> bool:
    """Whether some method would move a guest that is a little different, or over a path that is."""
    return not appraise(domain, source, destination, intent, known, disks=disks, tried=tried).choice["refusal"]


def _name_sharing(
    chosen: Choice, domain: Domain, known: Knowledge, moves: t.Callable[[Domain, Knowledge], bool]
) -> None:
    """Where the guest could be moved alone on its link, say so."""
    if chosen["refusal"] and known.at_once > 1 and moves(domain, dataclasses.replace(known, at_once=1)):
        chosen["refusal"]["remedy"] += (
            f"; alone on the link it would work: move fewer than {known.at_once} guests at once"
        )


def _name_limits(
    chosen: Choice, domain: Domain, bounds: t.Mapping[str, Bound], moves: t.Callable[[Domain], bool]
) -> None:
    """Where the guest could be moved without some of its own limits: say which, with the command that raises them."""

    def moves_without(kinds: t.Collection[str]) -> bool:
        lifted = {name: None for kind in kinds for name in KINDS[kind]}
        return moves({**domain, "limits": {**domain["limits"], **lifted}})

    enough = [kind for kind in bounds if moves_without([kind])]
    guilty = enough or (list(bounds) if len(bounds) > 1 and moves_without(bounds) else [])
    refused = chosen["refusal"]
    if refused is None or not guilty:
        return
    raising = (", or " if enough else " and ").join(bounds[kind].remedy for kind in guilty)
    refused["reason"] = chosen["reason"] = "; ".join([refused["reason"], *(bounds[kind].reason for kind in guilty)])
    refused["remedy"] = f"{raising}, or {refused['remedy']}"


def _measured_choice(
    forecast_of: t.Callable[..., dict[str, t.Any]],
    unavailable: t.Mapping[str, str],
    intent: Intent,
    *,
    recoverable: bool,
    tried: t.Collection[str],
) -> Choice:
    """The choice for a guest that was measured.

    What would be enough takes most of a forecast's time, and only a refusal tells it.
    """
    for with_needs in (False, True):
        forecast_ = forecast_of(with_needs=with_needs)
        chosen = choice.choose(forecast_, intent, unavailable, recoverable=recoverable, tried=tried)
        if not chosen["refusal"]:
            break
    return chosen


def _as_compressed(working_set: t.Mapping[str, t.Any], guest: t.Mapping[str, t.Any] | None) -> t.Mapping[str, t.Any]:
    """The working set with shares of compression as the guest's own moves have shown them to be."""
    sampled, hot = working_set.get("compressed_share"), working_set.get("hot_compressed_share")
    if not sampled:
        return working_set
    share = min(1.0, calibration.compressed_share(guest, sampled))
    changed = {"compressed_share": share}
    if hot is not None:
        changed["hot_compressed_share"] = min(1.0, hot * share / sampled)
    return {**working_set, **changed}


def _as_limited(working_set: t.Mapping[str, t.Any], left: Allowance) -> t.Mapping[str, t.Any]:
    """A guest cannot use more CPU time than its quota, so a throttle below that does not slow it."""
    used = working_set["vcpu_utilisation"]
    if used is None or left.utilisation is None or used <= left.utilisation:
        return working_set
    return {**working_set, "vcpu_utilisation": left.utilisation}


def _recoverable(side: Snapshot) -> bool:
    """Whether a post-copy that broke off can be resumed there, as far as the host knows."""
    verdict = (side.get("migration") or {}).get("postcopy_recover") or {}
    return verdict.get("usable") is not False


def _sends_recoverable(source: Snapshot) -> bool:
    """The same of a source. If no guest can arrive there by post-copy, one may still leave."""
    arriving = (source.get("migration") or {}).get("postcopy") or {}
    if arriving.get("usable") is not False:
        return _recoverable(source)
    libvirt = versions.parsed((source.get("versions") or {}).get("libvirt"))
    sends = known_bugs.Verdict(usable=True, reason=None, remedy=None)
    return known_bugs.postcopy_recover(libvirt, sends)["usable"] is not False


def _link(known: Knowledge, intent: Intent, source: Snapshot) -> Link | None:
    floor, ceiling = (
        None if intent[name] is None else float(intent[name]) * MIB
        for name in ("bandwidth_floor_mib_s", "bandwidth_mib_s")
    )
    cap = ceiling if ceiling is None or floor is None else max(floor, ceiling)
    link = calibration.link_of(known.path, known.stated_bytes_per_s, known.other_paths)
    if link is None:
        capped = calibration.link_of(known.path, cap, known.other_paths)
        return capped and dataclasses.replace(capped, floor_bytes_per_s=floor)
    link = link.scaled(1 / known.at_once)
    queue = send_buffer.queue_bytes(
        (source.get("sysctls") or {}).get("net.ipv4.tcp_wmem"),
        learned_bytes=link.queue_bytes,
        limit=_unsent_limit(known, link),
        bandwidth_bytes_per_s=link.bandwidth_bytes_per_s,
    )
    return dataclasses.replace(link, queue_bytes=queue, floor_bytes_per_s=floor).limited(cap)


def _unsent_limit(known: Knowledge, link: Link | None) -> int | None:
    """The unsent bytes that are permitted in the move's connection; None: it is left as it is."""
    if not known.tuned:
        return None
    if link is None:
        return send_buffer.UNKNOWN_LINK_BYTES
    return send_buffer.limit_bytes(link.last_copy_bytes_per_s)


def _opening_ms(link: Link) -> int:
    """QEMU lifts a cap for the last copy but decides with the capped rate, so the same limit means so much less."""
    return round(OPENING_LIMIT_MS * link.last_copy_bytes_per_s / link.bandwidth_bytes_per_s)


def _unmeasured(domain: Domain) -> dict[str, t.Any]:
    # libvirt does not tell the memory of a guest that does not answer.
    memory = max(1, int(domain["memory_bytes"] or 0))
    return unmeasured(
        guest=t.cast("dict[str, str]", guest_of(domain)),
        taken_at="",
        memory_bytes=memory,
        touched=touched(domain.get("balloon"), memory),
    )
