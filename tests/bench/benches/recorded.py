# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forecast against migrations recorded on real hosts: needs no lab, and takes a few seconds.

Guests are of two kinds. The constants of the model (send buffer, fixed times, what a kernel dirties at once, how long a
short round takes) come from C(idle) and C(hot16); all others are a check: nothing was set by looking at their moves.
The form of the model (leftover, stretches, base) was found on the rounds of C(hot16) too.

Three guests of a drain (drain1 to drain3) and C(compressible) were never measured: they are forecast from what their
program is known to write, and of the drain only the least and the largest figures were noted, which are not pairs. For
the others the forecast knows only what the hypervisor's sampling said. How well memory compresses was not measured
either: it follows from what the guests are made of and from how the idle one compressed, whose zstd rows are no test
therefore.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import forecast, methods
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.scenario import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.curve_fit import USUAL_BASE_BYTES, Fit
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import Reading
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.touched import (
    BALLOON_ERROR,
    Touched,
    touched,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import working_set

RECORDS = Path(__file__).parents[2] / "unit/plugins/module_utils/core/fixtures/recorded-moves.json"
MIB = 1024 * 1024
#: Ways in which W(t) was measured.
METHODS = ("qmp", "libvirt")
#: Guests that constants were set by, and those that are a check.
KINDS = (("fitted", True), ("check", False))
#: Guests that constants were set by.
FITTED = ("idle", "hot16")
#: What is asked of a move when only its end matters: any downtime will do.
ANY_MS = 2_000_000
#: All programs write 8 bytes a page; contents are random but for the kernel's share, which idle compressed to 0.52.
SPARSE = 8 / 4096
COMPRESSED = {"idle": 0.52, "hot16": 0.81, "hot64": 0.85, "hot150": 0.88, "compressible": 0.28}
UTILISATION = 0.04
CACHE_BYTES = 256 * MIB


@dataclasses.dataclass(frozen=True)
class Row:
    """One recorded move beside its forecast; relative errors are forecast over actual, less 1."""

    guest: str
    method: str
    limit_ms: int
    fitted: bool
    ended: bool
    verdict: str
    bytes: tuple[float | None, float]
    total_s: tuple[float | None, float]
    downtime_ms: tuple[float | None, float | None]

    @property
    def right(self) -> bool:
        """Marginal is right either way: such a guest is given help."""
        return self.verdict == "marginal" or (self.verdict == "converges") == self.ended

    def error(self, name: str) -> float | None:
        """Of a move that ended, outside the marginal band."""
        expected, actual = getattr(self, name)
        if not self.ended or self.verdict != "converges" or not expected or not actual:
            return None
        return float(expected / actual - 1)


def records() -> dict[str, t.Any]:
    """What was recorded."""
    found: dict[str, t.Any] = json.loads(RECORDS.read_text("utf-8"))
    return found


def link(found: t.Mapping[str, t.Any]) -> Link:
    """The link of the recordings, with the usual corrections."""
    return Link(found["link"]["bandwidth_bytes_per_s"])


def document(found: t.Mapping[str, t.Any], name: str, method: str = "qmp") -> dict[str, t.Any]:
    """The working set of a recorded guest, from all readings (C(qmp)) or from those of libvirt's call alone."""
    guest = found["guests"][name]
    memory = guest["memory_mib"] * MIB
    if guest["balloon"]:
        sent = touched(guest["balloon"], memory)
    else:
        sent = Touched(int(guest["first_pass_mib"] * MIB), "balloon", BALLOON_ERROR)
    readings = [
        Reading(one["window_s"], one["mib_per_s"], one["samples_per_gib"])
        for one in guest["readings"]
        if one["method"] == "libvirt" or (method == "qmp" and one["samples_per_gib"] >= 4096)
    ]
    made = working_set(
        guest={"name": name, "uuid": name},
        taken_at="2026-11-22T12:00:00Z",
        method=method,
        samples_per_gib=4096 if method == "qmp" else 512,
        memory_bytes=memory,
        touched=sent,
        readings=readings,
        vcpu_utilisation=UTILISATION,
        compressed_share=COMPRESSED.get(name, 1.0),
        sparse=SPARSE,
    )
    return made if readings else {**made, **_known_writes(guest)}


def _known_writes(guest: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What a perfect measurement of the guest's program would find, in a document's words."""
    hot, rate = guest["hot_mib"] * MIB, guest["pages_per_s"] * 4096
    fitted = Fit(hot, hot / rate, 0.0, USUAL_BASE_BYTES, "linear")
    points = [
        {"window_s": window, "dirtied_bytes": fitted.value(window), "sd_bytes": 0.02 * hot, "repeats": 1}
        for window in (0.1, 0.3, 1.0, 3.0, 10.0)
    ]
    return {"points": points, "fit": dataclasses.asdict(fitted)}


def rows(method: str = "qmp") -> list[Row]:
    """All recorded moves beside their forecasts."""
    found = records()
    known: dict[str, Known] = {
        name: forecast.known_of(document(found, name, method), link(found)) for name in found["guests"]
    }
    return [_row(known[move["guest"]], move) for move in found["moves"]]


def _row(known: Known, move: t.Mapping[str, t.Any]) -> Row:
    limit_s = move["limit_ms"] / 1000
    outrun: dict[str, t.Callable[..., t.Any]] = {
        "pre-copy": methods.precopy,
        "parallel-zstd": methods.parallel_zstd,
        "xbzrle": functools.partial(methods.xbzrle, cache_bytes=CACHE_BYTES),
        "throttle": functools.partial(methods.throttled, pct=methods.HIGHEST_THROTTLE_PCT),
    }
    ends: dict[str, t.Callable[..., t.Any]] = {"raise-downtime": methods.raised, "post-copy": methods.postcopy}
    method = {**outrun, **ends}[move["method"]]
    outcome = forecast.outcome_of(
        known, functools.partial(method, limit_s=limit_s), ANY_MS, edges=move["method"] in outrun
    )
    return Row(
        guest=move["guest"],
        method=move["method"],
        limit_ms=move["limit_ms"],
        fitted=move["guest"] in FITTED,
        ended=move["ok"],
        verdict=outcome["verdict"],
        bytes=(outcome["bytes"]["value"], move["bytes"]),
        total_s=(outcome["total_s"]["value"], move["total_s"]),
        downtime_ms=(outcome["downtime_ms"]["value"], move["downtime_ms"]),
    )


def summary(told: t.Sequence[Row]) -> dict[str, t.Any]:
    """Share of right verdicts, and p50 and p90 of the relative errors outside the marginal band."""
    result: dict[str, t.Any] = {
        "moves": len(told),
        "marginal": sum(row.verdict == "marginal" for row in told),
        "verdict_right": sum(row.right for row in told) / len(told),
    }
    for name in ("total_s", "bytes", "downtime_ms"):
        errors = sorted(abs(error) for error in (row.error(name) for row in told) if error is not None)
        result[name] = {"p50_error": _quantile(errors, 0.5), "p90_error": _quantile(errors, 0.9)}
    return result


def _quantile(ordered: t.Sequence[float], share: float) -> float | None:
    """The smallest value that such a share does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def lines(told: t.Sequence[Row]) -> list[str]:
    """A table for people."""
    head = f"{'guest':13}{'method':15}{'limit':>6}  {'ended':6}{'verdict':10}"
    table = [head + f"{'MiB':>14}{'':6}{'s':>13}{'':6}{'down ms':>13}"]
    for row in told:
        cells = [
            _cell(row.bytes[0], row.bytes[1], MIB, row.error("bytes")),
            _cell(row.total_s[0], row.total_s[1], 1, row.error("total_s")),
            _cell(row.downtime_ms[0], row.downtime_ms[1], 1, row.error("downtime_ms"), 0),
        ]
        table.append(
            f"{row.guest:13}{row.method:15}{row.limit_ms:6}  {'yes' if row.ended else 'no':6}{row.verdict:10}"
            + "".join(cells)
            + ("" if row.right else "  WRONG")
        )
    return table


def _cell(expected: float | None, actual: float | None, unit: float, error: float | None, digits: int = 1) -> str:
    left = "-" if expected is None else f"{expected / unit:.{digits}f}"
    right = "-" if actual is None else f"{actual / unit:.{digits}f}"
    percent = "" if error is None else f"{100 * error:+.0f}%"
    return f"{left + ' / ' + right:>14}{percent:>5} "


def measure(folder: Path, options: argparse.Namespace) -> dict[str, t.Any]:
    """Return all rows and summaries, for both ways of measuring; nothing is written into the folder."""
    found: dict[str, t.Any] = {"schema": "kvmops.bench.recorded/1"}
    for method in METHODS:
        told = rows(method)
        found[method] = {
            **{name: summary([row for row in told if row.fitted == fitted]) for name, fitted in KINDS},
            "rows": [dataclasses.asdict(row) for row in told],
        }
    return found


def document_lines(found: t.Mapping[str, t.Any]) -> list[str]:
    """The document for people."""
    told = []
    for method in METHODS:
        told += [f"== W(t) from {method} (forecast / actual)", *lines([Row(**row) for row in found[method]["rows"]])]
        told += [f"{name}: {json.dumps(found[method][name])}" for name, dummy in KINDS]
    return told
