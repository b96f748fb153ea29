# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a guest's migration will cost before it starts: the document ``kvmops.forecast/1``."""

from __future__ import annotations

import functools
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import methods
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.convergence_limit import (
    LOWEST_LIMIT_S,
    floor_s,
    limit_for,
    longest_limit_s,
    lowest_limit_s,
    needed_bytes_per_s,
    rho,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.scenario import (
    EDGE_ABOVE,
    EDGE_BELOW,
    Figures,
    Known,
    Scenario,
    mirror,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import (
    MIB,
    human_bytes,
    human_milliseconds,
    human_seconds,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import curve_of

FORECAST = "kvmops.forecast/1"
METHODS = ("pre-copy", "raise-downtime", "xbzrle", "parallel-zstd", "throttle", "post-copy", "suspend")
#: How many higher limits are tried where the one asked for is too low.
LIMITS = 4
#: Memory that compresses to more than this is said not to.
INCOMPRESSIBLE = 0.95
DEFAULT_CACHE_BYTES = 64 * MIB

Band = dict[str, t.Optional[float]]


class _Limited(t.Protocol):
    """A method that depends on a downtime limit."""

    def __call__(self, scenario: Scenario, limit_s: float) -> Figures | None: ...


class ForecastError(ValueError):
    """Input that no forecast can be made of; its text names what is wrong."""


def forecast(
    working_set: t.Mapping[str, t.Any],
    link: Link,
    *,
    cap_ms: int,
    limit_ms: int = 60,
    chosen: t.Sequence[str] = METHODS,
    xbzrle_cache_bytes: int | None = None,
    compress_cpus: float | None = None,
    disks: t.Sequence[t.Mapping[str, t.Any]] = (),
    guest_factor: float = 1.0,
    with_needs: bool = True,
) -> dict[str, t.Any]:
    """Forecast a guest's move over a link, by every method asked for.

    Args:
        working_set: a document ``kvmops.working_set/1``.
        link: the link, with the bandwidth that is free for this move.
        cap_ms: the longest downtime that the operator accepts.
        limit_ms: QEMU's downtime limit at the start; of a capped move longer than the downtime that comes of it.
        chosen: names out of ``METHODS``.
        xbzrle_cache_bytes: what the host can spare for it; None: QEMU's default of 64 MiB.
        compress_cpus: what the guest's CPU quota leaves for compression; None: it has none.
        disks: those to be copied, each with its ``copy_bytes``.
        guest_factor: touched memory as it was sent over as it was measured (``calibration.guest_factor``).
        with_needs: also find the bandwidth and the limit that would be enough, which takes four fifths of the time;
            both are null otherwise.

    Returns:
        the document; see docs/contracts.md.
    """
    _check(cap_ms, limit_ms, chosen, guest_factor)
    limit_ms = min(limit_ms, _ms(longest_limit_s(link, cap_ms / 1000)))
    known = known_of(working_set, link, disks=disks, guest_factor=guest_factor)
    makers: dict[str, t.Callable[[], dict[str, t.Any]]] = {
        "pre-copy": lambda: _precopy(known, limit_ms, cap_ms),
        "raise-downtime": lambda: _raised(known, limit_ms, cap_ms),
        "xbzrle": lambda: _xbzrle(known, limit_ms, cap_ms, xbzrle_cache_bytes or DEFAULT_CACHE_BYTES, compress_cpus),
        "parallel-zstd": lambda: _zstd(known, limit_ms, cap_ms, compress_cpus),
        "throttle": lambda: _throttle(known, limit_ms, cap_ms),
        "post-copy": lambda: _postcopy(known, limit_ms, cap_ms),
        "suspend": lambda: _suspend(known, limit_ms, cap_ms),
    }
    likely = known.likely()
    needed = needed_bytes_per_s(known, cap_ms / 1000) if with_needs else None
    lowest = lowest_limit_s(likely) if with_needs else None
    return {
        "schema": FORECAST,
        "guest": dict(working_set["guest"]),
        "working_set_at": working_set["taken_at"],
        "limit_ms": limit_ms,
        "cap_ms": cap_ms,
        "bandwidth_bytes_per_s": round(link.bandwidth_bytes_per_s),
        "rho": round(rho(likely, cap_ms / 1000), 3),
        "floor_ms": _ms(floor_s(likely)),
        "lowest_limit_ms": None if lowest is None else math.ceil(max(LOWEST_LIMIT_S, lowest) * 1000),
        "needed_bytes_per_s": None if needed is None else math.ceil(needed),
        "disks": _disks(known),
        "outcomes": {name: makers[name]() for name in METHODS if name in chosen},
    }


def precopy_verdict(working_set: t.Mapping[str, t.Any], link: Link, *, cap_ms: int, limit_ms: int = 60) -> str:
    """The verdict on plain pre-copy alone, which takes a hundredth of the time of a whole forecast."""
    outcome, dummy = _at_lowest_limit(known_of(working_set, link), methods.precopy, min(limit_ms, cap_ms), cap_ms)
    return t.cast(str, outcome["verdict"])


def known_of(
    working_set: t.Mapping[str, t.Any],
    link: Link,
    *,
    disks: t.Sequence[t.Mapping[str, t.Any]] = (),
    guest_factor: float = 1.0,
) -> Known:
    """What the documents know, as scenarios need it."""
    memory = float(working_set["memory_bytes"])
    if memory <= 0:
        raise ForecastError(f"{working_set['guest']['name']} has no memory to move ({memory:.0f} bytes)")
    copy_bytes = sum(float(disk["copy_bytes"]) for disk in disks)
    return Known(
        curve=curve_of(working_set),
        touched_bytes=min(memory, guest_factor * working_set["touched_bytes"]),
        touched_error=float(working_set["touched_error"]),
        memory_bytes=memory,
        link=link,
        compressed_share=working_set["compressed_share"],
        # Not in what earlier versions have kept.
        hot_compressed_share=working_set.get("hot_compressed_share"),
        sparse=working_set["sparse"],
        vcpu_utilisation=working_set["vcpu_utilisation"],
        disk_copy_bytes=copy_bytes,
        disk_write_bytes_per_s=float(working_set["disk_write_bytes_per_s"] or 0.0) if copy_bytes else 0.0,
    )


def _check(cap_ms: int, limit_ms: int, chosen: t.Sequence[str], guest_factor: float) -> None:
    if cap_ms < 1:
        raise ForecastError(f"the accepted downtime must be 1 ms or more, not {cap_ms}")
    if limit_ms < 1:
        raise ForecastError(f"a downtime limit must be 1 ms or more, not {limit_ms}")
    if not (0 < guest_factor < 10):
        raise ForecastError(f"the guest's correction must be above 0 and below 10, not {guest_factor}")
    unknown = [name for name in chosen if name not in METHODS]
    if unknown:
        raise ForecastError(f"unknown method {unknown[0]}: there are {', '.join(METHODS)}")


def _precopy(known: Known, limit_ms: int, cap_ms: int) -> dict[str, t.Any]:
    outcome, limit_ms = _at_lowest_limit(known, methods.precopy, limit_ms, cap_ms)
    return _with(outcome, _precopy_reason(known, outcome, limit_ms, cap_ms), limit_ms=limit_ms)


def _at_lowest_limit(known: Known, method: _Limited, limit_ms: int, cap_ms: int) -> tuple[dict[str, t.Any], int]:
    """What a method comes to at the lowest limit at which it converges, and that limit.

    The limits tried are the one asked for and a few more, up to the highest that keeps the downtime below the cap.
    """
    highest = _ms(limit_for(known.link, cap_ms / 1000))
    limits = [limit_ms]
    if highest > limit_ms:
        limits += [round(limit_ms * (highest / limit_ms) ** (step / LIMITS)) for step in range(1, LIMITS + 1)]
    likely: tuple[dict[str, t.Any], int] | None = None
    for limit in limits:
        outcome = outcome_of(known, functools.partial(method, limit_s=limit / 1000), cap_ms, edges=True)
        if outcome["verdict"] == "converges":
            return outcome, limit
        # What only likely ends opens with the lowest limit at which it does: QEMU spends all that it is given.
        if outcome["verdict"] == "marginal" and outcome["total_s"]["value"] is not None:
            likely = likely or (outcome, limit)
    return likely or (outcome, limits[-1])


def _precopy_reason(known: Known, outcome: t.Mapping[str, t.Any], limit_ms: int, cap_ms: int) -> str:
    if not known.curve.windows:
        return "the working set was not measured, so no forecast is possible"
    likely = known.likely()
    fits = human_bytes(likely.link.bandwidth_bytes_per_s * limit_ms / 1000)
    again = human_bytes(likely.window(limit_ms / 1000))
    if outcome["verdict"] == "converges":
        return f"in {limit_ms} ms the guest dirties {again} and the link carries {fits}"
    if outcome["verdict"] == "marginal":
        return f"in {limit_ms} ms the guest dirties {again} and the link carries {fits}: too close for a forecast"
    if outcome["downtime_ms"]["value"] is not None:
        return f"it ends, but keeps the guest down for {_shown_ms(outcome)}; {cap_ms} ms are accepted"
    return (
        f"in {limit_ms} ms the guest dirties {again} and the link carries {fits}; what is left after each round would"
        f" keep it down for {human_seconds(floor_s(likely))}"
    )


def _raised(known: Known, limit_ms: int, cap_ms: int) -> dict[str, t.Any]:
    outcome = outcome_of(known, lambda one: methods.raised(one, limit_ms / 1000), cap_ms)
    likely = methods.raised(known.likely(), limit_ms / 1000)
    raise_to = math.ceil(max(limit_ms, likely.more["raise_to_s"] * 1000)) if likely else None
    reason = f"raising the downtime limit once, after two rounds, keeps the guest down for {_shown_ms(outcome)}"
    return _with(outcome, _against(reason, outcome, cap_ms), limit_ms=limit_ms, raise_to_ms=raise_to, after_rounds=2)


def _xbzrle(known: Known, limit_ms: int, cap_ms: int, cache: int, cpus: float | None) -> dict[str, t.Any]:
    method = functools.partial(methods.xbzrle, cache_bytes=cache, cpus=_or_any(cpus))
    outcome, limit_ms = _at_lowest_limit(known, method, limit_ms, cap_ms)
    if known.sparse is None:
        if outcome["verdict"] == "converges":
            reason = "converges, whatever share of each page changes"
        else:
            reason = "the share of each page that changes is not known: xbzrle may help a lot or not at all"
            outcome = {**outcome, "verdict": "marginal"}
    else:
        share = f"{100 * known.sparse:.{0 if known.sparse > 0.1 else 1}f} %"
        reason = f"{share} of a dirtied page changes and {human_bytes(cache)} of pages are kept"
    return _with(outcome, reason, limit_ms=limit_ms, cache_bytes=cache)


def _zstd(known: Known, limit_ms: int, cap_ms: int, cpus: float | None) -> dict[str, t.Any]:
    method = functools.partial(methods.parallel_zstd, cpus=_or_any(cpus))
    outcome, limit_ms = _at_lowest_limit(known, method, limit_ms, cap_ms)
    if known.compressed_share is None:
        reason = "it is not known how well the guest's memory compresses, so no compression is assumed"
    else:
        reason = f"the guest's memory {_compresses(known.compressed_share)}"
        if known.hot_compressed_share is not None and known.hot_compressed_share != known.compressed_share:
            reason = f"{reason}, its hot set {_compresses(known.hot_compressed_share)}"
    return _with(outcome, reason, limit_ms=limit_ms)


def _or_any(cpus: float | None) -> float:
    return math.inf if cpus is None else cpus


def _compresses(share: float) -> str:
    return f"compresses to {100 * share:.0f} %" if share < INCOMPRESSIBLE else "hardly compresses"


def _throttle(known: Known, limit_ms: int, cap_ms: int) -> dict[str, t.Any]:
    likely = known.likely()
    pct = methods.least_throttle(likely, limit_ms / 1000)
    if known.vcpu_utilisation is None or pct is None:
        why = (
            "the guest's CPU use is not known, and a throttle takes CPU time"
            if known.vcpu_utilisation is None
            else f"even {methods.HIGHEST_THROTTLE_PCT} % throttle would not slow the guest enough"
        )
        return _with(_never(), why, limit_ms=limit_ms, throttle_pct=None, freeze_ms=None)
    outcome = outcome_of(known, lambda one: methods.throttled(one, limit_ms / 1000, pct), cap_ms, edges=True)
    if pct == 0:
        return _with(outcome, "no throttle is needed", limit_ms=limit_ms, throttle_pct=0, freeze_ms=0)
    freeze_ms = _ms(methods.freeze_s(pct))
    reason = (
        f"a throttle of {pct} %, for a guest that uses {100 * known.vcpu_utilisation:.0f} % of its CPU time, freezes it"
        f" for up to {freeze_ms} ms at a time"
    )
    return _with(outcome, reason, limit_ms=limit_ms, throttle_pct=pct, freeze_ms=freeze_ms)


def _postcopy(known: Known, limit_ms: int, cap_ms: int) -> dict[str, t.Any]:
    outcome = outcome_of(known, lambda one: methods.postcopy(one, limit_ms / 1000), cap_ms)
    lost = outcome["work_lost_s"]["value"]
    reason = (
        f"the guest runs at the destination after one pass and loses about {human_seconds(lost)} of work to page faults"
    )
    return _with(outcome, _against(reason, outcome, cap_ms), limit_ms=limit_ms, after_rounds=1)


def _suspend(known: Known, limit_ms: int, cap_ms: int) -> dict[str, t.Any]:
    outcome = outcome_of(known, lambda one: methods.suspended(one, limit_ms / 1000), cap_ms)
    # The cap is no part of the reason: an operator who permits suspend accepts what it takes.
    reason = f"stopping the guest after one pass keeps it down for {_shown_ms(outcome)}"
    return _with(outcome, reason, limit_ms=limit_ms, after_rounds=1)


def _against(reason: str, outcome: t.Mapping[str, t.Any], cap_ms: int) -> str:
    if outcome["verdict"] == "never":
        return f"{reason}; {cap_ms} ms are accepted"
    return reason


def _shown_ms(outcome: t.Mapping[str, t.Any]) -> str:
    value = outcome["downtime_ms"]["value"]
    return "an unknown time" if value is None else human_milliseconds(value)


def outcome_of(known: Known, method: methods.Method, cap_ms: int, *, edges: bool = False) -> dict[str, t.Any]:
    """A method in all scenarios: figures with bands, and a verdict that holds in all of them or is marginal.

    A method that ends but keeps the guest down for longer than the cap is C(never) as well, with its figures given.

    Args:
        known: of guest and link.
        method: gives the figures in one scenario.
        cap_ms: the longest downtime that is accepted.
        edges: whether the method must send faster than the guest dirties, so that it is also tried with more dirtying
            (or with less, where it does not end).
    """
    likely = _finite(method(known.likely()))
    others = [_finite(method(known.best())), _finite(method(known.worst()))]
    all_figures = [likely, *others]
    if edges:
        all_figures.append(_finite(method(known.edge(EDGE_ABOVE if likely else EDGE_BELOW))))
    kept = [figures is not None and figures.downtime_s * 1000 <= cap_ms for figures in all_figures]
    if not known.curve.windows and not all(kept):
        verdict = "marginal"
    else:
        verdict = "converges" if all(kept) else "marginal" if any(kept) else "never"
    return {"verdict": verdict, **_bands(likely, others if likely else all_figures[1:])}


def _finite(figures: Figures | None) -> Figures | None:
    return figures if figures is not None and math.isfinite(figures.total_s) else None


_FIELDS: tuple[tuple[str, str, float], ...] = (
    ("rounds", "rounds", 1),
    ("bytes", "bytes", 1),
    ("total_s", "total_s", 1),
    ("downtime_ms", "downtime_s", 1000),
    ("work_lost_s", "work_lost_s", 1),
)


def _bands(likely: Figures | None, others: t.Sequence[Figures | None]) -> dict[str, Band]:
    """Value, low and high of each figure. High is null when a scenario never ends. When the likely one does not, only
    low is known: the least of those that end, if any does.
    """
    result: dict[str, Band] = {}
    ended = [figures for figures in [likely, *others] if figures is not None]
    for name, attribute, factor in _FIELDS:
        values = [getattr(figures, attribute) * factor for figures in ended]
        if likely is None:
            result[name] = {"value": None, "low": _plain(min(values), name) if values else None, "high": None}
            continue
        high = max(values) if len(ended) == 1 + len(others) else None
        result[name] = {
            "value": _plain(getattr(likely, attribute) * factor, name),
            "low": _plain(min(values), name),
            "high": None if high is None else _plain(high, name),
        }
    return result


def _plain(value: float, name: str) -> float:
    return round(value, 3) if name.endswith("_s") else round(value)


def _never() -> dict[str, t.Any]:
    return {"verdict": "never", **_bands(None, ())}


def _with(outcome: t.Mapping[str, t.Any], reason: str, **settings: t.Any) -> dict[str, t.Any]:
    return {**outcome, "settings": settings, "reason": reason}


def _disks(known: Known) -> dict[str, float] | None:
    if not known.disk_copy_bytes:
        return None
    seconds, count, dummy = mirror(
        known.disk_copy_bytes, known.disk_write_bytes_per_s, known.link.first_pass_bytes_per_s
    )
    if not math.isfinite(seconds):
        return {"bytes": None, "seconds": None}  # type: ignore[dict-item]
    return {"bytes": round(count), "seconds": round(seconds, 3)}


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
