# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The demonstration itself: a drain and the way home through the real playbooks, each believed only from outside."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from harness import actual_state
from harness.ansible import environment, playbook_words, program
from lab import Lab, Probe

from . import databases, words

MIB = 1024 * 1024
BASELINE_S = 2.0
#: Ansible has ten seconds for its own goodbyes after Ctrl-C.
PARTING_S = 30.0
#: Seven guests without KVM that are asked twice as often keep two cores so busy that their own moves take longer.
PROBE_MS = 25.0
#: Its exit status after Ctrl-C.
INTERRUPTED = 99


class DemoError(Exception):
    """Something that was promised did not hold."""


def play(lab: Lab, host: str, folder: Path) -> dict[str, Any]:
    """Drain a host and bring its guests home, watching all of it; return the report."""
    leaving = [guest.name for guest in lab.guests.values() if guest.home == host]
    words.cluster(lab, host, leaving)
    before = actual_state.verified(lab)
    with lab.probe(period_ms=PROBE_MS) as probe:
        words.watching(_baseline(probe), PROBE_MS)
        drained = _section(lab, probe, "drain_host", host, folder)
        words.after_drain(lab, host, drained)
        restored = _section(lab, probe, "restore_host", host, folder)
        words.after_restore(host, restored)
    after = actual_state.verified(lab)
    damages = databases.damages(lab, host)
    words.databases_checked(damages)
    report = _report(host, leaving, drained, restored, before, after)
    report["databases"] = {name: {"damage": damage} for name, damage in damages.items()}
    for section in (drained, restored):
        for name, record in section["databases"].items():
            report["databases"][name][section["playbook"]] = record
    report["faults"] += [f"{name}: {damage}" for name, damage in damages.items() if damage]
    report["ok"] = not report["faults"]
    return report


def _baseline(probe: Probe) -> float:
    """Return what the measurement cannot tell from nothing: its resolution, or the largest gap while all is quiet."""
    probe.mark()
    time.sleep(BASELINE_S)
    return max(float(max(record["downtime_ms"], record["resolution_ms"])) for record in probe.records().values())


def _section(lab: Lab, probe: Probe, name: str, host: str, folder: Path) -> dict[str, Any]:
    """Run one playbook while the prober watches; return what it reported and what was seen from outside."""
    arguments = ["-e", f"{name}_name={host}"]
    if any(guest.plan.has_own_file for guest in lab.guests.values()):
        arguments += ["-e", json.dumps({f"{name}_intent": {"allow_storage_copy": True}})]
    words.command(name, host, arguments)
    with databases.clients(lab) as writers:
        probe.mark()
        began = time.monotonic()
        status = _run(name, folder, arguments)
        seconds = time.monotonic() - began
        seen = probe.records()
    words.checking()
    memory = actual_state.verified(lab)
    return {
        "playbook": name,
        "status": status,
        "seconds": round(seconds, 1),
        "seen": seen,
        "memory": memory,
        "places": actual_state.places(lab),
        "active_on_host": actual_state.active_on(lab, host),
        "reported": _reported(folder, name),
        "databases": databases.records(writers),
    }


def _run(name: str, folder: Path, arguments: list[str]) -> int:
    """Run a playbook on this terminal, so that it shows itself as it does to an operator."""
    typed = playbook_words(name, folder / "inventory.yml", arguments)
    typed[0] = program(typed[0])
    process = subprocess.Popen(typed, cwd=folder, env=environment(PWD=str(folder)), stdin=subprocess.DEVNULL)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # The terminal has told Ansible as well; a request to terminate has told only us.
        process.terminate()
        try:
            process.wait(PARTING_S)
        except subprocess.TimeoutExpired:
            process.kill()
        raise
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status


def pages(folder: Path) -> list[Path]:
    """The pages that the playbooks wrote, the oldest first."""
    return sorted((folder / "kvmops-reports").glob("*.html"), key=lambda path: path.stat().st_mtime)


def _reported(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the rows of the newest report that the playbook wrote, by guest."""
    kind = name.removesuffix("_host")
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "kvmops-reports").glob("*.json")]
    mine = [report for report in reports if report["goal"]["kind"] == kind]
    if not mine:
        raise DemoError(f"{name} wrote no report")
    newest = max(mine, key=lambda report: str(report["finished_at"]))
    return {row["guest"]: row for row in newest["guests"]}


def _move(name: str, section: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """What the collection says about one move, beside what was seen."""
    row = section["reported"].get(name, {})
    seen, memory = section["seen"][name], section["memory"][name]
    sound = memory["memory_ok"] and memory["disk_ok"] is not False
    return {
        "source": row.get("source"),
        "destination": row.get("destination"),
        "outcome": row.get("outcome"),
        "total_s": row.get("total_s"),
        "bytes": row.get("bytes"),
        "downtime_reported_ms": row.get("downtime_ms"),
        "downtime_observed_ms": seen["downtime_ms"],
        "resolution_ms": seen["resolution_ms"],
        "memory_ok": sound,
        "alive": seen["alive"],
        "same_boot": seen["boot_ids"] == [before[name]["boot_id"]] and memory["boot_id"] == before[name]["boot_id"],
        "found_on": section["places"][name],
    }


def _report(
    host: str,
    leaving: list[str],
    drained: dict[str, Any],
    restored: dict[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
) -> dict[str, Any]:
    guests = [
        {"guest": name, **_move(name, drained, before), "home": _move(name, restored, before)} for name in leaving
    ]
    faults = [
        *databases.faults(drained),
        *databases.faults(restored),
        *_section_faults(drained, before),
        *_section_faults(restored, before),
        *(f"{name} did not leave {host}" for name in leaving if drained["places"][name] == host),
        *(f"{name} is not back on {host}" for name in leaving if restored["places"][name] != host),
        *(f"{host} still ran {name} after its drain" for name in drained["active_on_host"]),
        *(f"{name} was lost" for name in before if name not in after),
    ]
    for name in leaving:
        for section in (drained, restored):
            row = _move(name, section, before)
            if row["outcome"] != "moved" or row["destination"] != row["found_on"]:
                faults.append(f"{name}: {section['playbook']} reports {row['outcome']} to {row['destination']}")
    moves = [*guests, *(guest["home"] for guest in guests)]
    return {
        "schema": "kvmops.demo/1",
        "ok": not faults,
        "host": host,
        "host_empty_after_drain": not drained["active_on_host"],
        "drain_s": drained["seconds"],
        "restore_s": restored["seconds"],
        "bytes": sum(move["bytes"] or 0 for move in moves),
        "downtime_observed_max_ms": max(move["downtime_observed_ms"] for move in moves),
        "guests": guests,
        "faults": faults,
    }


def _section_faults(section: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """What was promised of every guest, whether it moved or not."""
    name = section["playbook"]
    faults = [f"{name} ended with status {section['status']}"] if section["status"] else []
    for guest, seen in section["seen"].items():
        row = _move(guest, section, before)
        if not seen["alive"]:
            faults.append(f"{guest} does not answer after {name}")
        if "+" in row["found_on"] or row["found_on"] == "nowhere":
            faults.append(f"{guest} is on {row['found_on']} after {name}")
        if not row["memory_ok"]:
            faults.append(f"{guest}: memory or disk is damaged after {name}")
        if not row["same_boot"]:
            faults.append(f"{guest} was started again during {name}")
    return faults
