# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole rebalance --check of a large cluster, and where its time goes. Needs no lab and no hypervisor.

The playbook is the real one, and so is all that runs on the controller. The hosts are local connections; the four
modules that would ask a hypervisor are stood in for by some that read a file each (tests/bench/stand_ins).
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.inputs import clusters
from harness.ansible import CHECKOUT, Running, environment, playbook_words, program
from lab import LabError

CALLBACK = CHECKOUT / "tests" / "bench" / "callback"
STAND_INS = CHECKOUT / "tests" / "bench" / "stand_ins"
SHAPE = clusters.Shape(hosts=200, guests=4000)
MIB = 1024**2
#: A run that takes longer has failed.
PATIENCE_S = 1800.0
FORKS = 20
#: Tasks that take less are told together.
SHORT_S = 1.0


def measure(folder: Path, dummy_options: argparse.Namespace) -> dict[str, Any]:
    """Write the cluster's files, run the playbook, and return its time, task by task."""
    place = folder / "controller"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    inventory = _hosts(place)
    _collection(place / "collections")
    timings = place / "tasks.jsonl"
    running = Running(
        [program("ansible-playbook"), *playbook_words("rebalance", inventory, ["--check"])[1:]],
        environment=environment(
            ANSIBLE_COLLECTIONS_PATH=str(place / "collections"),
            ANSIBLE_FORKS=str(FORKS),
            ANSIBLE_NOCOLOR="1",
            ANSIBLE_CALLBACK_PLUGINS=str(CALLBACK),
            ANSIBLE_CALLBACKS_ENABLED="task_seconds",
            KVMOPS_TASK_SECONDS=str(timings),
        ),
        directory=place,
    )
    try:
        outcome = running.finish(PATIENCE_S)
    finally:
        running.clear_away()
    (place / "ansible.log").write_text(outcome.text, encoding="utf-8")
    if outcome.status:
        raise LabError(f"the playbook failed with status {outcome.status}", f"See {place / 'ansible.log'}.")
    return {
        "schema": "kvmops.bench.controller/1",
        "hosts": SHAPE.hosts,
        "guests": SHAPE.guests,
        "forks": FORKS,
        "snapshot_bytes": sum(path.stat().st_size for path in place.glob("hosts/*/snapshot.json")),
        "working_set_bytes": sum(path.stat().st_size for path in place.glob("hosts/*/working_sets.json")),
        "seconds": round(outcome.seconds, 1),
        "tasks": [json.loads(line) for line in timings.read_text(encoding="utf-8").splitlines()],
    }


def _hosts(place: Path) -> Path:
    """A folder of each host's files, and the inventory of all."""
    inventory: dict[str, Any] = {"kvmops_cluster_bandwidth_mib_s": 1100, "ansible_connection": "local"}
    inventory["ansible_python_interpreter"] = sys.executable
    hosts: dict[str, Any] = {}
    snapshots = clusters.snapshots(clusters.cluster(SHAPE))
    measured = {document["guest"]["uuid"]: document for document in clusters.working_sets(snapshots)}
    for name, snapshot in snapshots.items():
        own = place / "hosts" / name
        own.mkdir(parents=True)
        (own / "snapshot.json").write_text(json.dumps(snapshot), encoding="utf-8")
        here = [measured[guest["uuid"]] for guest in snapshot["domains"]]
        (own / "working_sets.json").write_text(json.dumps(here), encoding="utf-8")
        hosts[name] = {"kvmops_cluster_state_dir": str(own)}
    path = place / "inventory.json"
    path.write_text(json.dumps({"all": {"hosts": hosts, "vars": inventory}}), encoding="utf-8")
    return path


def _collection(place: Path) -> None:
    """The collection as it is, but for the modules that are stood in for."""
    own = place / "ansible_collections" / "kvmops" / "cluster"
    (own / "plugins" / "modules").mkdir(parents=True)
    for name in ("galaxy.yml", "meta", "playbooks", "roles"):
        (own / name).symlink_to(CHECKOUT / name)
    for path in (CHECKOUT / "plugins").iterdir():
        if path.name not in ("modules", "__pycache__"):
            (own / "plugins" / path.name).symlink_to(path)
    for path in (CHECKOUT / "plugins" / "modules").glob("*.py"):
        stand_in = STAND_INS / path.name
        (own / "plugins" / "modules" / path.name).symlink_to(stand_in if stand_in.exists() else path)


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document for people: the whole, and the tasks that take longest."""
    rows = [(float(task["seconds"]), str(task["task"])) for task in found["tasks"]]
    long = [row for row in rows if row[0] >= SHORT_S]
    short = sum(seconds for seconds, dummy in rows if seconds < SHORT_S)
    sizes = (found[key] / MIB for key in ("snapshot_bytes", "working_set_bytes"))
    return [
        "",
        f"rebalance --check, {found['hosts']} hosts, {found['guests']} measured guests: {found['seconds']:.1f} s",
        "  {:.1f} MiB of snapshots, {:.1f} MiB of working sets".format(*sizes) + f", {found['forks']} forks",
        "",
        *(f"  {seconds:7.1f}  {name}" for seconds, name in sorted(long, reverse=True)),
        f"  {short:7.1f}  {len(rows) - len(long)} shorter tasks",
        f"  {found['seconds'] - sum(seconds for seconds, dummy in rows):7.1f}  start and end of ansible-playbook",
    ]
