# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a drain will be over, as its plan says, beside when it was: drains of one host over links of several speeds.

Beside it stands what an operator would reckon with instead: the guests' memory over what the link gives.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.drains import between_drains, playbook_drain
from bench.drains.drain_record import DrainRequest
from bench.inputs import bench_options, lower_bound
from bench.results.forecast_grid import quantile
from lab import Lab, LabError

SCHEMA = "kvmops.bench.eta/1"
MIB = 1024 * 1024
RUNS = 10
#: A plan that is off by no more than this is right.
RIGHT = 0.20


def measure(lab: Lab, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Drain the host again and again, over one link after the other; return each drain beside its plan."""
    wanted = bench_options.read(options.scenario)
    source, destination = bench_options.ends(wanted, lab.scenario)
    lab = between_drains.bring_home(lab)
    playbook_drain.forget(lab)
    way = DrainRequest(source, destination, cap_s=300.0, intent=wanted.intent, variables=wanted.variables)
    links = wanted.links_mbit or (200.0,)
    rows: list[dict[str, Any]] = []
    for number in range(options.repeats or RUNS):
        mbit = links[number % len(links)]
        playbook_drain.forget_links(lab, source)
        between_drains.limit(lab, mbit)
        rows.append(_drain(lab, way, mbit, folder / f"eta-{number + 1:02d}"))
        print(line(rows[-1]), flush=True)
        lab = between_drains.bring_home(lab)
    return document(rows)


def _drain(lab: Lab, way: DrainRequest, mbit: float, folder: Path) -> dict[str, Any]:
    memory = sum(guest.plan.memory_mib for guest in lab.guests.values() if guest.home == way.source)
    drained = playbook_drain.drain(lab, way, folder, stated_mib_s=lower_bound.rate(mbit) / MIB)
    reports = sorted((folder / "kvmops-reports").glob("*.json"))
    if not reports:
        raise LabError(f"the drain over {mbit:g} Mbit/s left no report", f"See {folder / 'ansible.log'}.")
    report = json.loads(reports[-1].read_text(encoding="utf-8"))
    moved = sum(move.outcome == "moved" for move in drained.moves)
    return row(mbit, report, moved, memory * MIB / lower_bound.rate(mbit))


def row(link_mbit: float, report: Mapping[str, Any], moved: int, reckoned_s: float) -> dict[str, Any]:
    """One drain.

    Args:
        report: C(kvmops.report/1), with what the plan expected and what it took.
        moved: guests that moved.
        reckoned_s: the guests' memory over what the link gives.
    """
    planned, actual = report["expected"]["seconds"], report["total_s"]
    return {
        "link_mbit": link_mbit,
        "guests": moved,
        "planned_s": planned,
        "actual_s": actual,
        "reckoned_s": round(reckoned_s, 1),
        "error": _error(planned, actual),
        "reckoned_error": _error(reckoned_s, actual),
    }


def _error(said: float | None, actual: float) -> float | None:
    return None if said is None else round(said / actual - 1, 4)


def document(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All drains, the share whose plan was right, and the errors of the plans and of the reckoning."""
    errors = [abs(one["error"]) for one in rows if one["error"] is not None]
    reckoned = [abs(one["reckoned_error"]) for one in rows]
    return {
        "schema": SCHEMA,
        "runs": len(rows),
        "right": sum(error <= RIGHT for error in errors),
        "p50_error": quantile(errors, 0.5),
        "p90_error": quantile(errors, 0.9),
        "reckoned_right": sum(error <= RIGHT for error in reckoned),
        "reckoned_p50_error": quantile(reckoned, 0.5),
        "rows": list(rows),
    }


def line(one: Mapping[str, Any]) -> str:
    """One drain for people."""
    off = "no forecast" if one["error"] is None else f"{100 * one['error']:+.0f} %"
    reckoned = f"{one['reckoned_s']} s ({100 * one['reckoned_error']:+.0f} %)"
    return (
        f"eta: {one['link_mbit']:g} Mbit/s: {one['guests']} guests: planned {one['planned_s']} s, "
        f"took {one['actual_s']:.1f} s ({off}); memory over bandwidth: {reckoned}"
    )


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    told = ["", *(line(one) for one in found["rows"]), ""]
    told.append(f"{found['right']} of {found['runs']} plans were within {100 * RIGHT:.0f} % of the actual time.")
    told.append(f"Memory over bandwidth was within it in {found['reckoned_right']} of them.")
    return told
