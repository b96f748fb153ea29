# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What measuring costs the guests: their work with and without it, by turns, as a prober outside sees it."""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.drains import between_drains
from bench.drains.observation import percent_lost
from bench.inputs import bench_options, lower_bound
from harness.operator import Operator
from lab import Lab, LabError, Probe

SCHEMA = "kvmops.bench.measure/1"
MIB = 1024 * 1024
#: Long against what starting the module takes, since that time counts as measured too. What is not needed is not spent.
BUDGET_S = 30.0
REPEATS = 5

Sections = Sequence[Mapping[str, Mapping[str, Any]]]


def measure(lab: Lab, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure all guests of the source at once, and leave them alone for as long, by turns; return what it cost."""
    wanted = bench_options.read(options.scenario)
    source, destination = bench_options.ends(wanted, lab.scenario)
    lab = between_drains.bring_home(lab)
    names = [guest.name for guest in lab.guests.values() if guest.home == source]
    operator = Operator(lab, folder)
    repeats = options.repeats or wanted.repeats or REPEATS
    allow_monitor = bool(wanted.variables.get("drain_host_allow_monitor", False))
    # As the role asks: a guest whose verdict for this link is doubtful is looked at more closely.
    rate_mib_s = int(lower_bound.rate(lab.host(destination).plan.link_mbit) / MIB)
    told = {"budget_s": BUDGET_S, "allow_monitor": allow_monitor, "bandwidth_mib_s": rate_mib_s or None}
    quiet: list[Mapping[str, Mapping[str, Any]]] = []
    measured: list[Mapping[str, Mapping[str, Any]]] = []
    with lab.probe(names) as probe:
        for repeat in range(1, repeats + 1):
            section, seconds = _while_measuring(probe, operator, source, told)
            measured.append(section)
            quiet.append(_while_quiet(probe, seconds))
            print(f"measure: {repeat}/{repeats}: {seconds:.0f} s each", flush=True)
    return document(names, quiet, measured, allow_monitor=allow_monitor)


def _while_measuring(
    probe: Probe, operator: Operator, source: str, told: Mapping[str, Any]
) -> tuple[Mapping[str, Mapping[str, Any]], float]:
    probe.mark()
    outcome = operator.run_module(source, "working_set_info", name=source, **told)
    section = probe.records()
    if outcome.status or not re.search(r'"points": \[\s*\{', outcome.text):
        raise LabError(f"nothing was measured: {outcome.words[-300:]}", "Run the bench again.")
    return section, outcome.seconds


def _while_quiet(probe: Probe, seconds: float) -> Mapping[str, Mapping[str, Any]]:
    probe.mark()
    time.sleep(seconds)
    return probe.records()


def document(names: Sequence[str], quiet: Sections, measured: Sections, *, allow_monitor: bool) -> dict[str, Any]:
    """Put the sections of a prober side by side.

    Args:
        quiet, measured: by turns without and with measuring, records of a prober by guest.
    """
    guests = [_guest(name, [one[name] for one in quiet], [one[name] for one in measured]) for name in names]
    costs = [guest["cost_pct"] for guest in guests if guest["cost_pct"] is not None]
    return {
        "schema": SCHEMA,
        "repeats": len(measured),
        "allow_monitor": allow_monitor,
        "work_lost_pct_max": max(costs, default=None),
        "guests": guests,
    }


def _guest(name: str, quiet: Sequence[Mapping[str, Any]], measured: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians; what measuring costs is what a guest loses meanwhile beyond what it loses anyway."""
    without, during = (
        [lost for record in records if (lost := percent_lost(record)) is not None] for records in (quiet, measured)
    )
    has_work = bool(without and during)
    return {
        "guest": name,
        "work_lost_quiet_pct": round(statistics.median(without), 2) if has_work else None,
        "work_lost_measured_pct": round(statistics.median(during), 2) if has_work else None,
        "cost_pct": round(max(0.0, statistics.median(during) - statistics.median(without)), 2) if has_work else None,
        "silence_quiet_ms": max(record["downtime_ms"] for record in quiet),
        "silence_measured_ms": max(record["downtime_ms"] for record in measured),
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    told = ["", f"{'GUEST':14}{'LOST % WITHOUT':>16}{'WITH':>8}{'COST %':>8}{'SILENCE ms WITHOUT':>20}{'WITH':>8}"]
    told += [
        f"{one['guest']:14}{_percent(one['work_lost_quiet_pct']):>16}{_percent(one['work_lost_measured_pct']):>8}"
        f"{_percent(one['cost_pct']):>8}{one['silence_quiet_ms']:20.1f}{one['silence_measured_ms']:8.1f}"
        for one in found["guests"]
    ]
    return [*told, "", f"At most {_percent(found['work_lost_pct_max'])} % of a guest's work is lost by measuring it."]


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
