# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_action import LiveAction


class ActionModule(LiveAction):
    """Reads what a host has of capsules and shows how far it is."""

    INTERRUPT_NOTE = "What was not read yet is not verified; nothing was changed."
