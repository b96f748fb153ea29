# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction

#: The mood of a text and the colour it is shown in on a terminal; a log file gets the bare text.
COLOURS: dict[str, str | None] = {"plain": None, "good": "green", "warning": "bright purple", "bad": "red"}


class ActionModule(ControllerAction):
    """Shows lines of text as they are, where the debug module would show them as quoted JSON."""

    ARGUMENTS = {
        "lines": {"type": "list", "elements": "str", "required": True},
        "failure": {"type": "str", "default": ""},
        "mood": {"type": "str", "choices": list(COLOURS), "default": "plain"},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Show the lines, then fail if that is asked for."""
        display = Display()
        for line in arguments["lines"]:
            display.display(visible(line), color=COLOURS[arguments["mood"]])
        failure = {"failed": True, "msg": arguments["failure"]} if arguments["failure"] else {}
        return {"changed": False, **failure}
