# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host is drained and restored: what the way home sends of local disks, beside what the guests have written since.

One guest writes to a small part of its disk, the other one anywhere. What they write is counted by the guests
themselves, in blocks of 4 KiB, from the end of the drain until libvirt has copied the last of their disk. What is sent
is counted on the cable, both ways: the connections that carry disks, and all of ssh, over which digests and
differences go, and everything else that libvirt has to say.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from harness.operator import Operator
from lab import Guest, Lab, LabError, agent_protocol

from . import site_lab
from .flow_counter import FlowCounter

BLOCK, MIB = 4096, 1 << 20
LIMIT = 1.3
PERIOD_S = 0.05
COPY = {"allow_storage_copy": True}
GUEST = {"host": "h1", "memory_mib": 96, "touched_mib": 4, "disk": 256, "disk_on": "local"}
GUESTS = [{"name": "near", **GUEST, "disk_hot_mib": 8}, {"name": "anywhere", **GUEST}]


class WriteCounter:
    """Asks a guest again and again how many blocks it has written."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._seen: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> WriteCounter:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.wait(PERIOD_S):
            reply = agent_protocol.ask(self._guest.address, timeout=0.5)
            if reply is not None:
                self._seen.append((time.monotonic(), reply.disk_written))

    def until(self, moment: float) -> int:
        """Return how many blocks it had written at a moment."""
        return max((count for at, count in list(self._seen) if at <= moment), default=0)


def drain_and_restore(lab: Lab, operator: Operator, folder: Path, away_s: float) -> list[dict[str, Any]]:
    """Drain a host by the playbooks as they are, wait, and restore it; return what each guest has sent home."""
    lab = site_lab.fresh(lab, folder, GUESTS)
    # Hosts of one site: the line between them is as any other cable.
    lab.fault.slow_line(0, delay_ms=0)
    names = [str(guest["name"]) for guest in GUESTS]
    copied = _drain(lab, operator, names)
    counters = {name: WriteCounter(lab.guest(name)) for name in names}
    left_at = time.monotonic()
    with counters["near"], counters["anywhere"]:
        before = {name: _written(lab, name) for name in names}
        time.sleep(max(0.0, left_at + away_s - time.monotonic()))
        with FlowCounter(lab, "h2") as flows:
            done = operator.run("restore_host", restore_host_name="h1", restore_host_intent=COPY)
    if done.status or any(lab.where(name) != ["h1"] for name in names):
        raise LabError("a guest did not come home", f"See what the playbook said:\n{done.text}")
    for name in names:
        site_lab.verify(lab, name)
    rows = _rows(operator, flows, counters, before, copied, left_at)
    return [{"case": f"home after {away_s:g} s", "way": "delta", **row, "told": _told(row)} for row in rows]


def _drain(lab: Lab, operator: Operator, names: list[str]) -> dict[str, int]:
    """Drain; returns what was sent of each guest's disk, which the other host had not."""
    with FlowCounter(lab, "h1") as flows:
        done = operator.run("drain_host", drain_host_name="h1", drain_host_intent=COPY)
    if done.status or any(lab.where(name) != ["h2"] for name in names):
        raise LabError("the host was not drained", f"See what the playbook said:\n{done.text}")
    disks = sorted(flows.flows("disk"), key=lambda flow: flow.ended_at)
    order = [row["guest"] for row in operator.reports()[-1]["guests"]]
    return {name: flow.bytes_until(flow.ended_at) for name, flow in zip(order, disks, strict=True)}


def _written(lab: Lab, name: str) -> int:
    reply = agent_protocol.wait_ready(lab.guest(name).address, 30.0)
    if reply is None:
        raise LabError(f"{name} does not answer", "See its console on h2.")
    return reply.disk_written


def _rows(
    operator: Operator,
    flows: FlowCounter,
    counters: dict[str, WriteCounter],
    before: dict[str, int],
    copied: dict[str, int],
    left_at: float,
) -> list[dict[str, Any]]:
    """One guest after the other came home, so what went over ssh until its disk was copied was for it."""
    rows, ssh_before = [], 0
    disks = sorted(flows.flows("disk"), key=lambda flow: flow.ended_at)
    for report, disk in zip(operator.reports()[-1]["guests"], disks, strict=True):
        name, end = str(report["guest"]), disk.ended_at
        ssh = flows.carried("ssh", end) - ssh_before
        ssh_before += ssh
        written = (counters[name].until(end) - before[name]) * BLOCK
        mirrored = disk.bytes_until(end)
        rows.append(
            {
                "guest": name,
                "away_s": round(end - left_at, 1),
                "written_bytes": written,
                "ssh_bytes": ssh,
                "mirrored_bytes": mirrored,
                "home_bytes": ssh + mirrored,
                "ratio": round((ssh + mirrored) / written, 3),
                "limit_ratio": LIMIT,
                "full_copy_bytes": copied[name],
                "disks": report["disks"],
            }
        )
    return rows


def _told(row: dict[str, Any]) -> str:
    """One guest for people."""
    return (
        f"capsule: home: writes {row['guest']}, away {row['away_s']:.0f} s: {row['home_bytes'] / MIB:.2f} MiB sent home"
        f" ({row['ssh_bytes'] / MIB:.2f} over ssh, {row['mirrored_bytes'] / MIB:.2f} by libvirt's mirror), "
        f"{row['ratio']:.2f} of the {row['written_bytes'] / MIB:.2f} MiB written (limit {row['limit_ratio']}); "
        f"a full copy: {row['full_copy_bytes'] / MIB:.1f} MiB"
    )
