# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on each kind of storage: how right their forecasts are, and whether reported bytes were on the wire.

The host is drained, and then the other one, so each guest moves there and back. Beside each forecast stands what an
operator would reckon with instead: the sizes of memory and of local disks over what the link gives. Beside the bytes of
guests with local disks stand those of `virsh migrate --copy-storage-all`.
"""

from __future__ import annotations

import argparse
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.drains import between_drains, playbook_drain
from bench.drains.drain_record import DrainRequest, MoveRecord
from bench.drains.wire_counter import WireCounter
from bench.inputs import bench_options, lower_bound
from bench.results.forecast_grid import quantile
from harness import actual_state
from lab import Lab, LabError, agent_protocol

SCHEMA = "kvmops.bench.storage/1"
MIB = 1024 * 1024
IMAGES = "/var/lib/libvirt/images"
ROUNDS = 2
#: A forecast of time, and a report of bytes, that is off by no more than this is right.
RIGHT_TIME, RIGHT_BYTES = 0.20, 0.03
#: What is on the disks that are added: format, size, and how much of it is data.
ADDED = {"archive": ("qcow2", 512, 160), "records": ("raw", 128, 96)}
ADD = """set -e
qemu-img create -q -f {format} {path} {size}M
qemu-io -f {format} -c 'write -q -P 0x5a 0 {data}M' {path}
virsh -q destroy {guest}
virsh -q attach-disk {guest} {path} vdb --targetbus virtio --driver qemu --subdriver {format} --cache none --config
virsh -q start {guest}
"""
CHECK = "qemu-io -r -U -f {format} -c 'read -P 0x5a 0 {data}M' {path}"


def measure(lab: Lab, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Move all guests there and back; return each move beside its forecast, and the same by hand."""
    wanted = bench_options.read(options.scenario)
    source, destination = bench_options.ends(wanted, lab.scenario)
    lab = lab.reset(forget=["/var/lib/kvmops", f"{IMAGES}/*"])
    _add_disks(lab, source)
    rows: list[dict[str, Any]] = []
    for number in range(options.repeats or ROUNDS):
        for start, end in ((source, destination), (destination, source)):
            way = DrainRequest(start, end, cap_s=600.0, intent=wanted.intent, variables=wanted.variables)
            rows += _drain(lab, way, folder / f"storage-{number + 1}-{start}")
    by_hand = _by_hand(lab, source, destination)
    return document(rows, by_hand)


def _add_disks(lab: Lab, host: str) -> None:
    for guest, (kind, size, data) in ADDED.items():
        path = f"{IMAGES}/{guest}-data.{kind}"
        lab.host(host).ssh(ADD.format(format=kind, path=path, size=size, data=data, guest=guest), check=True)
    for guest in ADDED:
        if agent_protocol.wait_ready(lab.guest(guest).address, 120.0) is None:
            raise LabError(f"{guest} does not start with its second disk", f"See virsh domstate {guest} on {host}.")


def _drain(lab: Lab, way: DrainRequest, folder: Path) -> list[dict[str, Any]]:
    for host in lab.hosts.values():
        host.ssh(between_drains.REOPEN)
    with WireCounter(lab, way.destination) as wire:
        drained = playbook_drain.drain(lab, way, folder)
    rows = []
    for move in sorted(drained.moves, key=lambda move: move.began_ns):
        if move.outcome != "moved":
            raise LabError(f"{move.guest}: {move.outcome}: {move.error}", f"See {folder / 'ansible.log'}.")
        reckoned = _sizes(lab, move.guest) / lower_bound.rate(lab.host(way.source).plan.link_mbit)
        rows.append(row(lab.guest(move.guest).plan.disk_on, move, wire.between(move.began_ns, move.ended_ns), reckoned))
        print(line(rows[-1]), flush=True)
    _check(lab, way.destination)
    return rows


def _check(lab: Lab, host: str) -> None:
    """Believe no move whose data is not there."""
    for guest, seen in actual_state.verified(lab).items():
        if not (seen["memory_ok"] and seen["disk_ok"]):
            raise LabError(f"{guest}: memory or disk is damaged", "Keep the lab, and report this.")
    for guest, (kind, _size, data) in ADDED.items():
        done = lab.host(host).ssh(
            CHECK.format(format=kind, data=data, path=f"{IMAGES}/{guest}-data.{kind}"), check=True
        )
        if "failed" in done.stdout + done.stderr:
            raise LabError(f"{guest}: the data of its second disk is damaged", "Keep the lab, and report this.")


def _sizes(lab: Lab, guest: str) -> int:
    """Memory and local disks of a guest, in bytes, as their sizes are told."""
    plan = lab.guest(guest).plan
    disks = (plan.disk_mib or 0) + ADDED.get(guest, ("", 0, 0))[1] if plan.disk_on == "local" else 0
    return (plan.memory_mib + disks) * MIB


