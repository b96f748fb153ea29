# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: from an exception to what an operator reads.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import one_line
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection, lost_connection

#: libvirt's error may have words of a guest's agent in it. Errors of its own are shorter.
MOST_OF_LIBVIRT_ERROR = 1000


def explained(error: Exception) -> Refusal | None:
    """The refusal that an exception carries or stands for; None for a bug."""
    carried = getattr(error, "refusal", None)
    if isinstance(carried, dict) and {"code", "reason", "remedy"} <= set(carried):
        return t.cast(Refusal, carried)
    if lost_connection.is_lost(error):
        return lost_connection.lost(error)
    if isinstance(error, connection.libvirt.libvirtError):
        return refusal(
            "libvirt_error",
            f"libvirt says: {one_line(error, MOST_OF_LIBVIRT_ERROR)}",
            "see the log of libvirt on that host: journalctl -u libvirtd -u virtqemud",
        )
    return None
