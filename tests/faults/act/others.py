# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What other people do meanwhile: Bob with a playbook, an owner with virsh, whoever takes the memory of a host."""

from __future__ import annotations

import json

from .scene import Scene

LEASE = "/var/lib/kvmops/lease.json"
MEMINFO = "/run/faults-meminfo"
#: As a host shows its memory, with next to nothing left.
SMALL = "sed -E 's/^(MemFree|MemAvailable|Buffers|Cached|SReclaimable):.*/\\1: 2048 kB/' /proc/meminfo > " + MEMINFO


def drain_back(scene: Scene) -> None:
    """Bob drains the host that Alice's guests go to."""
    scene.second = scene.other.start("drain_host", drain_host_name=scene.destination)


def drain_too(scene: Scene) -> None:
    """Bob drains the same host."""
    scene.second = scene.other.start("drain_host", drain_host_name=scene.source)


def restore(scene: Scene) -> None:
    """Bob opens the host again."""
    scene.second = scene.other.start("restore_host", restore_host_name=scene.source)


def move_by_hand(scene: Scene) -> None:
    """The owner of a waiting guest moves it, and forgets that it is to have a definition there."""
    elsewhere = next(host for host in scene.lab.hosts if host not in (scene.source, scene.destination))
    guest = scene.struck.waiting
    move = f"virsh -q migrate --live --p2p --undefinesource {guest} qemu+tcp://{elsewhere}/system"
    scene.shells.run(scene.source, move, wait=True)


def take_memory(scene: Scene) -> None:
    """All other hosts show that their memory is gone."""
    for host in scene.lab.hosts:
        if host != scene.source:
            _take_memory(scene, host)


def _take_memory(scene: Scene, host: str) -> None:
    scene.mend.append(lambda: scene.shells.run(host, "umount /proc/meminfo", wait=True))
    scene.shells.run(host, f"{SMALL} && mount --bind {MEMINFO} /proc/meminfo", wait=True)


def lease_of_tomorrow(scene: Scene) -> None:
    """A lease that somebody took in a boot whose clock was a day ahead."""
    lease = {
        "schema": "kvmops.lease/1",
        "owner": "bob",
        "run": "drain-of-tomorrow",
        "purpose": "a clock that was wrong",
        "since": "2099-01-01T00:00:00.000Z",
        "expires_at": "2099-01-01T00:15:00.000Z",
        "ttl_s": 900,
        "boot_id": "00000000-0000-0000-0000-000000000000",
        "expires_uptime_s": 900.0,
        "fence": 1,
        "hosts": ["h2", "h3"],
    }
    _lease(scene, json.dumps(lease))


def lease_garbage(scene: Scene) -> None:
    """A lease file that holds no lease."""
    _lease(scene, "garbage {")


def _lease(scene: Scene, text: str) -> None:
    host = scene.destination if scene.destination in scene.lab.hosts else "h2"
    scene.shells.run(host, f"mkdir -p /var/lib/kvmops && printf %s '{text}' > {LEASE}", wait=True)
