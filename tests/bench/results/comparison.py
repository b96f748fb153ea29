# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several strategies side by side: medians over their repeats, ratios to ours, a table. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import DEFAULTS
from bench.drains import playbook_drain
from bench.drains.policies import FLOOR

SCHEMA = "kvmops.bench.strategies/1"
MIB = 1024 * 1024
#: What a probe a few milliseconds apart cannot tell from the accepted downtime.
TOLERANCE_MS = 5.0
#: Figures of a guest of which the median is told.
FIGURES = ("total_s", "bytes", "rounds", "downtime_observed_ms", "downtime_reported_ms", "work_lost_s", "work_lost_pct",
           "quiet_work_lost_pct")  # fmt: skip

TOTALS = (
    f"{'STRATEGY':24}{'TIME':>9}{'x KVMOPS':>10}{'x LEAST':>9}{'MiB':>8}{'x KVMOPS':>10}{'MOVED':>8}"
    f"{'OUTSIDE INTENT':>16}{'MEASURED':>10}"
)
EACH = (
    f"{'STRATEGY':24}{'GUEST':14}{'OUTCOME':12}{'HOW':16}{'s':>7}{'MiB':>8}{'ROUNDS':>7}{'DOWN ms':>9}{'REPORTED':>9}"
    f"{'ACCEPTED':>9}{'KEPT':>6}{'LOST s':>8}{'LOST %':>8}"
)

Run = Mapping[str, Any]


def document(
    runs: Mapping[str, Sequence[Run]],
    *,
    link_mbit: float,
    lower_bound_s: float,
    touched: Mapping[str, int],
    intents: Mapping[str, Any],
    sources: Mapping[str, str],
) -> dict[str, Any]:
    """Put together what each strategy came to.

    Args:
        runs: by strategy, its drains: makespan_s, bytes, measured_s, playbook_s, and guests by name.
        touched: bytes by guest, of all guests that were to move.
        intents: accepted downtime in milliseconds by guest; None for the usual one.
        sources: where a policy's constants are from.
    """
    accepted = {name: float(intents.get(name) or DEFAULTS["max_downtime_ms"]) for name in touched}
    found = {name: _strategy(of_one, accepted) for name, of_one in runs.items()}
    mine = found.get(playbook_drain.NAME)
    floor_ms = _usual_silence(found[FLOOR]) if FLOOR in found else None
    for name, one in found.items():
        one["source"] = sources.get(name)
        one["lower_bound_ratio"] = _ratio(one["makespan_s"], lower_bound_s)
        one["ratio"] = {
            figure: _ratio(one[figure], mine[figure]) if mine and mine["moved"] else None
            for figure in ("makespan_s", "bytes")
        }
        one["floor_ratio"] = _ratio(_usual_silence(one), floor_ms)
        for row in one["guests"]:
            row["touched_bytes"] = touched[row["guest"]]
    return {
        "schema": SCHEMA,
        "link_mbit": link_mbit,
        "lower_bound_s": round(lower_bound_s, 3),
        "touched_bytes": sum(touched.values()),
        "guests": len(touched),
        "floor_ms": floor_ms,
        "strategies": found,
    }


def _usual_silence(strategy: Mapping[str, Any]) -> float | None:
    """The median of what guests were down for, in milliseconds, as seen from outside."""
    values = [row["downtime_observed_ms"] for row in strategy["guests"] if row["outcome"] == "moved"]
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 3) if known else None


def _ratio(figure: float | None, other: float | None) -> float | None:
    return None if figure is None or not other else round(figure / other, 3)


