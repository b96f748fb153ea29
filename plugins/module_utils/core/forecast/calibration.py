# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What finished moves teach the next forecast: corrections of a path and of a guest, as plain data.

Each correction is a running mean with exponential decay, so that a link that was upgraded is believed after a few
moves. One odd move must not spoil it. So a value far from the mean (by the mean deviation of the values so far) is
limited to what is likely before it is learned. An impossible value is not learned at all. A value that comes again and
again widens the deviation, and is believed in the end.
"""

from __future__ import annotations

import math
import statistics
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link

CALIBRATION = "kvmops.calibration/1"
#: Weight of a new value once a few have been seen; the first ones weigh more (1/2, 1/3, ...), what was assumed counts
#: 1.
DECAY = 0.25
#: Where what was assumed counts less: two paths differ in these by more than two moves over one path do (before_s was
#: 0.2 s on one machine and 1.0 s on another, each within 0.2 s from move to move). Where it counts more: a look at
#: memory is right on average, so what one move was off by is mostly the scatter of that look.
ASSUMED_COUNTS = {"before_s": 0.25, "after_s": 0.25, "touched_factor": 3.0}
#: What is assumed of a path that nothing has moved over, where that is not what the lab's recorded moves had: a host
#: with libvirt's own settings (control groups, a mount namespace and a /dev for each guest) connects by ssh and
#: starts QEMU in 1.0 to 1.8 s in most moves, and in up to 3.4 s (measured with eight guests at work on two cores).
ASSUMED = {"before_s": 1.3}
#: A property of the hosts rather than of what lies between them. Where a path has not shown it, others of the host
#: have.
OF_HOSTS = ("before_s", "after_s")
#: What moves have shown of compression counts so many times what one sample says; beyond this distance, the contents
#: are others.
SHOWN_COUNTS = 2.0
OTHER_CONTENTS = 0.3
#: A value is taken to be at most so many mean deviations from the mean.
MOST_DEVIATIONS = 3.0
#: The mean deviation of a value that has been seen once, as a share of it.
FIRST_DEVIATION = 0.25
#: Deviations are never believed to be smaller than this share of the mean.
LEAST_DEVIATION = 0.02
#: Counting goes no further: only the first few counts change anything.
MOST_SEEN = 1000

#: name of a correction: (lowest, highest) that can be true.
BOUNDS: dict[str, tuple[float, float]] = {
    "bandwidth_bytes_per_s": (1e3, 1e12),
    "fixed_s": (0.0, 10.0),
    "queue_bytes": (0.0, 1e9),
    "before_s": (0.0, 60.0),
    "after_s": (0.0, 60.0),
    "overhead": (0.0, 0.5),
    "touched_factor": (0.2, 5.0),
    "told_factor": (0.2, 5.0),
    "compressed_share": (0.0, 1.5),
}
OF_PATH = ("bandwidth_bytes_per_s", "fixed_s", "queue_bytes", "before_s", "after_s", "overhead")

State = dict[str, t.Any]


def new_path() -> State:
    """What is known of a path that nothing has moved over."""
    return {"schema": CALIBRATION, "kind": "path", "learned": {}}


def new_guest() -> State:
    """What is known of a guest that has not moved."""
    return {"schema": CALIBRATION, "kind": "guest", "learned": {}}


def link_of(
    path: t.Mapping[str, t.Any] | None,
    bandwidth_bytes_per_s: float | None = None,
    others: t.Iterable[t.Mapping[str, t.Any]] = (),
) -> Link | None:
    """The link as it has been learned.

    Args:
        path: its state, or None when nothing has been learned. Whatever in it makes no sense is passed over.
        bandwidth_bytes_per_s: what is known of the bandwidth otherwise (inventory, speed of the interface); what was
            learned is believed up to that. None: only what was learned.
        others: states of other paths from the same host. They tell how long hosts take to set up a move.

    Returns:
        the link, or None when nobody knows its bandwidth.
    """
    known = {name: _mean(path, name) for name in OF_PATH}
    learned = known.pop("bandwidth_bytes_per_s")
    rates = [rate for rate in (learned, bandwidth_bytes_per_s) if rate is not None]
    if not rates:
        return None
    fields = {**ASSUMED, **_of_hosts(others), **{name: value for name, value in known.items() if value is not None}}
    spread = _deviation(path, "bandwidth_bytes_per_s")
    if learned is not None and spread is not None:
        fields["spread"] = min(0.5, max(LEAST_DEVIATION, spread / learned))
    return Link(min(rates), **fields)


def _of_hosts(others: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, float]:
    found = {name: [_mean(path, name) for path in others] for name in OF_HOSTS}
    shown = {name: [value for value in values if value is not None] for name, values in found.items()}
    return {name: statistics.median(values) for name, values in shown.items() if values}


def factor_name(touched_how: str) -> str:
    """The correction of touched memory that was estimated so (C(touched_how) of a working set).

    What the guest or its hypervisor tells is too high or too low in another way than what was looked at.
    """
    return "touched_factor" if touched_how == "look" else "told_factor"


def guest_factor(guest: t.Mapping[str, t.Any] | None, touched_how: str) -> float:
    """Touched memory as it was sent over as it was estimated in this way, of this guest so far."""
    return _mean(guest, factor_name(touched_how)) or 1.0


def compressed_share(guest: t.Mapping[str, t.Any] | None, sampled: float) -> float:
    """Bytes after compression by those before: what a sample promises now, and what the guest's moves have shown.

    A sample scatters (0.03 to 0.05 with 50 pieces of memory, 0.15 with 16), and moves do not, but a guest may have
    other contents by now. So both count, and a sample that is far off stands for itself.
    """
    shown = _mean(guest, "compressed_share")
    if shown is None or abs(shown - sampled) > OTHER_CONTENTS:
        return sampled
    return (sampled + SHOWN_COUNTS * shown) / (1 + SHOWN_COUNTS)


def knows(state: t.Mapping[str, t.Any] | None, name: str) -> bool:
    """Whether a correction of a path or a guest has been learned, and is not only assumed."""
    return _mean(state, name) is not None


def learn(
    path: t.Mapping[str, t.Any] | None,
    guest: t.Mapping[str, t.Any] | None,
    outcome: t.Mapping[str, t.Any],
    link: Link,
    actual: t.Mapping[str, t.Any],
    *,
    touched_how: str = "look",
) -> tuple[State, State]:
    """Compare a finished move with its forecast and return both states, changed; those given are left alone.

    Args:
        path: the path's state so far, or None.
        guest: the guest's, or None.
        outcome: the forecast's outcome of the method that was used (its C(bytes) and C(downtime_ms)).
        link: the link that the forecast was made with.
        actual: what came true; each may be missing or None: C(bytes_per_s) measured while memory went,
            C(first_byte_s) from the call until then, C(after_s) from the guest running there to the end of the call,
            C(downtime_ms), C(last_bytes) sent while the guest stood still, where that and the send buffer made the
            downtime (else it is compared with the forecast as a whole), C(first_pass_bytes) and the
            C(forecast_first_pass_bytes), C(page_bytes) of guest memory and C(bytes) in all, C(compressed_share): bytes
            on the wire by those of the pages, of a move that compressed.
        touched_how: how the memory that the guest has touched was estimated.
    """
    numbers = {name: _number(value) for name, value in actual.items()}
    for name, value in _of_path(numbers, outcome, link).items():
        path = _learned({**new_path(), **(path or {})}, name, value, getattr(link, name))
    factor = _touched_factor(numbers, outcome, guest_factor(guest, touched_how))
    if factor is not None:
        guest = _learned({**new_guest(), **(guest or {})}, factor_name(touched_how), factor, 1.0)
    compressed = numbers.get("compressed_share")
    if compressed is not None:
        guest = _learned({**new_guest(), **(guest or {})}, "compressed_share", compressed, compressed)
    return dict(path or new_path()), dict(guest or new_guest())


def _of_path(actual: t.Mapping[str, float | None], outcome: t.Mapping[str, t.Any], link: Link) -> dict[str, float]:
    found = {
        "bandwidth_bytes_per_s": actual.get("bytes_per_s"),
        "before_s": actual.get("first_byte_s"),
        "after_s": actual.get("after_s"),
        **(_switchover(actual, link) or _residue(actual, outcome, link)),
    }
    total, pages = actual.get("bytes"), actual.get("page_bytes")
    if total and pages:
        found["overhead"] = total / pages - 1
    return {name: value for name, value in found.items() if value is not None}


def _switchover(actual: t.Mapping[str, float | None], link: Link) -> dict[str, float]:
    """F or Q from a downtime: Q where the send buffer decided, F where the last copy was larger than it.

    Only one of the two can be seen in one move: downtime = F + max(Q, last) / B.
    """
    down_ms, last = actual.get("downtime_ms"), actual.get("last_bytes")
    if down_ms is None or last is None:
        return {}
    rate = actual.get("bytes_per_s") or link.last_copy_bytes_per_s
    if last > link.queue_bytes:
        return {"fixed_s": down_ms / 1000 - last / rate}
    return {"queue_bytes": (down_ms / 1000 - link.fixed_s) * rate}


def _residue(actual: t.Mapping[str, float | None], outcome: t.Mapping[str, t.Any], link: Link) -> dict[str, float]:
    """F from a downtime whose parts cannot be told apart: the error of a sure forecast, on top of what was known."""
    down_ms = actual.get("downtime_ms")
    expected_ms = _number((outcome.get("downtime_ms") or {}).get("value"))
    if down_ms is None or expected_ms is None or outcome.get("verdict") != "converges":
        return {}
    return {"fixed_s": max(0.0, link.fixed_s + (down_ms - expected_ms) / 1000)}


def _touched_factor(
    actual: t.Mapping[str, float | None], outcome: t.Mapping[str, t.Any], so_far: float
) -> float | None:
    """Sent over forecast in the first pass, or in all where the first pass is not known and the forecast was sure.

    The forecast had the correction so far in it already, so what it is off by goes on top.
    """
    sent, expected = actual.get("first_pass_bytes"), actual.get("forecast_first_pass_bytes")
    if not sent or not expected:
        sent = actual.get("bytes") if outcome.get("verdict") == "converges" else None
        expected = _number((outcome.get("bytes") or {}).get("value"))
    if not sent or not expected:
        return None
    return so_far * sent / expected


def _learned(state: t.Mapping[str, t.Any], name: str, value: float, assumed: float) -> State:
    """A state with one more value of one correction. What was assumed so far counts as the first value."""
    low, high = BOUNDS[name]
    if not (low <= value <= high):
        return dict(state)
    mean, deviation, seen = _mean(state, name), _deviation(state, name), _seen(state, name)
    if mean is None or deviation is None:
        mean, deviation, seen = assumed, FIRST_DEVIATION * max(abs(assumed), abs(value)), 1
    farthest = MOST_DEVIATIONS * max(deviation, LEAST_DEVIATION * abs(mean))
    taken = max(mean - farthest, min(value, mean + farthest))
    weight = max(DECAY, 1 / (seen + ASSUMED_COUNTS.get(name, 1)))
    entry = {
        "mean": min(high, max(low, mean + weight * (taken - mean))),
        # The whole distance widens what is likely, up to twice the farthest: what comes again is believed in the end.
        "deviation": deviation + weight * (min(abs(value - mean), 2 * farthest) - deviation),
        "seen": min(MOST_SEEN, seen + 1),
    }
    kept = {other: dict(_entry(state, other)) for other in BOUNDS if _mean(state, other) is not None}
    return {**state, "learned": {**kept, name: entry}}


def _entry(state: t.Mapping[str, t.Any] | None, name: str) -> t.Mapping[str, t.Any]:
    learned = (state or {}).get("learned")
    entry = learned.get(name) if isinstance(learned, t.Mapping) else None
    return entry if isinstance(entry, t.Mapping) else {}


def _mean(state: t.Mapping[str, t.Any] | None, name: str) -> float | None:
    value = _number(_entry(state, name).get("mean"))
    low, high = BOUNDS[name]
    return value if value is not None and low <= value <= high else None


def _deviation(state: t.Mapping[str, t.Any] | None, name: str) -> float | None:
    value = _number(_entry(state, name).get("deviation"))
    return value if value is not None and value >= 0 else None


def _seen(state: t.Mapping[str, t.Any] | None, name: str) -> int:
    value = _number(_entry(state, name).get("seen"))
    return max(1, int(value)) if value is not None else 1


def _number(value: t.Any) -> float | None:
    """A finite number, or None: state and results come from files and hypervisors."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)
