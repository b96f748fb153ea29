# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The planner: one cluster from a file, or the clusters that it is held to. Needs no lab.

A file is a set of snapshots (.json) or an htools text. Where hbal is installed (Debian: ganeti-htools) and the cluster
is small enough for it, it is run on the same cluster in the same run. Seconds are those of the process, on one core.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import htools, score
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import Cluster, State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import evacuate
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.move_order import order
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.rebalancing import (
    HBAL_RULES,
    by_rate,
    rebalance,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.rolling_order import order_waves
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.drain import drain
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.forecast_planning import make_with_forecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import PlanForecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.rebalance import plan_rebalance
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Request
from bench.inputs import clusters

GIB = 1024**3
#: hbal takes seconds for 20 hosts, a minute for 40, half an hour for 100.
MOST_HBAL_HOSTS = 40
#: Above so many hosts a whole rolling run is not planned here.
MOST_ROLLED_HOSTS = 200
LEVELS = (0.93, 0.96, 0.99)
SEEDS = range(1, 21)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Plan for one cluster, or for all that the planner is held to."""
    found: dict[str, Any] = {"schema": "kvmops.bench.plan/1", "hbal": shutil.which("hbal") is not None}
    if options.cluster:
        cluster, snapshots = _read(options.cluster)
        found["clusters"] = [_one(options.cluster.name, cluster, snapshots, folder)]
    else:
        found["tight"] = [_tight(level) for level in LEVELS]
        shapes = [
            clusters.Shape(hosts=hosts, guests=10 * hosts, fill=0.4, seed=seed)
            for hosts in (10, 20, 40)
            for seed in (1, 2, 3)
        ]
        found["clusters"] = [
            _one(f"{shape.hosts} hosts, seed {shape.seed}", clusters.cluster(shape), None, folder) for shape in shapes
        ]
        found["upgrades"] = [_upgrade(seed, spares=spares) for spares in (1, 0) for seed in range(1, 6)]
        shape = clusters.Shape(hosts=1000, guests=20000, fill=0.6)
        cluster = clusters.cluster(shape)
        found["clusters"].append(_one("1000 hosts", cluster, clusters.snapshots(cluster), folder))
        found["measured"] = _measured(clusters.Shape(hosts=200, guests=4000, fill=0.6))
    found["peak_mib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def _read(path: Path) -> tuple[Cluster, dict[str, Any] | None]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        return htools.read(text), None
    documents = json.loads(text)
    documents = list(documents.values()) if isinstance(documents, Mapping) else documents
    snapshots = {document["host"]: document for document in documents}
    return NumberedCluster(Constraints(snapshots)).cluster, snapshots


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.process_time()
    result = work()
    return round(time.process_time() - begun, 3), result


def _one(name: str, cluster: Cluster, snapshots: dict[str, Any] | None, folder: Path) -> dict[str, Any]:
    """Rebalance by hbal's formula, drain the fullest host, and upgrade all."""
    state = State(cluster)
    found: dict[str, Any] = {"name": name, "hosts": len(cluster.hosts), "guests": len(cluster.units)}
    found["rebalance"] = _rebalance(cluster)
    found["drain"] = _drain(cluster)
    if len(cluster.hosts) <= MOST_ROLLED_HOSTS:
        seconds, ordered = _timed(
            lambda: order_waves(State(cluster), [h for h, is_open in enumerate(state.is_open) if is_open])
        )
        found["upgrade"] = {"seconds": seconds, "moves": ordered.moves, "guests": ordered.bound}
    if snapshots is not None:
        found["documents"] = _documents(snapshots)
    if shutil.which("hbal") and len(cluster.hosts) <= MOST_HBAL_HOSTS and snapshots is None:
        found["hbal"] = _hbal(cluster, folder)
    return found


def _rebalance(cluster: Cluster) -> dict[str, Any]:
    state = State(cluster)
    seconds, made = _timed(lambda: rebalance(state, score.hbal, HBAL_RULES))
    trial = State(cluster)
    more, ordered = _timed(lambda: order(trial, made.places, by_rate(state, score.hbal(state), made.places)))
    return {
        "seconds": seconds + more,
        "score_before": round(made.before, 6),
        "score_after": round(score.hbal(trial).value, 6),
        "moves": len(ordered.moves),
        "bytes": sum(cluster.units[move.unit].move_bytes for move in ordered.moves),
        "bound_bytes": _bound(cluster, trial),
    }


def _bound(cluster: Cluster, after: State) -> int:
    """Bytes that must move whatever the plan, if no host is to have more memory in use or more guests than the most
    that any has afterwards."""
    before = State(cluster)
    most_used = max(host.capacity_bytes - free for host, free in zip(cluster.hosts, after.free, strict=True))
    most_guests = max(len(on) for on in after.on)
    bound = 0
    for host, free, on in zip(cluster.hosts, before.free, before.on, strict=True):
        smallest = sorted(cluster.units[unit].move_bytes for unit in on)
        by_count = sum(smallest[: max(0, len(on) - most_guests)])
        bound += max(0, host.capacity_bytes - free - most_used, by_count)
    return bound


def _drain(cluster: Cluster) -> dict[str, Any]:
    """Empty the host with the most in use that is open."""
    state = State(cluster)
    host = min((h for h, is_open in enumerate(state.is_open) if is_open), key=lambda h: (state.free[h], h))
    state.is_open[host] = False
    movers = [unit for unit in sorted(state.on[host]) if not cluster.units[unit].is_pinned]
    others = [n for n, unit in enumerate(cluster.units) if unit.host != host and not unit.is_pinned]
    seconds, made = _timed(lambda: evacuate(state, movers, others))
    return {
        "seconds": seconds,
        "host": cluster.hosts[host].name,
        "moves": len(made.places),
        "unplaced": len(made.unplaced),
        "bytes": sum(cluster.units[unit].move_bytes for unit in made.places),
        "bound_bytes": sum(cluster.units[unit].move_bytes for unit in movers),
    }


def _documents(snapshots: dict[str, Any]) -> dict[str, Any]:
    """From snapshots to the steps of a plan, schedule and all."""
    drained, plan = _timed(lambda: drain([max(snapshots)], Constraints(snapshots)))
    balanced, other = _timed(lambda: plan_rebalance(Constraints(snapshots)))
    return {
        "drain": {"seconds": drained, "steps": len(plan.placement.steps), "stays": len(plan.placement.stays)},
        "rebalance": {"seconds": balanced, "steps": len(other.placement.steps), **other.figures},
    }


def _measured(shape: clusters.Shape) -> dict[str, Any]:
    """The same with all guests measured, so that every step is forecast."""
    seen = clusters.snapshots(clusters.cluster(shape))
    connect = {host: {"bandwidth_mib_s": 1100} for host in seen}
    forecasts = PlanForecasts(seen, connect, clusters.working_sets(seen))
    found: dict[str, Any] = {"hosts": shape.hosts, "guests": shape.guests}
    for wanted in (Request("drain", [max(seen)]), Request("evacuate", sorted(seen)[-20:]), Request("rebalance")):
        seconds, made = _timed(functools.partial(make_with_forecasts, wanted, Constraints(seen), forecasts))
        found[wanted.kind] = {"seconds": seconds, "steps": len(made.planned.placement.steps)}
    return found


def _tight(level: float) -> dict[str, Any]:
    """Twenty drains after which the other hosts are full to a level."""
    rows = []
    for seed in SEEDS:
        cluster = clusters.tight(level, seed)
        state = State(cluster)
        movers = sorted(state.on[0])
        others = [n for n, unit in enumerate(cluster.units) if unit.host]
        seconds, made = _timed(functools.partial(evacuate, state, movers, others))
        ordered = order(State(cluster), made.places, functools.partial(_others_first, frozenset(movers)))
        valid = not made.unplaced and not ordered.left and min(state.free) >= 0 and not state.on[0]
        rows.append({
            "seed": seed, "seconds": seconds, "valid": valid, "parked": sum(move.parks for move in ordered.moves),
            "extra_mib": made.extra_cost, "bound_mib": made.bound, "proven": made.is_proven,
        })  # fmt: skip
    return {"level": level, "drains": rows}


def _others_first(movers: frozenset[int], unit: int) -> tuple[bool, int]:
    return unit in movers, unit


def _upgrade(seed: int, *, spares: int) -> dict[str, Any]:
    """Twenty hosts of three hundred guests, with and without an empty one beside them."""
    shape = clusters.Shape(hosts=20, guests=300, fill=0.8, skew=0.0, apart=0.2, seed=seed)
    made = clusters.cluster(shape)
    hosts = [*made.hosts, *(made.hosts[0]._replace(name=f"spare{n}") for n in range(spares))]
    seconds, ordered = _timed(lambda: order_waves(State(made._replace(hosts=hosts)), range(len(hosts))))
    left = sum(len(wave.left) for wave in ordered.waves)
    return {"seed": seed, "spares": spares, "seconds": seconds, "moves": ordered.moves, "guests": 300, "left": left}


def _hbal(cluster: Cluster, folder: Path) -> dict[str, Any]:
    """hbal on the same cluster: its score, moves and bytes."""
    path = folder / "hbal.txt"
    path.write_text(htools.write(cluster), encoding="utf-8")
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(["hbal", "-t", str(path), "-l", "100000"], capture_output=True, text=True, check=True)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    hosts = {host.name: number for number, host in enumerate(cluster.hosts)}
    units = {unit.guests[0]: number for number, unit in enumerate(cluster.units)}
    state, moved = State(cluster), 0
    moves = re.findall(r"^\s*\d+\. (\S+)\s+\S+\s+=> (\S+)", done.stdout, re.MULTILINE)
    for guest, host in moves:
        state.move(units[guest], hosts[host])
        moved += cluster.units[units[guest]].move_bytes
    said = re.findall(r"improved from \S+ to (\S+)", done.stdout)
    return {
        "seconds": round(seconds, 3),
        "moves": len(moves),
        "bytes": moved,
        "score_after": round(score.hbal(state).value, 6),
        "score_it_says": float(said[0]) if said else None,
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    told = [_tight_line(level) for level in found.get("tight", ())]
    for one in found["clusters"]:
        told += _cluster_lines(one)
    for spares in (1, 0):
        rows = [row for row in found.get("upgrades", ()) if row["spares"] == spares]
        if rows:
            ratios = ", ".join(f"{row['moves'] / row['guests']:.3f}" for row in rows)
            told.append(f"upgrade of 20 hosts, {'one spare' if spares else 'no spare'}: {ratios} moves a guest")
    if "measured" in found:
        told.append("{hosts} hosts, {guests} measured guests".format(**found["measured"]))
        for goal in ("drain", "evacuate", "rebalance"):
            told.append("  {}: {seconds:.2f} s, {steps} steps".format(goal, **found["measured"][goal]))
    return [*told, f"peak memory: {found['peak_mib']} MiB"]


def _tight_line(level: Mapping[str, Any]) -> str:
    rows: Sequence[Mapping[str, Any]] = level["drains"]
    extra, bound = (sum(row[key] for row in rows) for key in ("extra_mib", "bound_mib"))
    slowest, proven = max(row["seconds"] for row in rows), sum(row["proven"] for row in rows)
    return (
        f"drain to {100 * level['level']:.0f} % full: {sum(row['valid'] for row in rows)} of {len(rows)} valid; "
        f"{extra:.0f} MiB of others move, {bound:.0f} must; {proven} proven best; at most {slowest:.2f} s"
    )


def _cluster_lines(one: Mapping[str, Any]) -> list[str]:
    ours, drained = one["rebalance"], one["drain"]
    told = [
        f"{one['name']} ({one['hosts']} hosts, {one['guests']} guests)",
        _moved("rebalance", ours)
        + f" (at least {ours['bound_bytes'] / GIB:.0f}), score {ours['score_before']:.4f} to {ours['score_after']:.4f}",
    ]
    if "hbal" in one:
        theirs = one["hbal"]
        beside = ours["score_after"] / theirs["score_after"], ours["bytes"] / theirs["bytes"]
        told.append(_moved("hbal", theirs) + f", score {theirs['score_after']:.4f}: ours is {beside[0]:.3f} of it")
        told[-1] += f" for {beside[1]:.3f} of its bytes"
    least = f" (at least {drained['bound_bytes'] / GIB:.0f}), {drained['unplaced']} without a place"
    told.append(_moved(f"drain {drained['host']}", drained) + least)
    if "upgrade" in one:
        ordered = one["upgrade"]
        told.append(f"  upgrade: {ordered['seconds']:.2f} s, {ordered['moves']} moves of {ordered['guests']} guests")
    for goal, plan in one.get("documents", {}).items():
        told.append(f"  {goal} from snapshots to a plan: {plan['seconds']:.2f} s, {plan['steps']} steps")
    return told


def _moved(what: str, row: Mapping[str, Any]) -> str:
    return f"  {what}: {row['seconds']:.2f} s, {row['moves']} moves, {row['bytes'] / GIB:.0f} GiB"
