# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A move over 384 kbit/s, with the base of the disk at the far end: the first one, and one with an earlier capsule.

Beside each stands what must travel at least, found by comparing the images, and what other ways take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.module_steps import Step, run
from harness.operator import Operator
from lab import Lab

from . import by_hand, site_lab, what_changed
from .by_hand import Way
from .move_watch import MoveWatch

THIN_MBIT, FAST_MBIT = 0.384, 200
USEFUL_S = 3600.0
#: What may come on top of what changed, over the line's rate.
FACTOR, SETUP_S = 1.2, 12.0
FIRST_S = 480.0
GUEST = {"host": "h1", "memory_mib": 96, "touched_mib": 1, "disk": 64, "disk_on": "local", "disk_reads_per_s": 1}
WRITER = {**GUEST, "name": "writer", "disk_writes_per_s": 5, "disk_hot_mib": 8}
IDLE = {**GUEST, "name": "idle", "disk_writes_per_s": 0, "disk_filled": False}

#: Each host has them; a definition that comes in may name no file unless an operator says so.
BOOTED_FROM = ["/usr/share/kvmops-lab/vmlinuz", "/usr/share/kvmops-lab/initrd.gz"]


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
PLAIN: dict[str, Callable[[Way], None]] = {
    "suspend-copy-resume": by_hand.suspend_copy_resume,
    "pre-copy": by_hand.pre_copy,
}


def cut_over(guest: str, source: str, destination: str) -> list[Step]:
    """The steps of a move by capsule, whose guest is off meanwhile."""
    return [
        Step("saved", source, "capsule_save", {"guest": guest, "then": "stop"}),
        Step("sent", source, "capsule_send", {"guest": guest, "number": "{{ saved.number }}", "to": [destination]}),
        Step(
            "started",
            destination,
            "capsule_start",
            {
                "guest": "{{ saved.guest.uuid }}",
                "number": "{{ saved.number }}",
                "stopped": "{{ saved.stopped }}",
                "allow_files": BOOTED_FROM,
            },
        ),
    ]


def seed(guest: str, source: str, destinations: Sequence[str]) -> list[Step]:
    """The steps that bring a capsule of a guest to hosts, while the guest runs on."""
    return [
        Step("saved", source, "capsule_save", {"guest": guest}),
        Step("sent", source, "capsule_send", {"guest": guest, "number": "{{ saved.number }}", "to": [*destinations]}),
    ]


def first_move(lab: Lab, operator: Operator, folder: Path) -> dict[str, Any]:
    """The writing guest, of which the far end has only the base."""
    lab = site_lab.fresh(lab, folder, [WRITER])
    way = site_lab.put_on_base(lab, "writer", ["h1", "h2"])
    site_lab.seal(operator, way, ["h1", "h2"])
    lab.fault.slow_line(THIN_MBIT)
    with MoveWatch(lab, "writer", "h2") as watch:
        run(operator, "first", cut_over("writer", "h1", "h2"))
        watch.await_use(USEFUL_S)
        row = {"case": "first move", "way": "capsule", **watch.found(), "limit_s": FIRST_S}
    site_lab.verify(lab, "writer")
    return row


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
        after = run(operator, f"again-{name}", cut_over(name, "h1", "h2"))["saved"]
        watch.await_use(USEFUL_S)
        row = {"case": f"{name}, a capsule {case.age_s:g} s old", "way": "capsule", **watch.found()}
    site_lab.verify(lab, name)
    changed = changes(lab, before, after)
    least = sum(each["compressed_bytes"] for each in changed.values())
    allowed = FACTOR * least * 8 / (THIN_MBIT * 1e6) + SETUP_S
    return {**row, "limit_s": case.limit_s, "allowed_s": round(allowed, 1), "changed": changed}


def changes(lab: Lab, before: dict[str, Any], after: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What of the guest's disk and memory changed between two capsules, compared on the host that has both."""
    host = lab.host("h1")
    images = "/var/lib/libvirt/capsules/images"
    memory = [f"{images}/{each['memory']['image'].partition(':')[2]}.raw" for each in (before, after)]
    return {
        "disk": what_changed.between(host, before["disks"][0]["path"], after["disks"][0]["path"], "qcow2"),
        "memory": what_changed.between(host, *memory),
    }


def plain_move(lab: Lab, folder: Path, name: str) -> dict[str, Any]:
    """The writing guest by hand."""
    lab = site_lab.fresh(lab, folder, [WRITER])
    way = site_lab.put_on_base(lab, "writer", ["h1", "h2"])
    lab.fault.slow_line(THIN_MBIT)
    with MoveWatch(lab, "writer", "h2") as watch:
        PLAIN[name](way)
        watch.await_use(USEFUL_S)
        row = {"case": "first move", "way": name, **watch.found()}
    site_lab.verify(lab, "writer")
    return row
