# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A move over 384 kbit/s, with the base of the disk at the far end: the first one, and one with an earlier capsule.

Beside each stands what must travel at least, found by comparing the images, and what other ways take.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.module_steps import Step, run
from harness.operator import Operator
from lab import Lab, LabError

from . import by_hand, site_lab, what_changed
from .by_hand import Way
from .move_watch import MoveWatch

THIN_MBIT, FAST_MBIT = 0.384, 200
#: The same as an operator says it.
RATE, DELAY_MS = "384kbit", 40
USEFUL_S = 3600.0
#: What may come on top of what changed, over the line's rate.
FACTOR, SETUP_S = 1.2, 12.0
FIRST_S = 480.0
#: 61 MiB of its memory is not zero, of which zstd -19 leaves 19 MiB: 8 MiB are random, and the rest is its kernel. Of
#: a guest with busybox and a guest agent, which was moved by hand, that left 22 MiB.
GUEST = {"host": "h1", "memory_mib": 96, "touched_mib": 8, "disk": 64, "disk_on": "local", "disk_reads_per_s": 1}
FIRST = {**GUEST, "name": "first", "disk_writes_per_s": 1, "disk_hot_mib": 1}
WRITER = {**GUEST, "name": "writer", "disk_writes_per_s": 5, "disk_hot_mib": 8}
#: It reads only what it has written: its whole disk, when it starts.
IDLE = {**GUEST, "name": "idle", "disk_writes_per_s": 0, "disk_filled": True}

#: Each host has them; a definition that comes in may name no file unless an operator says so.
BOOTED_FROM = ["/usr/share/kvmops-lab/vmlinuz", "/usr/share/kvmops-lab/initrd.gz"]
#: Where the operator's Ansible writes how long each task took, and the task that chooses.
TASK_SECONDS = "task-seconds.jsonl"
CHOICE = "Choose how each guest gets there"
#: The playbook that an operator runs, and then what it had chosen.
MOVE = """- import_playbook: kvmops.cluster.move_capsule
- hosts: hypervisors
  gather_facts: false
  tasks:
    - name: tell what was chosen
      run_once: true
      delegate_to: localhost
      ansible.builtin.copy:
        content: "{{ dict(chosen=__run_chosen.choices | first, moved=__run_cut_over | default({})) | to_json }}"
        dest: "%s"
        mode: "0600"
"""


@dataclass(frozen=True)
class Seeded:
    """One guest with an earlier capsule at the far end.

    Attributes:
        age_s: how old the capsule is when the move begins.
        limit_s: within which the guest must be of use there.
    """

    guest: dict[str, Any]
    age_s: float
    limit_s: float


#: An idle guest is the same after an hour as after some minutes: a bench that waits for an hour says no more.
SEEDED = (Seeded(WRITER, 45, 130.0), Seeded(IDLE, 300, 20.0))
#: By hand.
PLAIN: dict[str, Callable[[Way], None]] = {
    "suspend-copy-resume": by_hand.suspend_copy_resume,
    "pre-copy": by_hand.pre_copy,
}


def seed(guest: str, source: str, destinations: Sequence[str]) -> list[Step]:
    """The steps that bring a capsule of a guest to hosts, while the guest runs on."""
    return [
        Step("saved", source, "capsule_save", {"guest": guest}),
        Step("sent", source, "capsule_send", {"guest": guest, "number": "{{ saved.number }}", "to": [*destinations]}),
    ]


