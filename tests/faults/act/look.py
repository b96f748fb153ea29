# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at all hosts, and let the guests check themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faults.judge.state import Found, HostState, host_state
from harness import actual_state
from lab import Lab, LabError, in_parallel

LOOK = Path(__file__).with_name("host_look.py")
#: A guest whose post-copy has broken off answers nobody.
ANSWER_S = 20.0


def look(lab: Lab, *, guests: bool = True) -> Found:
    """Return what is found now.

    Args:
        guests: whether the guests are to check their memory and their disks as well.
    """
    names = list(lab.hosts)
    hosts = dict(zip(names, in_parallel(lambda name: _host(lab, name), names), strict=True))
    if not guests:
        return Found(hosts)
    found = Found(hosts)
    awake = [name for name in lab.guests if "running" in [one.state for one in found.active(name).values()]]
    boots = {name: boot for name, boot in actual_state.boot_ids(lab, awake).items() if boot != "no answer"}
    verified = dict(zip(boots, in_parallel(lambda name: _verified(lab, name), boots), strict=True))
    return Found(hosts, boots, verified)


def _host(lab: Lab, name: str) -> HostState | None:
    host = lab.host(name)
    if not host.is_running():
        return None
    try:
        done = host.ssh_with("timeout 60 python3 -", LOOK.read_text(encoding="utf-8"), check=False, timeout=90)
        return host_state(json.loads(done.stdout)) if done.returncode == 0 else None
    except (LabError, ValueError):
        return None


def _verified(lab: Lab, name: str) -> Mapping[str, Any]:
    try:
        return lab.verify(name, ANSWER_S)
    except (LabError, TimeoutError, OSError) as error:
        return {"memory_ok": False, "error": str(error)}


def end_moves(lab: Lab, patience: float = 60.0) -> None:
    """End the moves that are under way, so that no guest goes anywhere once the next case has begun."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = look(lab, guests=False)
        under_way = [(name, guest) for name, host in found.hosts.items() if host for guest in moving(host)]
        if not under_way:
            return
        for name, guest in under_way:
            lab.host(name).ssh(f"timeout 10 virsh domjobabort {guest}")
        time.sleep(1)


def moving(host: HostState) -> list[str]:
    """Return the guests of a host that are under way; a broken post-copy is not, and stays as it is for ever."""
    return [name for name, one in host.domains.items() if one.job and "post-copy" not in one.reason]


def journal(lab: Lab, host: str) -> list[dict[str, Any]]:
    """Return what the journals of a host say, the oldest first."""
    try:
        text = lab.host(host).ssh("cat /var/lib/kvmops/runs/*/journal.jsonl 2>/dev/null").stdout
    except LabError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return sorted(lines, key=lambda line: str(line["at"]))
