# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import registered_results

ARGUMENTS = {
    "measured_from": {"type": "str", "required": True},
    "hosts": {"type": "list", "elements": "str"},
}
#: A guest without a measurement to remember, in check mode: the plan says so itself, for all such guests in one line.
TOLD_BY_THE_PLAN = "never_measured"


class ActionModule(ActionBase):
    """Puts what the hosts of a play have measured into one view, and warns of what they could not measure."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Collect what was registered; change nothing."""
        super().run(tmp, task_vars)
        _validation, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        variables = task_vars or {}
        hosts = arguments["hosts"] or variables["ansible_play_hosts_all"]
        found = registered_results.measurements(
            registered_results.results_of(variables["hostvars"], hosts, arguments["measured_from"])
        )
        for missing in found["unmeasured"]:
            if missing["code"] != TOLD_BY_THE_PLAN:
                why = f"{missing['reason']}: {missing['remedy']}" if missing["remedy"] else missing["reason"]
                Display().warning(f"Not measured on {missing['host']}: {why}", formatted=True)
        return {"changed": False, **found}
