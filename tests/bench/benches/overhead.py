# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drain costs beyond the moves themselves: the playbook against a plain loop of virsh migrate.

Both sides move the same guests to the same hosts in the same order, encrypted, one after the other, over the same link,
in the same run and by turns; in between, all guests are brought home unmeasured.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import actual_state
from harness.ansible import CHECKOUT
from harness.operator import Operator
from harness.tidy import tidy
from lab import Lab, LabError

HOST = "h1"
CALLBACK = CHECKOUT / "tests" / "bench" / "callback"
MOVING = "Move the guests"
REPEATS = 2

Moves = Sequence[tuple[str, str]]


def measure(lab: Lab, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Drain by playbook and by hand, by turns; return both, their ratio, and where the playbook's time goes."""
    playbook, plain = [], []
    repeats = options.repeats or REPEATS
    for repeat in range(1, repeats + 1):
        lab = tidy(lab)
        run = _by_playbook(lab, folder, repeat)
        playbook.append(run)
        print(f"overhead: playbook {repeat}/{repeats}: {run['seconds']:.1f} s", flush=True)
        lab = tidy(lab)
        loop = _by_hand(lab, [(move["guest"], move["destination"]) for move in run["moves"]])
        plain.append(loop)
        print(f"overhead: virsh    {repeat}/{repeats}: {loop['seconds']:.1f} s", flush=True)
    tidy(lab)
    ours = statistics.median(run["seconds"] for run in playbook)
    theirs = statistics.median(run["seconds"] for run in plain)
    return {
        "schema": "kvmops.bench.overhead/1",
        "guests": len(playbook[0]["moves"]),
        "link_mbit": lab.hosts[HOST].plan.link_mbit,
        "playbook_s": round(ours, 2),
        "virsh_s": round(theirs, 2),
        "ratio": round(ours / theirs, 3),
        "playbook": playbook,
        "virsh": plain,
    }


def _by_playbook(lab: Lab, folder: Path, repeat: int) -> dict[str, Any]:
    place = folder / f"overhead-{repeat}"
    place.mkdir(exist_ok=True)
    timings = place / "tasks.jsonl"
    timings.unlink(missing_ok=True)
    operator = Operator(
        lab,
        place,
        ANSIBLE_CALLBACK_PLUGINS=str(CALLBACK),
        ANSIBLE_CALLBACKS_ENABLED="task_seconds",
        KVMOPS_TASK_SECONDS=str(timings),
    )
    before = len(operator.reports())
    outcome = operator.run("drain_host", drain_host_name=HOST)
    (place / "ansible.log").write_text(outcome.text, encoding="utf-8")
    if outcome.status or actual_state.active_on(lab, HOST):
        raise LabError(f"the drain failed with status {outcome.status}", f"See {place / 'ansible.log'}.")
    report = operator.reports()[before:][-1]
    return {
        "seconds": round(outcome.seconds, 2),
        "tasks": [json.loads(line) for line in timings.read_text(encoding="utf-8").splitlines()],
        "moves": [{key: row[key] for key in ("guest", "destination", "total_s", "bytes")} for row in report["guests"]],
    }


def _by_hand(lab: Lab, moves: Moves) -> dict[str, Any]:
    """The loop that an operator would write, on the host itself; it prints how long each move took."""
    lines = ["set -e"]
    for guest, destination in moves:
        words = ["virsh", "-q", "migrate", "--live", "--p2p", "--persistent", "--undefinesource", "--tls"]
        command = shlex.join([*words, guest, f"qemu+ssh://root@{destination}/system"])
        lines += ["begin=$(date +%s.%N)", command, 'echo "$begin $(date +%s.%N)"']
    began = time.monotonic()
    done = lab.host(HOST).ssh_with("bash -s", "\n".join(lines) + "\n", timeout=600)
    seconds = time.monotonic() - began
    if actual_state.active_on(lab, HOST):
        raise LabError("the loop of virsh migrate left guests behind", "Run the bench again.")
    spans = [[float(word) for word in line.split()] for line in done.stdout.splitlines()]
    return {
        "seconds": round(seconds, 2),
        "moves": [
            {"guest": guest, "destination": destination, "total_s": round(end - begin, 2)}
            for (guest, destination), (begin, end) in zip(moves, spans, strict=True)
        ],
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document for people: both sides, the ratio, and the playbook task by task."""
    told = [
        "",
        f"{found['guests']} idle guests leave {HOST} over {found['link_mbit']} Mbit/s",
        "",
        f"  playbook       {found['playbook_s']:7.1f} s   {_each(found['playbook'])}",
        f"  virsh migrate  {found['virsh_s']:7.1f} s   {_each(found['virsh'])}",
        f"  ratio          {found['ratio']:7.2f}",
        "",
        "Where the playbook's time goes (s):",
    ]
    runs = [{task["task"]: float(task["seconds"]) for task in run["tasks"]} for run in found["playbook"]]
    names = list(dict.fromkeys(name for run in runs for name in run))
    rows = {name: statistics.median(run.get(name, 0.0) for run in runs) for name in names}
    told += [f"  {seconds:7.2f}  {name}" for name, seconds in rows.items()]
    moving = statistics.median(sum(move["total_s"] or 0 for move in run["moves"]) for run in found["playbook"])
    spent = next((seconds for name, seconds in rows.items() if name.endswith(MOVING)), 0.0)
    told += [
        f"  {found['playbook_s'] - sum(rows.values()):7.2f}  start and end of ansible-playbook",
        "",
        f"  Within '{MOVING}', {moving:.1f} of {spent:.1f} s are moves, as far as they do not overlap.",
    ]
    return told


def _each(runs: Sequence[Mapping[str, Any]]) -> str:
    return "(" + ", ".join(f"{run['seconds']:.1f}" for run in runs) + ")"
