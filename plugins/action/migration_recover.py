# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.module_utils.parsing.convert_bool import boolean

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.operator_name import operator_name
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_action import LiveAction


class ActionModule(LiveAction):
    """Finishes moves that broke off, and shows how it goes."""

    INTERRUPT_NOTE = "What libvirt has resumed goes on there; nothing more is tried. Run the same again to continue."

    def module_arguments(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        return {"owner": operator_name(), **super().module_arguments(task_vars)}

    def is_short(self, arguments: dict[str, t.Any]) -> bool:
        return not boolean(arguments.get("finish", True))
