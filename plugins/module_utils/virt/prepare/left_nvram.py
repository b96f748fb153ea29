# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: tells of the file with the variables of a guest's firmware (NVRAM), which libvirt leaves on
# the source.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records.left_copies import facts_of


def notes(guest: t.Mapping[str, t.Any], host: str) -> list[str]:
    """What stays of a guest that has left this host; empty where its NVRAM is on shared storage, or is gone.

    Args:
        guest: its part of this host's snapshot, taken before the move.
        host: this host's name.
    """
    path = guest.get("local_nvram")
    if not path:
        return []
    facts = facts_of(path)
    if not facts["is_file"]:
        return []
    what = f"its old NVRAM file {path} ({human_bytes(facts['allocated_bytes'] or 0)})"
    return [f"{what} stays on {host}, where nothing uses it; QEMU overwrites it when the guest comes back"]
