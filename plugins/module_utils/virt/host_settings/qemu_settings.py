# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: libvirt's settings for QEMU on a host, which are root's.

from __future__ import annotations

from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError

FILE = "etc/libvirt/qemu.conf"


def text(root: Path = Path("/")) -> str:
    """The text of qemu.conf; empty where there is none: then everything has its default.

    Raises:
        VirtError: this user may not read it. To take the defaults for what it says could copy a disk that hosts share.
    """
    try:
        return (root / FILE).read_text(encoding="utf-8", errors="replace").strip()
    except PermissionError as error:
        raise VirtError(
            refusal(
                "settings_unreadable",
                f"/{FILE} cannot be read, and what it says of shared storage, ports and certificates counts: "
                f"{error.strerror}",
                "run as root (become: true), or let kvmops.cluster.secure_hosts give this user the right to read it",
            )
        ) from error
    except OSError:
        return ""
