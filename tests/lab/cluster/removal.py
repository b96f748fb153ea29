# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a lab goes: nothing of it stays but the cache."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

from lab.common.errors import LabError
from lab.common.parallel import in_parallel
from lab.common.settings import Settings, from_environment
from lab.host import ssh
from lab.host.host import Host
from lab.machine import cgroup, loop_device, mount, network, nspawn_run, ownership, prerequisites, process
from lab.machine.lock import exclusive
from lab.machine.resources import existing_resources


def take_down() -> None:
    """Take down whatever lab there is, whole or in pieces."""
    prerequisites.check_root()
    settings = from_environment()
    with exclusive(settings):
        ownership.check(settings)
        ssh.close(settings)
        for record in settings.run.glob("*.supervisor"):
            process.end(record)
        _remove_all(settings)
        ownership.release(settings)
        left = existing_resources(settings)
        for name in ("hosts", "run", "ssh", "pki", "shared", "devices"):
            shutil.rmtree(settings.state / name, ignore_errors=True)
        for name in ("lab.json", "inventory.yml"):
            (settings.state / name).unlink(missing_ok=True)
    if left:
        raise LabError(f"not gone: {'; '.join(left[:5])}", "Run `down` again; if it stays, see who holds it.")


def remove_hosts(settings: Settings, hosts: Iterable[Host]) -> None:
    """Take down the hosts of a lab whose settings stay, as other hosts replace them."""
    ssh.close(settings)
    in_parallel(lambda host: host.kill(), hosts)
    _remove_all(settings)


def _remove_all(settings: Settings) -> None:
    """Remove what the lab made on the machine, in an order in which nothing is still held."""
    with nspawn_run.used(settings):
        in_parallel(cgroup.remove, cgroup.of_lab(settings))
        nspawn_run.forget(settings)
        network.remove_all(settings)
        loop_device.remove_all(settings)
        for place in mount.of_lab(settings):
            mount.unmount(place)
        nspawn_run.let_go(settings)
    shutil.rmtree(settings.state / "hosts", ignore_errors=True)
