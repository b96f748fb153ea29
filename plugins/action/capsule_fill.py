# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_action import LiveAction


class ActionModule(LiveAction):
    """Gets the rest of a guest's disks and shows how it goes."""

    INTERRUPT_NOTE = "The guest goes on, and what has come stays; run it again to see it to its end."
