# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest with a disk of 512 MiB over 200 Mbit/s: of use before its disk has come, beside a full copy of the disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness.module_steps import Step, run
from harness.operator import Operator
from lab import Lab

from . import by_hand, site_lab, thin_line
from .by_hand import IMAGES, Way
from .move_watch import MoveWatch
from .thin_line import BOOTED_FROM

LINE_MBIT = 200
USEFUL_S = 8.0
#: The limit is for hosts that are near, as the hand-made figures beside it were: 34 s for a full copy.
NEAR_MS, FAR_MS = 0.0, 40.0
#: QEMU pulls what lies between two blocks that the guest has written, one such piece after the other. So the delay of
#: the line limits it more than any rate. A fill of ours reads ahead.
PULL_RATES = {NEAR_MS: "100mbit", FAR_MS: "30mbit"}
FILL_RATE = "150mbit"
PATIENCE_S = 900.0
GUEST = {
    "name": "large",
    "host": "h1",
    "memory_mib": 192,
    "touched_mib": 16,
    "disk": 512,
    "disk_on": "local",
    "disk_filled": True,
    "disk_writes_per_s": 20,
    "disk_reads_per_s": 20,
    "disk_hot_mib": 64,
}


def before_its_disk(guest: str, source: str, destination: str) -> list[Step]:
    """The steps of a live move whose disk stays behind."""
    return [
        Step("offered", source, "capsule_export"),
        Step("permitted", destination, "capsule_export", {"offer": "{{ offered.offer }}"}),
        Step(
            "moved",
            source,
            "domain_migrate",
            {
                "guest": guest,
                "destination": destination,
                "destination_uri": f"qemu+ssh://root@{destination}/system",
                "allow_storage_copy": True,
                "disks": "lazy",
                "tickets": {destination: "{{ permitted.ticket }}"},
            },
        ),
    ]


def lazy_move(lab: Lab, operator: Operator, folder: Path, delay_ms: float) -> dict[str, Any]:
    """The guest moves, then its disk is filled at a rate; every block is verified."""
    lab = site_lab.fresh(lab, folder, [GUEST])
    lab.fault.slow_line(LINE_MBIT, delay_ms=delay_ms)
    timings = operator.folder / thin_line.TASK_SECONDS
    timings.unlink(missing_ok=True)
    with MoveWatch(lab, "large", "h2") as watch:
        began = time.monotonic()
        run(operator, "lazy", before_its_disk("large", "h1", "h2"))
        prepared_s = thin_line.until(timings, "permitted", time.monotonic() - began)
        watch.await_use(PATIENCE_S)
        row = {"case": _case(delay_ms), "way": "lazy", **watch.found()}
    # The other ways begin with libvirt's call as well, and what they need is made before.
    row |= {"prepared_s": round(prepared_s, 2), "limit_s": USEFUL_S if delay_ms == NEAR_MS else None}
    return row | _filled(lab, operator, PULL_RATES[delay_ms])


def _case(delay_ms: float) -> str:
    return f"before its disk, {delay_ms:g} ms away"


def saved_and_started(guest: str, source: str, destination: str) -> list[Step]:
    """The steps of a guest that is saved, and goes on before its disk has come."""
    stopped, export = "{{ saved.stopped }}", "{{ exported.export }}"
    started = {"guest": guest, "stopped": stopped, "lazy": export, "allow_files": BOOTED_FROM}
    return [
        Step("offered", source, "capsule_export"),
        Step("permitted", destination, "capsule_export", {"offer": "{{ offered.offer }}"}),
        Step("saved", source, "capsule_save", {"guest": guest, "then": "stop"}),
        Step("sent", source, "capsule_send", {"guest": guest, "to": [destination], "disks": "later"}),
        Step("exported", source, "capsule_export", {"guest": guest, "ticket": "{{ permitted.ticket }}"}),
        Step("started", destination, "capsule_start", started),
    ]


def early_start(lab: Lab, operator: Operator, folder: Path) -> dict[str, Any]:
    """The guest is saved and goes on at the other site, then its disk is filled at a rate; every block is verified."""
    lab = site_lab.fresh(lab, folder, [GUEST])
    lab.fault.slow_line(LINE_MBIT, delay_ms=FAR_MS)
    with MoveWatch(lab, "large", "h2") as watch:
        run(operator, "early", saved_and_started("large", "h1", "h2"))
        watch.await_use(PATIENCE_S)
        row = {"case": "early start", "way": "capsule", **watch.found()}
    return row | _filled(lab, operator, FILL_RATE)


def _filled(lab: Lab, operator: Operator, rate: str) -> dict[str, Any]:
    began, before = time.monotonic(), lab.line().bytes[0]
    run(operator, "fill", [Step("filled", "h2", "capsule_fill", {"guest": "large", "rate": rate})])
    row = {"fill_s": round(time.monotonic() - began, 1), "fill_bytes": lab.line().bytes[0] - before}
    site_lab.verify(lab, "large")
    return row


def full_copy(lab: Lab, folder: Path, delay_ms: float) -> dict[str, Any]:
    """The same with `virsh migrate --copy-storage-all`."""
    lab = site_lab.fresh(lab, folder, [GUEST])
    lab.fault.slow_line(LINE_MBIT, delay_ms=delay_ms)
    way = Way(lab, "large", "h1", "h2", f"{IMAGES}/large.qcow2", 512)
    with MoveWatch(lab, "large", "h2") as watch:
        by_hand.full_storage(way)
        watch.await_use(PATIENCE_S)
        row = {"case": _case(delay_ms), "way": "full copy", **watch.found()}
    site_lab.verify(lab, "large")
    return row
