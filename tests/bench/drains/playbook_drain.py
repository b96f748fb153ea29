# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One drain by this collection, as an operator runs it: the playbook measures, plans and moves."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness import actual_state
from harness.ansible import CHECKOUT, Outcome
from harness.operator import Operator
from lab import Lab, LabError

from .drain_record import DrainRecord, DrainRequest, MoveRecord

NAME = "kvmops"
CALLBACK = CHECKOUT / "tests" / "bench" / "callback"
#: How the name of the task ends that spends time on measuring.
MEASURING = "measure | Measure guests"
RUNS = "/var/lib/kvmops/runs"


def drain(lab: Lab, way: DrainRequest, folder: Path, *, stated_mib_s: float | None = None) -> DrainRecord:
    """Drain the source by the playbook; the moves are read from the journal that it leaves on the host.

    Args:
        folder: where the playbook's output and its report are kept.
        stated_mib_s: what the operator says that the link gives, if not what the scenario says.
    """
    folder.mkdir(parents=True, exist_ok=True)
    timings = folder / "tasks.jsonl"
    timings.unlink(missing_ok=True)
    operator = _operator(lab, folder, timings, encrypted=way.intent.get("encryption") == "required")
    before = len(operator.reports())
    outcome = _playbook(operator, way, stated_mib_s)
    (folder / "ansible.log").write_text(outcome.text, encoding="utf-8")
    reports = operator.reports()[before:]
    if outcome.status and not reports:
        raise LabError(f"the drain failed with status {outcome.status}", f"See {folder / 'ansible.log'}.")
    # Of the runs that the host remembers, the newest. A plan of no steps leaves none.
    text = lab.host(way.source).ssh(f"ls -t {RUNS}/*/journal.jsonl | head -n 1 | xargs -r cat").stdout
    (folder / "journal.jsonl").write_text(text, encoding="utf-8")
    return drained(
        [json.loads(line) for line in text.splitlines()],
        reports[-1]["stays"] if reports else _all_stay(lab, way.source),
        clock_ns(),
        measured_s=_spent(timings, MEASURING),
        playbook_s=outcome.seconds,
    )


def _all_stay(lab: Lab, source: str) -> list[dict[str, Any]]:
    """A plan of no steps is not reported on; why each guest stays is in what the playbook printed."""
    why = [{"reason": "no method keeps the intent"}]
    return [{"guest": {"name": name}, "refusals": why} for name in actual_state.active_on(lab, source)]


def _operator(lab: Lab, folder: Path, timings: Path, *, encrypted: bool) -> Operator:
    operator = Operator(
        lab,
        folder,
        ANSIBLE_CALLBACK_PLUGINS=str(CALLBACK),
        ANSIBLE_CALLBACKS_ENABLED="task_seconds",
        KVMOPS_TASK_SECONDS=str(timings),
    )
    if encrypted:
        return operator
    # The connection that the others have too; what is compared is not how fast ssh begins.
    text = operator.inventory.read_text(encoding="utf-8")
    for host in lab.hosts:
        text = text.replace(f"qemu+ssh://root@{host}/", f"qemu+tcp://{host}/")
    operator.inventory.write_text(text, encoding="utf-8")
    return operator


def _playbook(operator: Operator, way: DrainRequest, stated_mib_s: float | None) -> Outcome:
    running = operator.start(
        "drain_host",
        **{
            "kvmops_cluster_hosts": f"{way.source}:{way.destination}",
            "drain_host_name": way.source,
            "drain_host_on_blocked": "skip",
            **({"kvmops_cluster_bandwidth_mib_s": stated_mib_s} if stated_mib_s else {}),
            "drain_host_intent": {"encryption": "off", **way.intent},
            **way.variables,
        },
    )
    try:
        return running.finish(way.cap_s + 120)
    finally:
        # A bench that is interrupted leaves no drain at work.
        operator.leave()


def _spent(timings: Path, ending: str) -> float:
    told = [json.loads(line) for line in timings.read_text(encoding="utf-8").splitlines()]
    return round(sum(float(task["seconds"]) for task in told if str(task["task"]).endswith(ending)), 3)


def clock_ns() -> int:
    """What the monotonic clock is behind the time of day, in nanoseconds."""
    return time.time_ns() - time.monotonic_ns()


def drained(
    journal: Iterable[Mapping[str, Any]],
    stays: Iterable[Mapping[str, Any]],
    offset_ns: int,
    *,
    measured_s: float,
    playbook_s: float,
) -> DrainRecord:
    """Read a drain out of its journal and the C(stays) of its report (docs/contracts.md); neither need hold anything.

    Args:
        offset_ns: the time of day less the monotonic clock.
    """
    lines = list(journal)
    finished = [line for line in lines if line["event"] == "step.finished"]
    moves = [_moved(line["data"]["result"], offset_ns) for line in finished]
    moves += [_stayed(stay) for stay in stays]
    began_ns = min((_ns(line["at"]) - offset_ns for line in lines), default=0)
    ended_ns = max((_ns(line["at"]) - offset_ns for line in finished), default=began_ns)
    return DrainRecord(
        began_ns=began_ns,
        ended_ns=ended_ns,
        moves=tuple(moves),
        measured_s=measured_s,
        playbook_s=round(playbook_s, 2),
    )


def _moved(result: Mapping[str, Any], offset_ns: int) -> MoveRecord:
    began, ended = result["started_at"], result["finished_at"]
    refused = "; ".join(one["reason"] for one in result["refusals"])
    return MoveRecord(
        guest=result["guest"]["name"],
        began_ns=_ns(began) - offset_ns if began else 0,
        ended_ns=_ns(ended) - offset_ns if began and ended else 0,
        outcome=result["outcome"],
        strategy=result["strategy"],
        bytes=result["bytes"],
        downtime_ms=result["downtime_ms"],
        rounds=result["iterations"],
        error=result["error"] or refused or None,
        forecast=result.get("forecast"),
    )


def _stayed(stay: Mapping[str, Any]) -> MoveRecord:
    why = "; ".join(one["reason"] for one in stay["refusals"])
    return MoveRecord(stay["guest"]["name"], 0, 0, "refused", None, None, None, None, why, None)


def _ns(at: str) -> int:
    moment = datetime.datetime.fromisoformat(at.replace("Z", "+00:00"))
    return round(moment.timestamp() * 1000) * 1_000_000


def forget(lab: Lab) -> None:
    """Make hosts forget all that was learned from moves and measurements."""
    for host in lab.hosts.values():
        host.ssh("rm -rf /var/lib/kvmops/calibration-* /var/lib/kvmops/working_sets")


FORGET_LINKS = """
import glob, json
for path in glob.glob("/var/lib/kvmops/calibration-path/*.json"):
    with open(path) as file:
        kept = json.load(file)
    for name in ("bandwidth_bytes_per_s", "queue_bytes"):
        kept["state"]["learned"].pop(name, None)
    with open(path, "w") as file:
        json.dump(kept, file)
"""


def forget_links(lab: Lab, source: str) -> None:
    """Make a host forget how fast its links are, as they are being changed; what a move costs beside that stays."""
    lab.host(source).ssh_with("python3 -", FORGET_LINKS)
