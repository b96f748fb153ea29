# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of networks."""

from __future__ import annotations

import threading

from .scene import Scene

#: Rules of nftables in the destination's namespace, with one verdict: new connections, or one direction only.
FLAP_DOWN_S, FLAP_UP_S, FLAPS = 2.0, 3.0, 5


def reset(scene: Scene) -> None:
    """Reset the connections of migrations at the destination, and refuse new ones."""
    _mended(scene)
    scene.lab.fault.cut_migration(scene.destination)


def silence(scene: Scene) -> None:
    """Let their packets vanish."""
    _mended(scene)
    scene.lab.fault.cut_migration(scene.destination, silent=True)


def one_way(scene: Scene) -> None:
    """Let the packets to the destination vanish."""
    _mended(scene)
    scene.lab.fault.cut_one_way(scene.destination, incoming=True)


def other_way(scene: Scene) -> None:
    """Let the packets from the destination vanish."""
    _mended(scene)
    scene.lab.fault.cut_one_way(scene.destination, incoming=False)


def refuse_new(scene: Scene) -> None:
    """Refuse new connections of migrations, of which the first is for disks."""
    for host in scene.lab.hosts:
        if host != scene.source:
            scene.lab.fault.cut_migration(host)
    _mended(scene)


def cut_migration_network(scene: Scene) -> None:
    """Pull the destination's cable out of the migration network."""
    _mended(scene)
    scene.lab.fault.cut_link(scene.destination)


def cut_management(scene: Scene) -> None:
    """Pull the source's cable out of the management network."""
    _mended(scene)
    scene.lab.fault.cut_link(scene.source, "management")


def flap(scene: Scene) -> None:
    """Reset the connections of migrations again and again."""
    over = threading.Event()

    def work() -> None:
        for _number in range(FLAPS):
            scene.lab.fault.cut_migration(scene.destination)
            over.wait(FLAP_DOWN_S)
            scene.lab.fault.let_migration(scene.destination)
            if over.wait(FLAP_UP_S):
                return

    thread = threading.Thread(target=work, daemon=True)

    def mend() -> None:
        over.set()
        thread.join()

    _mended(scene)
    scene.mend.append(mend)
    thread.start()


def _mended(scene: Scene) -> None:
    def mend() -> None:
        for host in scene.lab.hosts:
            scene.lab.fault.mend(host)

    scene.mend.append(mend)
