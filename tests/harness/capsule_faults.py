# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steps with capsules of one guest, and waiting until a transfer is in the middle."""

from __future__ import annotations

import time
from typing import Any

from lab import Lab

from .module_steps import Step, Steps

MIB = 2**20


def save(name: str = "saved", guest: str = "payroll", host: str = "h1", **options: Any) -> Step:
    """Return the step that saves a guest without its memory: a whole disk is enough to break things with."""
    return Step(name, host, "capsule_save", {"guest": guest, "consistency": "crash", **options})


def send(name: str = "sent", guest: str = "payroll", host: str = "h1", to: str = "h2", **options: Any) -> Step:
    """Return the step that sends a capsule."""
    return Step(name, host, "capsule_send", {"guest": guest, "to": [to], **options})


def refused(results: dict[str, dict[str, Any]], step: str) -> dict[str, str]:
    """Return why a step was refused, whether by this host or by the far end."""
    found = results[step]
    rows = [row["refusal"] for row in found.get("hosts") or [] if row.get("refusal")]
    refusal: dict[str, str] = rows[0] if rows else found["refusal"]
    return refusal


def in_the_middle(lab: Lab, steps: Steps, bytes_: int = 3 * MIB) -> None:
    """Wait until so many bytes have crossed the line."""
    before = lab.line().bytes[0]
    deadline = time.monotonic() + 300
    while lab.line().bytes[0] - before < bytes_:
        assert steps.running.is_at_work(), steps.running.text
        assert time.monotonic() < deadline, steps.running.text
        time.sleep(0.05)
