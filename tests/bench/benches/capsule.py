# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that go to another site over a thin line: by capsules, before their disks, and by hand.

Each part runs on guests of its own, on the hosts and the line of the scenario. `--only` runs some of the parts.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.capsules import golden_update, lazy_disk, least_delta, thin_line, way_home
from bench.drains.playbook_drain import CALLBACK
from harness.operator import Operator
from lab import Lab, LabError

SCHEMA = "kvmops.bench.capsule/1"
MIB = 2**20

Part = Callable[[Lab, Operator, Path], dict[str, Any] | list[dict[str, Any]]]


def _seeded(place: int) -> Part:
    return lambda lab, operator, folder: thin_line.seeded_move(lab, operator, folder, thin_line.SEEDED[place])


def _lazy(delay_ms: float) -> Part:
    return lambda lab, operator, folder: lazy_disk.lazy_move(lab, operator, folder, delay_ms)


def _full_copy(delay_ms: float) -> Part:
    return lambda lab, _operator, folder: lazy_disk.full_copy(lab, folder, delay_ms)


def _home(away_s: float) -> Part:
    return lambda lab, operator, folder: way_home.drain_and_restore(lab, operator, folder, away_s)


def _plain(way: str) -> Part:
    return lambda lab, _operator, folder: thin_line.plain_move(lab, folder, way)


#: In the order in which they run; those by hand take a quarter of an hour each.
PARTS: dict[str, Part] = {
    "writer": _seeded(0),
    "idle": _seeded(1),
    "lazy": _lazy(lazy_disk.NEAR_MS),
    "full-copy": _full_copy(lazy_disk.NEAR_MS),
    "lazy-far": _lazy(lazy_disk.FAR_MS),
    "full-copy-far": _full_copy(lazy_disk.FAR_MS),
    "early": lazy_disk.early_start,
    "first": thin_line.first_move,
    "home-soon": _home(60.0),
    "home": _home(120.0),
    "home-later": _home(300.0),
    "suspend-copy-resume": _plain("suspend-copy-resume"),
    "pre-copy": _plain("pre-copy"),
    "rsync": lambda lab, _operator, folder: thin_line.rsync_move(lab, folder),
    "delta": least_delta.delta,
    "update": golden_update.update,
}


def measure(lab: Lab, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run the parts, and return a row for each."""
    unknown = sorted(set(options.only) - set(PARTS))
    if unknown:
        raise LabError(f"no part {unknown[0]!r} in this bench", f"Use {', '.join(PARTS)}.")
    place = folder / "capsule"
    place.mkdir(parents=True, exist_ok=True)
    shutil.copy(options.scenario, place / "scenario.yml")
    rows = []
    for name in options.only or PARTS:
        operator = Operator(
            lab,
            place,
            ANSIBLE_CALLBACK_PLUGINS=str(CALLBACK),
            ANSIBLE_CALLBACKS_ENABLED="task_seconds",
            KVMOPS_TASK_SECONDS=str(place / thin_line.TASK_SECONDS),
        )
        found = PARTS[name](lab, operator, place)
        for one in found if isinstance(found, list) else [found]:
            rows.append({"part": name, **one})
            print(line(rows[-1]), flush=True)
    return document(rows)


def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """All rows, and how much later the best way by hand is of use than the capsule of the same case."""
    timed = [row for row in rows if row.get("useful_after_s") is not None]
    ours = {row["case"]: row["useful_after_s"] for row in timed if row["way"] in ("capsule", "lazy")}
    hand: dict[str, float] = {}
    for row in timed:
        if row["way"] not in ("capsule", "lazy"):
            hand[row["case"]] = min(row["useful_after_s"], hand.get(row["case"], row["useful_after_s"]))
    return {
        "schema": SCHEMA,
        "rows": rows,
        "ratios": {case: round(ours[case] / seconds, 3) for case, seconds in hand.items() if case in ours},
    }


def line(row: Mapping[str, Any]) -> str:
    """One row for people. Parts that measure bytes only say it themselves."""
    if "told" in row:
        return str(row["told"])
    sent = f"{row['bytes_there'] / MIB:.2f} MiB there, {row['bytes_back'] / MIB:.2f} back"
    if "given_up_s" in row:
        return f"capsule: {row['case']}, {row['way']}: not of use after {row['given_up_s'] / 60:g} min; {sent}"
    told = (
        f"capsule: {row['case']}, {row['way']}: runs after {row['running_after_s']} s, of use after"
        f" {row['useful_after_s']} s, silent for {row['down_s']} s; {sent}"
    )
    if "predicted" in row:
        predicted = row["predicted"]
        told += (
            f"; {row['mode']} was chosen, predicted {predicted['useful_s']:.0f} s until it is of use, down for"
            f" {predicted['downtime_s']:.0f} s, {predicted['bytes'] / MIB:.2f} MiB; that was"
            f" {row['useful_since_choice_s']} s after the choice (predicted over measured:"
            f" {row['predicted_ratio']['useful']:.2f}, of the time down {row['predicted_ratio']['downtime']:.2f})"
        )
    if "allowed_s" in row:
        changed = sum(each["compressed_bytes"] for each in row["changed"].values())
        told += f"; {changed / MIB:.2f} MiB changed, which allows {row['allowed_s']} s"
    if "prepared_s" in row:
        told += f"; {row['useful_after_s'] - row['prepared_s']:.2f} s after the task began that moves it"
    if "fill_s" in row:
        told += f"; its disk came in {row['fill_s']} s ({row['fill_bytes'] / MIB:.0f} MiB)"
    if row.get("limit_s") is not None:
        told += f"; limit {row['limit_s']:g} s"
    return told


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    told = ["", *(line(row) for row in found["rows"])]
    return told + [
        f"{case}: {ratio:.2f} of the time of the best way by hand" for case, ratio in found["ratios"].items()
    ]