def _by_hand(lab: Lab, source: str, destination: str) -> list[dict[str, Any]]:
    """The guests with local disks by virsh alone, one after the other."""
    found = []
    for guest in (each for each in lab.guests.values() if each.plan.disk_on == "local"):
        words = ["virsh", "-q", "migrate", "--live", "--p2p", "--persistent", "--undefinesource", "--tls",
                 "--copy-storage-all", guest.name, f"qemu+ssh://root@{destination}/system"]  # fmt: skip
        with WireCounter(lab, destination) as wire:
            began = time.monotonic_ns()
            lab.host(source).ssh(shlex.join(words), check=True, timeout=600)
            ended = time.monotonic_ns()
        found.append(
            {"guest": guest.name, "seconds": round((ended - began) / 1e9, 2), "bytes": wire.between(began, ended)}
        )
    return found


def row(storage: str, move: MoveRecord, wire: int, reckoned_s: float) -> dict[str, Any]:
    """One move.

    Args:
        storage: what its disk is on.
        wire: bytes that went to the destination meanwhile.
        reckoned_s: sizes over what the link gives.
    """
    seconds = (move.ended_ns - move.began_ns) / 1e9
    forecast = move.forecast or {}
    planned, sent = ((forecast.get(figure) or {}) for figure in ("total_s", "bytes"))
    expected = planned.get("value") if planned.get("value") is not None else planned.get("low")
    return {
        "guest": move.guest,
        "storage": storage,
        "strategy": move.strategy,
        "forecast_s": expected,
        "actual_s": round(seconds, 2),
        "error": _error(expected, seconds),
        "reckoned_s": round(reckoned_s, 1),
        "reckoned_error": _error(reckoned_s, seconds),
        "forecast_bytes": sent.get("value"),
        "bytes": move.bytes,
        "wire_bytes": wire,
        "bytes_error": _error(move.bytes, wire),
    }


def _error(said: float | None, actual: float) -> float | None:
    return None if said is None or not actual else round(said / actual - 1, 4)


def document(rows: Sequence[Mapping[str, Any]], by_hand: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All moves, how many forecasts and reports were right, and what virsh sends instead."""
    ours: dict[str, list[float]] = {}
    for one in rows:
        ours.setdefault(one["guest"], []).append(one["bytes"] or 0)
    hand = [
        {**one, "ratio": round(sum(ours[one["guest"]]) / len(ours[one["guest"]]) / one["bytes"], 3)} for one in by_hand
    ]
    copies = [one for one in rows if one["storage"] == "local"]
    errors = [abs(one["error"]) for one in rows if one["error"] is not None]
    return {
        "schema": SCHEMA,
        "moves": len(rows),
        "right_time": sum(error <= RIGHT_TIME for error in errors),
        "right_time_of_copies": [
            sum(abs(one["error"]) <= RIGHT_TIME for one in copies if one["error"] is not None),
            len(copies),
        ],
        "p50_error": quantile(errors, 0.5),
        "p90_error": quantile(errors, 0.9),
        "reckoned_right_time": sum(abs(one["reckoned_error"]) <= RIGHT_TIME for one in rows),
        "right_bytes": sum(abs(one["bytes_error"]) <= RIGHT_BYTES for one in rows if one["bytes_error"] is not None),
        "rows": list(rows),
        "virsh": hand,
    }


def line(one: Mapping[str, Any]) -> str:
    """One move for people."""
    off = "no forecast" if one["error"] is None else f"{one['forecast_s']:.1f} s forecast ({100 * one['error']:+.0f} %)"
    counted = f"{(one['bytes'] or 0) / MIB:.1f} MiB reported, {one['wire_bytes'] / MIB:.1f} on the wire"
    share = "" if one["bytes_error"] is None else f" ({100 * one['bytes_error']:+.1f} %)"
    return (
        f"storage: {one['guest']:8} {one['storage']:6} {one['strategy']}: {one['actual_s']:.1f} s, {off}, "
        f"size over bandwidth {one['reckoned_s']} s; {counted}{share}"
    )


def lines(found: Mapping[str, Any]) -> list[str]:
    """The document for people."""
    told = ["", *(line(one) for one in found["rows"]), ""]
    moves = found["moves"]
    told.append(f"{found['right_time']} of {moves} forecasts of time were within {100 * RIGHT_TIME:.0f} %;")
    told.append("{} of {} of the moves that copy disks.".format(*found["right_time_of_copies"]))
    told.append(f"Size over bandwidth was within it in {found['reckoned_right_time']} of them.")
    told.append(
        f"{found['right_bytes']} of {moves} reports of bytes were within {100 * RIGHT_BYTES:.0f} % of the wire."
    )
    told += [
        f"{one['guest']}: virsh --copy-storage-all sent {one['bytes'] / MIB:.1f} MiB in {one['seconds']:.1f} s; "
        f"ours is {one['ratio']:.2f} of these bytes."
        for one in found["virsh"]
    ]
    return told
