# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration from the command line: starts the lab, plays, reports, and stops the lab again."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from harness.ansible import CHECKOUT
from harness.session import lab_for
from lab import DEFAULT_SCENARIO, LabError

from . import words
from .play import DemoError, pages, play

SCENARIO = DEFAULT_SCENARIO.with_name("demo.yml")
#: What `--real` brings: a whole Debian with a database at work, and all of that on a disk of its host. Two busy guests
#: make room for it: without KVM, it needs as much of two processors as both.
REAL_GUEST = {"name": "books", "host": "h1", "system": "debian", "touched_mib": 16}
MAKE_ROOM = ("wiki", "ledger")
FOLDER = CHECKOUT / "build" / "demo"
HOST = "h1"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all that is promised held, else 1."""
    parser = argparse.ArgumentParser(prog="demo", description="Drain a busy host, and bring its guests home.")
    parser.add_argument("--scenario", type=Path, default=SCENARIO, help="scenario of the lab (default: demo.yml)")
    parser.add_argument("--real", action="store_true", help="with a Debian guest that has PostgreSQL at work")
    options = parser.parse_args(arguments)
    # What the lab says on its way and what is told here belong in one order.
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    keep = os.environ.get("KVMOPS_DEMO_KEEP_LAB", "") not in ("", "0")
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    scenario = _with_real_guest(options.scenario) if options.real else options.scenario.resolve()
    words.opening()
    status = 1
    try:
        with lab_for(scenario, inventory=FOLDER / "inventory.yml", keep=keep) as lab:
            report = play(lab, HOST, FOLDER)
            (FOLDER / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
            words.report(report, FOLDER / "report.json")
            status = 0 if report["ok"] else 1
    except DemoError as failure:
        words.failed(str(failure))
    except LabError as error:
        words.failed(f"the lab: {error.what}", error.remedy)
    except KeyboardInterrupt:
        words.failed("interrupted")
        return 130
    if status == 0:
        words.closing(keep)
    words.pages(pages(FOLDER))
    return status


def _with_real_guest(path: Path) -> Path:
    """Write the scenario with a whole Debian as one of its guests; return where."""
    scenario = yaml.safe_load(path.read_text(encoding="utf-8"))
    others = [guest for guest in scenario["guests"] if guest["name"] not in MAKE_ROOM]
    scenario["guests"] = [*others, REAL_GUEST]
    written = FOLDER / "scenario.yml"
    written.write_text(yaml.safe_dump(scenario, sort_keys=False), encoding="utf-8")
    return written
