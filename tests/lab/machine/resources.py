# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a lab is still there: after `down`, nothing may be."""

from __future__ import annotations

from lab.common.settings import Settings

from . import cgroup, loop_device, mount, network, nspawn_run, process


def existing_resources(settings: Settings) -> list[str]:
    """Return every process, mount, link, namespace and control group of a lab that exists now.

    Limits (tc) and rules (nft) live on the links and in the namespaces, so they are gone when those are.
    """
    found = [f"control group {name}" for name in cgroup.of_lab(settings)]
    found += [f"process {pid} in {name}" for name in cgroup.of_lab(settings) for pid in sorted(cgroup.members(name))]
    for record in sorted(settings.run.glob("*")):
        pid = process.recall(record)
        if pid is not None:
            found.append(f"process {pid} ({record.name})")
    found += [f"mount {place}" for place in [*mount.of_lab(settings), *nspawn_run.left_by(settings)]]
    if nspawn_run.is_left(settings):
        found.append(f"mount {nspawn_run.PLACE}")
    found += [f"block device /dev/loop{number}" for number in loop_device.of_lab(settings)]
    found += [f"namespace {name}" for name in network.namespaces(settings)]
    found += [f"link {name}" for name in network.links(settings)]
    found += [f"connection {path}" for path in (settings.state / "ssh").glob("*") if path.is_socket()]
    return found
