# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import registered_results
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction

#: A guest without a measurement to remember, in check mode: the plan says so itself, for all such guests in one line.
TOLD_BY_THE_PLAN = "never_measured"


class ActionModule(ControllerAction):
    """Puts what the hosts of a play have measured into one view, and warns of what they could not measure."""

    ARGUMENTS = {
        "measured_from": {"type": "str", "required": True},
        "hosts": {"type": "list", "elements": "str"},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Collect what was registered; change nothing."""
        hosts = arguments["hosts"] or variables["ansible_play_hosts_all"]
        found = registered_results.measurements(
            registered_results.results_of(variables["hostvars"], hosts, arguments["measured_from"])
        )
        for missing in found["unmeasured"]:
            if missing["code"] != TOLD_BY_THE_PLAN:
                why = f"{missing['reason']}: {missing['remedy']}" if missing["remedy"] else missing["reason"]
                Display().warning(visible(f"Not measured on {missing['host']}: {why}"), formatted=True)
        return {"changed": False, **found}
