# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One drain by the policy of another system, driven on the source host itself."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab import Lab, LabError

from .between_drains import DRIVER_PID
from .drain_record import DrainRecord, DrainRequest, MoveRecord
from .policies import COMMON, Policy

DRIVER = Path(__file__).with_name("policy_driver.py")
MIB = 1024 * 1024
#: What starting the driver and ending what it aborted may take beyond its own cap.
PATIENCE_S = 60.0


def task(policy: Policy, way: DrainRequest, guests: Sequence[tuple[str, int]], address: str) -> dict[str, Any]:
    """What the driver is told.

    Args:
        guests: names and memory in bytes, in the order in which they leave.
        address: of the destination on the migration network.
    """
    largest = max(memory for dummy, memory in guests)
    return {
        "guests": [name for name, dummy in guests],
        "uri": f"qemu+tcp://{way.destination}/system",
        "parameters": {"migrate_uri": f"tcp://{address}"},
        "flags": [*COMMON, *policy.flags],
        "downtime_ms": policy.downtime_ms,
        "look_s": policy.look_s,
        "ladders": [list(ladder) for ladder in policy.ladders(largest)],
        "at_once": policy.at_once,
        "guest_cap_s": way.guest_cap_s,
        "cap_s": way.cap_s,
    }


def drain(lab: Lab, policy: Policy, way: DrainRequest, order: Sequence[str]) -> DrainRecord:
    """Move all guests by a policy; those that a cap or the policy ended stay where they are."""
    guests = [(name, lab.guest(name).plan.memory_mib * MIB) for name in order]
    told = json.dumps(task(policy, way, guests, lab.host(way.destination).migration_address))
    done = lab.host(way.source).ssh_with(
        f"echo $$ > {DRIVER_PID}; exec python3 - {shlex.quote(told)}",
        DRIVER.read_text(encoding="utf-8"),
        timeout=way.cap_s + PATIENCE_S,
    )
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise LabError(f"the driver said: {done.stdout[-300:] or done.stderr[-300:]}", "Run the bench again.") from None
    return DrainRecord(
        began_ns=found["began_ns"],
        ended_ns=found["ended_ns"],
        moves=tuple(_moved(one) for one in found["guests"]),
    )


def _moved(one: dict[str, Any]) -> MoveRecord:
    switched = any(did["do"] == "post-copy" and "error" not in did for did in one["did"])
    return MoveRecord(
        guest=one["guest"],
        began_ns=one["began_ns"],
        ended_ns=one["ended_ns"],
        outcome=one["outcome"],
        strategy="post-copy" if switched else "pre-copy",
        bytes=one["bytes"],
        downtime_ms=one["downtime_ms"],
        rounds=one["rounds"],
        error=one["error"],
        forecast=None,
    )
