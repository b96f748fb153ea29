# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Benches from the command line: each measures on a lab of its own scenario, prints, and writes what it found."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.benches import capsule, controller, eta, forecast, measure, overhead, plan, recorded, storage, strategies
from harness.ansible import CHECKOUT
from harness.session import is_up, lab_for
from lab import DEFAULT_SCENARIO, LabError

SCENARIOS = Path(__file__).with_name("scenarios")


@dataclass(frozen=True)
class Bench:
    """What one bench needs, does and says.

    Attributes:
        scenario: what it runs on, unless told otherwise; None for one that needs no lab.
        measure: does it and returns a document; takes the lab, if there is one, a folder and the options.
        lines: the document for people.
    """

    scenario: Path | None
    measure: Callable[..., dict[str, Any]]
    lines: Callable[[Mapping[str, Any]], list[str]]


BENCHES = {
    "strategies": Bench(SCENARIOS / "mixed-eight.yml", strategies.measure, strategies.lines),
    "forecast": Bench(SCENARIOS / "forecast.yml", forecast.measure, forecast.lines),
    "eta": Bench(SCENARIOS / "eta.yml", eta.measure, eta.lines),
    "measure": Bench(SCENARIOS / "measure.yml", measure.measure, measure.lines),
    "overhead": Bench(DEFAULT_SCENARIO.with_name("overhead.yml"), overhead.measure, overhead.lines),
    "storage": Bench(SCENARIOS / "storage.yml", storage.measure, storage.lines),
    "capsule": Bench(SCENARIOS / "capsule.yml", capsule.measure, capsule.lines),
    "plan": Bench(None, plan.measure, plan.lines),
    "controller": Bench(None, controller.measure, controller.lines),
    "recorded": Bench(None, recorded.measure, recorded.document_lines),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure on the lab.")
    parser.add_argument("name", choices=sorted(BENCHES))
    parser.add_argument("--scenario", type=Path, help="another scenario: a file, or a name in tests/bench/scenarios")
    parser.add_argument("--cluster", type=Path, help="plan: your own cluster, as snapshots (.json) or htools text")
    parser.add_argument("--out", type=Path, help="folder, or file that ends in .json (default: build/bench)")
    parser.add_argument(
        "--repeats", type=int, help="how often each strategy is measured (default: 2, or the scenario's)"
    )
    parser.add_argument(
        "--only", action="append", default=[], help="capsule: one part of it; may be given more than once"
    )
    parser.add_argument("--max-ratio", type=float, help="exit 1 if the ratio is above this")
    return parser


def _measured(bench: Bench, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure on a lab that is up for as long as that takes, or without one."""
    if bench.scenario is None:
        return bench.measure(folder, options)
    options.scenario = _scenario(options.scenario or bench.scenario)
    keep = is_up() or os.environ.get("KVMOPS_KEEP_LAB", "") not in ("", "0")
    with lab_for(options.scenario, keep=keep) as lab:
        return bench.measure(lab, folder, options)


def _scenario(path: Path) -> Path:
    own = (SCENARIOS / path.name).with_suffix(".yml")
    return own if path.parent == Path() and not path.exists() and own.exists() else path.resolve()


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if it was measured, 1 if it was not or is above what was asked for."""
    options = _parser().parse_args(arguments)
    bench = BENCHES[options.name]
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    out = (options.out or CHECKOUT / "build" / "bench").resolve()
    path = out if out.suffix == ".json" else out / f"{options.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        found = _measured(bench, path.parent, options)
    except LabError as error:
        print(f"bench: {error.what}\n       {error.remedy or ''}".rstrip(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("\n".join([*bench.lines(found), "", f"All figures: {path}"]))
    ratio = found.get("ratio")
    if options.max_ratio is not None and (ratio is None or ratio > options.max_ratio):
        print(f"bench: the ratio is above {options.max_ratio:g}", file=sys.stderr)
        return 1
    return 0
