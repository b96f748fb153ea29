# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.operator_name import operator_name
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_action import LiveAction


class ActionModule(LiveAction):
    """Moves one guest and shows how it goes."""

    IN_PLACE = True
    INTERRUPT_NOTE = "The move is being aborted; the guest stays where it is."

    def module_arguments(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"owner": operator_name(), **super().module_arguments(task_vars)}
