# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which guest the controller runs in, if it runs in one.

from __future__ import annotations

import uuid
from pathlib import Path

#: A guest finds its UUID in its firmware (only root may read it), or in the device tree. systemd makes the machine-id
#: of a guest from that UUID at its first boot (machine-id(5)).
PLACES = ("sys/class/dmi/id/product_uuid", "proc/device-tree/vm,uuid", "etc/machine-id")


def own_uuids(root: Path = Path("/")) -> frozenset[str]:
    """What this machine says that its UUID is, in the spelling of libvirt."""
    found = set()
    for place in PLACES:
        try:
            found.add(str(uuid.UUID((root / place).read_text(encoding="utf-8", errors="replace").strip(" \n\0"))))
        except (OSError, ValueError):
            continue
    return frozenset(found)
