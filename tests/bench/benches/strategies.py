# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The same guests over the same limited link, by this collection and by the policies of others, by turns in one run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.drains import between_drains, playbook_drain, policy_drain
from bench.drains.drain_record import DrainRecord, DrainRequest
from bench.drains.observation import Observation
from bench.drains.policies import FLOOR, LEAST, POLICIES
from bench.inputs import bench_options, lower_bound
from bench.results import comparison
from harness import actual_state
from lab import Lab, LabError

#: How much longer than the lower bound a drain may take, and how much on top, before what is left is given up.
CAP_FACTOR, CAP_EXTRA_S = 3.0, 30.0
#: How long one guest may be on its way at least, and as a multiple of what the largest one's memory takes.
GUEST_CAP_S, GUEST_CAP_FACTOR = 45.0, 4.0
REPEATS = 2


def measure(lab: Lab, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Drain the source by each strategy, so many times by turns; return the document."""
    wanted = bench_options.read(options.scenario)
    source, destination = bench_options.ends(wanted, lab.scenario)
    names = _names(wanted.strategies)
    guests = [guest.name for guest in lab.guests.values() if guest.home == source]
    mbit = lab.host(destination).plan.link_mbit
    lab = between_drains.bring_home(lab)
    playbook_drain.forget(lab)
    touched = lower_bound.touched(lab, source, guests)
    least_s = lower_bound.lower_bound_s(touched.values(), mbit)
    largest_s = lower_bound.lower_bound_s([max(touched.values())], mbit)
    way = DrainRequest(
        source,
        destination,
        guest_cap_s=wanted.guest_cap_s or max(GUEST_CAP_S, GUEST_CAP_FACTOR * largest_s),
        cap_s=wanted.cap_s or CAP_FACTOR * least_s + CAP_EXTRA_S,
        intent=wanted.intent,
        variables=wanted.variables,
        probe_ms=wanted.probe_ms,
    )
    repeats = options.repeats or wanted.repeats or REPEATS
    print(f"strategies: {len(guests)} guests leave {source} over {mbit} Mbit/s; at least {least_s:.1f} s", flush=True)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for repeat in range(1, repeats + 1):
        for name in names:
            run = _one(lab, name, way, guests, folder / f"{name}-{repeat}")
            runs[name].append(run)
            print(f"strategies: {name} {repeat}/{repeats}: {comparison.line(run)}", flush=True)
            lab = between_drains.bring_home(lab)
    return comparison.document(
        runs,
        link_mbit=mbit,
        lower_bound_s=least_s,
        touched=touched,
        intents={name: lab.guest(name).plan.policy.get("max_downtime_ms") for name in guests},
        sources={name: policy.source for name, policy in POLICIES.items()},
    )


def _names(strategies: Sequence[str]) -> list[str]:
    known = [playbook_drain.NAME, *POLICIES, FLOOR]
    unknown = [name for name in strategies if name not in known]
    if unknown:
        raise LabError(f"no strategy {unknown[0]!r}", f"There are {', '.join(known)}.")
    return list(strategies) or [playbook_drain.NAME, *POLICIES]


def _one(lab: Lab, name: str, way: DrainRequest, guests: Sequence[str], folder: Path) -> dict[str, Any]:
    """One drain by one strategy, watched from outside."""
    with Observation(lab, way.destination, guests, way.probe_ms) as watch:
        drained: DrainRecord
        if name == playbook_drain.NAME:
            drained = playbook_drain.drain(lab, way, folder)
        else:
            drained = policy_drain.drain(lab, LEAST if name == FLOOR else POLICIES[name], way, guests)
        seen = watch.ended(drained)
    places = actual_state.places(lab, guests)
    for guest, row in seen["guests"].items():
        row["arrived"] = places[guest] == way.destination
    return {**seen, "measured_s": drained.measured_s, "playbook_s": drained.playbook_s}


lines = comparison.lines