def _strategy(runs: Sequence[Run], accepted: Mapping[str, float]) -> dict[str, Any]:
    arrived = [sum(bool(row["arrived"]) for row in run["guests"].values()) for run in runs]
    return {
        "makespan_s": round(statistics.median(run["makespan_s"] for run in runs), 3),
        "all_moved": all(count == len(accepted) for count in arrived),
        "moved": min(arrived),
        "bytes": round(statistics.median(run["bytes"] for run in runs)),
        "measured_s": round(statistics.median(run["measured_s"] for run in runs), 3),
        "playbook_s": runs[0]["playbook_s"] and round(statistics.median(run["playbook_s"] for run in runs), 3),
        "outside_intent": sum(
            not _kept(run["guests"].get(name), limit) for run in runs for name, limit in accepted.items()
        ),
        "guests": [_guest(name, [run["guests"].get(name) for run in runs], limit) for name, limit in accepted.items()],
        "runs": [{**run, "guests": list(run["guests"].values())} for run in runs],
    }


def _kept(row: Run | None, limit_ms: float) -> bool:
    """Whether a guest arrived and was silent for no longer than accepted."""
    return (
        row is not None
        and bool(row["arrived"])
        and row["downtime_observed_ms"] is not None
        and row["downtime_observed_ms"] <= limit_ms + TOLERANCE_MS
    )


def _guest(name: str, rows: Sequence[Run | None], limit_ms: float) -> dict[str, Any]:
    """One guest over all repeats: the worst outcome, and of its figures the medians."""
    known = [row for row in rows if row is not None]
    told: dict[str, Any] = {"guest": name, "outcome": "not_started", "strategy": None}
    for row in sorted(known, key=lambda row: not row["arrived"]):
        told |= {"outcome": row["outcome"], "strategy": row["strategy"]}
    for figure in FIGURES:
        values = [row[figure] for row in known if row[figure] is not None]
        told[figure] = round(statistics.median(values), 3) if values else None
    told["max_downtime_ms"] = limit_ms
    told["kept"] = len(known) == len(rows) and all(_kept(row, limit_ms) for row in known)
    return told


def line(run: Run) -> str:
    """One drain, for people who wait."""
    arrived = sum(bool(row["arrived"]) for row in run["guests"].values())
    return f"{run['makespan_s']:.1f} s, {run['bytes'] / MIB:.0f} MiB, {arrived} of {len(run['guests'])} guests moved"


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document for people: one line a strategy, then one line a guest of each."""
    told = [
        "",
        f"{found['guests']} guests over {found['link_mbit']:g} Mbit/s, at least {found['lower_bound_s']:.1f} s",
        "",
        TOTALS,
    ]
    for name, one in found["strategies"].items():
        told.append(
            f"{name:24}{one['makespan_s']:8.1f}s{_number(one['ratio']['makespan_s'], 10, 2)}"
            f"{_number(one['lower_bound_ratio'], 9, 2)}{one['bytes'] / MIB:8.0f}{_number(one['ratio']['bytes'], 10, 2)}"
            f"{str(one['moved']) + '/' + str(found['guests']):>8}{one['outside_intent']:16}{one['measured_s']:9.1f}s"
        )
    if found["floor_ms"] is not None:
        told += [
            "",
            f"The least downtime of a guest on this link: {found['floor_ms']:.0f} ms; median downtimes over it:",
        ]
        told += [f"{name:24}{_number(one['floor_ratio'], 9, 2)}" for name, one in found["strategies"].items()]
    told += [
        "",
        EACH,
    ]
    for name, one in found["strategies"].items():
        told += [_guest_line(name, row) for row in one["guests"]]
    return told


def _guest_line(name: str, row: Run) -> str:
    return (
        f"{name:24}{row['guest']:14}{row['outcome']:12}{row['strategy'] or '-':16}{_number(row['total_s'], 7, 1)}"
        f"{_number(None if row['bytes'] is None else row['bytes'] / MIB, 8, 0)}{_number(row['rounds'], 7, 0)}"
        f"{_number(row['downtime_observed_ms'], 9, 0)}{_number(row['downtime_reported_ms'], 9, 0)}"
        f"{row['max_downtime_ms']:9.0f}{'yes' if row['kept'] else 'no':>6}"
        f"{_number(row['work_lost_s'], 8, 2)}{_number(row['work_lost_pct'], 8, 1)}"
    )


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:{width}.{digits}f}"