def move(operator: Operator, name: str, watch: MoveWatch) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run the playbook until the guest is of use at the far end; return what it chose, and what it did."""
    told, timings = operator.folder / f"{name}-chosen.json", operator.folder / TASK_SECONDS
    for one in (told, timings):
        one.unlink(missing_ok=True)
    running = operator.start_file(
        operator.write(f"{name}.yml", MOVE % told),
        move_capsule_guest=name,
        move_capsule_destination="h2",
        move_capsule_rate=RATE,
        move_capsule_delay_ms=DELAY_MS,
        kvmops_cluster_capsule_files=BOOTED_FROM,
    )
    outcome = running.finish(USEFUL_S)
    operator.write(f"{name}.log", outcome.text)
    if outcome.status or not told.exists():
        raise LabError(f"{name}: move_capsule failed", f"See {operator.folder / name}.log.")
    watch.await_use(USEFUL_S)
    found: dict[str, dict[str, Any]] = json.loads(told.read_text(encoding="utf-8"))
    return {**found["chosen"], "after_s": until(timings, CHOICE, outcome.seconds)}, found["moved"]


def until(timings: Path, task: str, whole_s: float) -> float:
    """When a task had ended, in seconds since the playbook was started. What is around tasks counts as before."""
    told = [json.loads(line) for line in timings.read_text(encoding="utf-8").splitlines()]
    at = next(place for place, one in enumerate(told) if str(one["task"]).endswith(task))
    return whole_s - sum(float(one["seconds"]) for one in told[at + 1 :])


def beside(row: dict[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """What was predicted of the mode that was chosen. The prediction begins when the choice is made."""
    figures = chosen["modes"][chosen["mode"]]
    predicted = {key: figures[key]["value"] for key in ("useful_s", "downtime_s", "bytes")}
    since_s = row["useful_after_s"] - chosen["after_s"]
    ratios = {
        "useful": round(predicted["useful_s"] / since_s, 3),
        "downtime": round(predicted["downtime_s"] / row["down_s"], 3),
    }
    return {
        **row,
        "mode": chosen["mode"],
        "predicted": predicted,
        "useful_since_choice_s": round(since_s, 2),
        "predicted_ratio": ratios,
    }


def first_move(lab: Lab, operator: Operator, folder: Path) -> dict[str, Any]:
    """A guest of which the far end has only the base."""
    lab = site_lab.fresh(lab, folder, [FIRST])
    way = site_lab.put_on_base(lab, "first", ["h1", "h2"])
    site_lab.seal(operator, way, ["h1", "h2"])
    lab.fault.slow_line(THIN_MBIT)
    with MoveWatch(lab, "first", "h2") as watch:
        chosen, moved = move(operator, "first", watch)
        row = {"case": "first move", "way": "capsule", **watch.found(), "limit_s": FIRST_S, "moved": moved}
    site_lab.verify(lab, "first")
    return beside(row, chosen)


def seeded_move(lab: Lab, operator: Operator, folder: Path, case: Seeded) -> dict[str, Any]:
    """A guest of which the far end has an earlier capsule."""
    name = case.guest["name"]
    lab = site_lab.fresh(lab, folder, [case.guest])
    way = site_lab.put_on_base(lab, name, ["h1", "h2"])
    site_lab.seal(operator, way, ["h1", "h2"])
    lab.fault.slow_line(FAST_MBIT)
    before = run(operator, f"seed-{name}", seed(name, "h1", ["h2"]))["saved"]
    time.sleep(case.age_s)
    lab.fault.slow_line(THIN_MBIT)
    with MoveWatch(lab, name, "h2") as watch:
        chosen, moved = move(operator, name, watch)
        row = {"case": f"{name}, a capsule {case.age_s:g} s old", "way": "capsule", **watch.found(), "moved": moved}
    site_lab.verify(lab, name)
    row = beside(row, chosen) | {"limit_s": case.limit_s}
    if chosen["mode"] != "suspended":
        return row
    changed = changes(lab, before, moved["number"])
    least = sum(each["compressed_bytes"] for each in changed.values())
    allowed = FACTOR * least * 8 / (THIN_MBIT * 1e6) + SETUP_S
    return {**row, "allowed_s": round(allowed, 1), "changed": changed}


def changes(lab: Lab, before: dict[str, Any], number: int) -> dict[str, dict[str, Any]]:
    """What of the guest's disk and memory changed between two capsules, compared on the host that has both."""
    host = lab.host("h2")
    store = "/var/lib/libvirt/capsules"
    documents = [
        json.loads(host.ssh(f"cat {store}/guests/{before['guest']['uuid']}/{one}/capsule.json", check=True).stdout)
        for one in (before["number"], number)
    ]

    def path(image: str) -> str:
        record = f"{store}/index/{image.partition(':')[2]}.json"
        return str(json.loads(host.ssh(f"cat {record}", check=True).stdout)["path"])

    old, new = documents
    return {
        "disk": what_changed.between(host, path(old["disks"][0]["image"]), path(new["disks"][0]["image"]), "qcow2"),
        "memory": what_changed.between(host, path(old["memory"]["image"]), path(new["memory"]["image"])),
    }


def plain_move(lab: Lab, folder: Path, name: str) -> dict[str, Any]:
    """The same as the first move, by hand."""
    lab = site_lab.fresh(lab, folder, [FIRST])
    way = site_lab.put_on_base(lab, "first", ["h1", "h2"])
    lab.fault.slow_line(THIN_MBIT)
    return _by_hand(lab, way, "first move", name, lambda: PLAIN[name](way))


def rsync_move(lab: Lab, folder: Path) -> dict[str, Any]:
    """The writing guest by rsync of its images, on top of a copy that is as old as the capsule."""
    case = SEEDED[0]
    lab = site_lab.fresh(lab, folder, [case.guest])
    way = site_lab.put_on_base(lab, "writer", ["h1", "h2"])
    lab.fault.slow_line(FAST_MBIT)
    by_hand.copy_ahead(way)
    time.sleep(case.age_s)
    lab.fault.slow_line(THIN_MBIT)
    title = f"writer, a capsule {case.age_s:g} s old"
    return _by_hand(lab, way, title, "rsync of images", lambda: by_hand.rsync_of_images(way))


def _by_hand(lab: Lab, way: Way, case: str, name: str, act: Callable[[], None]) -> dict[str, Any]:
    """A way by hand. One that takes too long has no time when it is of use."""
    with MoveWatch(lab, way.guest, "h2") as watch:
        try:
            act()
            watch.await_use(USEFUL_S)
        except by_hand.TooLongError:
            row = {"case": case, "way": name, **watch.found(), "given_up_s": by_hand.PATIENCE_S}
            return row | {"running_after_s": None, "useful_after_s": None}
        row = {"case": case, "way": name, **watch.found()}
    site_lab.verify(lab, way.guest)
    return row
