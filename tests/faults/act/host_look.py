# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host, with Python and libvirt's binding only: prints its guests and what the collection keeps there."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import re
import subprocess
import time
import typing as t

import libvirt

STATE = "/var/lib/kvmops/"
SYSCTL = ("net.ipv4.tcp_wmem", "net.ipv4.tcp_rmem", "net.ipv4.tcp_notsent_lowat")
#: What a run that was killed in the middle may leave; nothing else of ours has such a name. The names by which a
#: controller that was killed, or lost the host, has followed a run are removed an hour later; it may come back.
LEFT = (STATE + "**/*.new", STATE + "**/*.tmp")
#: The secret by which a host that is closed tells it to others.
CLOSED = "6b766d6f-7073-4d61-a169-6e74656e616e"
#: As virsh names them; libvirt itself has numbers.
STATES = {1: "running", 2: "idle", 3: "paused", 4: "in shutdown", 5: "shut off", 6: "crashed", 7: "pmsuspended"}
REASONS = {
    (1, 1): "booted",
    (1, 2): "migrated",
    (1, 5): "unpaused",
    (1, 6): "migration canceled",
    (1, 10): "post-copy",
    (1, 11): "post-copy failed",
    (3, 1): "user",
    (3, 2): "migrating",
    (3, 11): "starting up",
    (3, 12): "post-copy",
    (3, 13): "post-copy failed",
    (5, 1): "shutdown",
    (5, 2): "destroyed",
    (5, 3): "crashed",
    (5, 4): "migrated",
    (5, 6): "failed",
}


def asked(question: t.Callable[[], t.Any]) -> t.Any:
    """Return an answer of libvirt, or None if it has none."""
    try:
        return question()
    except libvirt.libvirtError:
        return None


def said(*words: str) -> str:
    """Return what a program prints."""
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def domain(one: t.Any) -> dict[str, t.Any]:
    """Return a guest as this host's libvirtd knows it."""
    number, detail = asked(one.state) or (0, 0)
    state = STATES.get(number, str(number))
    reason = REASONS.get((number, detail), str(detail))
    active, persistent = bool(asked(one.isActive)), bool(asked(one.isPersistent))
    return {
        "state": state,
        "reason": reason,
        "persistent": persistent,
        "autostart": persistent and bool(asked(one.autostart)),
        "job": active and (asked(one.jobInfo) or [0])[0] != libvirt.VIR_DOMAIN_JOB_NONE,
        "downtime_ms": asked(one.migrateGetMaxDowntime) if active else None,
        "speed_mib_s": asked(one.migrateGetMaxSpeed) if active else None,
        "memory_kib": (asked(one.memoryStats) or {}).get("actual") if active else None,
    }


def record(name: str) -> dict[str, t.Any]:
    """Return one of our records, or nothing if it is none."""
    try:
        with open(STATE + name, encoding="utf-8") as file:  # noqa: PTH123
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def lease() -> str | None:
    """Return who has the host, if the time for it is not over."""
    held = record("lease.json")
    ends = held.get("expires_uptime_s")
    over = ends is not None and ends < time.clock_gettime(time.CLOCK_BOOTTIME)
    return None if over or not held.get("owner") else f"{held['owner']} for {held.get('run')}"


def at_work() -> bool:
    """Whether a run moves guests away from this host."""
    try:
        descriptor = os.open(STATE + "apply.lease", os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def qemus() -> dict[str, dict[str, t.Any]]:
    """Return the guests that have a QEMU, on a host whose libvirtd is gone and tells nothing of them."""
    found = {}
    for line in said("pgrep", "-a", "qemu-system").splitlines():
        name = re.search(r"-name guest=([^ ,]+)", line)
        if name:
            found[name[1]] = {"state": "running", "reason": "no libvirtd"}
    return found


def main() -> None:
    """Print it."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    connection = asked(lambda: libvirt.open("qemu:///system"))
    secrets = (connection and asked(connection.listAllSecrets)) or []
    found = {
        "domains": {one.name(): domain(one) for one in connection.listAllDomains()} if connection else qemus(),
        "maintenance": record("maintenance.json").get("state") or "active",
        "lease": lease(),
        "at_work": at_work(),
        "shown_closed": CLOSED in [one.UUIDString() for one in secrets],
        "left_files": sorted(path for pattern in LEFT for path in glob.glob(pattern, recursive=True)),  # noqa: PTH207
        "sysctl": "; ".join(said("sysctl", *SYSCTL).splitlines()),
    }
    print(json.dumps(found))


main()
