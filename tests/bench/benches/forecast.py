# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Forecast against actual: the guests of one host over links of several speeds.

For each link the host is drained by the playbook, which measures all guests at once and moves each in the way that it
chose, each move teaching the forecasts of those after it. Then what was said about plain pre-copy is checked as well,
where another way was chosen: by moving those guests so, and giving up those that do not end.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import forecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import DEFAULTS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge, appraise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import OPENING_LIMIT_MS
from bench.drains import between_drains, playbook_drain, policy_drain
from bench.drains.drain_record import DrainRequest, MoveRecord
from bench.drains.observation import Observation
from bench.drains.policies import POLICIES
from bench.inputs import bench_options, lower_bound
from bench.results import forecast_grid
from lab import Lab

LINKS_MBIT = (400.0, 200.0, 100.0)
MIB = 1024 * 1024
#: A guest that plain pre-copy is said never to end for is given up after so many first passes, and so much on top.
PASSES, EXTRA_S = 2.5, 3.0
#: Whatever it takes, a drain of one link ends then.
CAP_S = 400.0


def measure(lab: Lab, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Go through the grid; return every combination beside its forecast, and how good the forecasts were."""
    wanted = bench_options.read(options.scenario)
    source, destination = bench_options.ends(wanted, lab.scenario)
    lab = between_drains.bring_home(lab)
    playbook_drain.forget(lab)
    way = DrainRequest(
        source,
        destination,
        cap_s=CAP_S,
        intent=wanted.intent,
        variables=wanted.variables,
        probe_ms=wanted.probe_ms,
    )
    rows: list[dict[str, Any]] = []
    for mbit in wanted.links_mbit or LINKS_MBIT:
        found = _link(lab, way, mbit, folder / f"forecast-{mbit:g}")
        rows += found
        right = sum(row["verdict_right"] for row in found)
        print(f"forecast: {mbit:g} Mbit/s: {right} of {len(found)} verdicts right", flush=True)
    between_drains.bring_home(lab)
    return forecast_grid.document(rows)


lines = forecast_grid.lines


def _link(lab: Lab, way: DrainRequest, mbit: float, folder: Path) -> list[dict[str, Any]]:
    """All guests over one link."""
    guests = [guest.name for guest in lab.guests.values() if guest.home == way.source]
    playbook_drain.forget_links(lab, way.source)
    between_drains.limit(lab, mbit)
    with Observation(lab, way.destination, guests, way.probe_ms) as watch:
        drained = playbook_drain.drain(lab, way, folder, stated_mib_s=lower_bound.rate(mbit) / MIB)
        seen = watch.ended(drained)
    said = {name: _plain(lab, way, mbit, name) for name in guests}
    print(f"forecast: {mbit:g} Mbit/s: {len(drained.moves)} guests in {seen['makespan_s']:.0f} s", flush=True)
    between_drains.bring_home(lab)
    between_drains.limit(lab, mbit)
    moved = {move.guest: move for move in drained.moves}
    plain = {}
    for name in guests:
        move, verdict = moved.get(name), said[name]["verdict"]
        # What is marginal is judged by the move that was chosen, and what was moved so need not be moved so again.
        if verdict != "marginal" and (move is None or move.strategy != "pre-copy"):
            plain[name] = _tried(lab, way, mbit, name, said[name])
    if plain:
        print(f"forecast: {mbit:g} Mbit/s: plain pre-copy tried for {', '.join(plain)}", flush=True)
        between_drains.bring_home(lab)
    return [
        forecast_grid.row(
            mbit, name, moved.get(name), seen["guests"].get(name), said[name], plain.get(name), _cap_ms(lab, way, name)
        )
        for name in guests
    ]


def _cap_ms(lab: Lab, way: DrainRequest, guest: str) -> int:
    of_run = way.intent.get("max_downtime_ms", DEFAULTS["max_downtime_ms"])
    return int(lab.guest(guest).plan.policy.get("max_downtime_ms", of_run))


def _plain(lab: Lab, way: DrainRequest, mbit: float, guest: str) -> dict[str, Any]:
    """What is said about plain pre-copy now that the drain has taught what it could."""
    uuid = lab.guest(guest).uuid
    measured = _kept(lab, way.source, "working_sets")[uuid]["documents"]
    known = Knowledge(
        working_set=max(measured, key=lambda document: str(document["taken_at"])),
        path=_kept(lab, way.source, "calibration-path").get(way.destination, {}).get("state"),
        guest=_kept(lab, way.source, "calibration-guest").get(uuid, {}).get("state"),
        stated_bytes_per_s=lower_bound.rate(mbit),
        tuned=bool(way.variables.get("drain_host_tune_network")),
    )
    send_buffer = lab.host(way.source).ssh("sysctl -n net.ipv4.tcp_wmem").stdout.strip()
    return plain_outcome(known, send_buffer, {**DEFAULTS, **way.intent, "max_downtime_ms": _cap_ms(lab, way, guest)})


def _kept(lab: Lab, host: str, room: str) -> dict[str, dict[str, Any]]:
    """What a host keeps in one room of its state, by key."""
    read = f"for file in /var/lib/kvmops/{room}/*.json; do [ ! -e $file ] || tr -d '\\n' < $file; echo; done"
    kept = [json.loads(line) for line in lab.host(host).ssh(read).stdout.splitlines() if line.strip()]
    return {document["key"]: document for document in kept}


def plain_outcome(known: Knowledge, send_buffer: str, intent: Mapping[str, Any]) -> dict[str, Any]:
    """What the core forecasts of plain pre-copy (an outcome of kvmops.forecast/1).

    Args:
        send_buffer: the source's net.ipv4.tcp_wmem.
        intent: a complete intent.
    """
    source: Any = {"sysctls": {"net.ipv4.tcp_wmem": send_buffer}}
    nobody: Any = {}
    asked: Any = intent
    appraised = appraise(nobody, source, nobody, asked, known)
    if appraised.link is None:
        raise ValueError("a forecast needs a bandwidth")
    document = forecast.forecast(
        appraised.working_set,
        appraised.link,
        cap_ms=int(intent["max_downtime_ms"]),
        limit_ms=OPENING_LIMIT_MS,
        chosen=("pre-copy",),
        guest_factor=appraised.guest_factor,
    )
    outcome: dict[str, Any] = document["outcomes"]["pre-copy"]
    return outcome


def _tried(lab: Lab, way: DrainRequest, mbit: float, guest: str, said: Mapping[str, Any]) -> MoveRecord:
    """Move one guest by plain pre-copy with the limit that was forecast; give it up when it takes far too long."""
    touched = lower_bound.touched(lab, way.source, [guest])[guest]
    limit_s = max(PASSES * touched / lower_bound.rate(mbit), 1.3 * (said["total_s"]["high"] or 0.0)) + EXTRA_S
    plain = dataclasses.replace(POLICIES["virsh"], downtime_ms=int(said["settings"]["limit_ms"]))
    patient = dataclasses.replace(way, guest_cap_s=limit_s, cap_s=limit_s)
    return policy_drain.drain(lab, plain, patient, [guest]).moves[0]
