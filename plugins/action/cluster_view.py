# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import registered_results

ARGUMENTS = {
    "snapshots_from": {"type": "list", "elements": "str", "required": True},
    "hosts": {"type": "list", "elements": "str"},
    "required": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ActionBase):
    """Puts the snapshots that the hosts of a play took into one view, and names the hosts that gave none."""

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
        hostvars = variables["hostvars"]
        results = registered_results.results_of(hostvars, hosts, *arguments["snapshots_from"])
        absent = registered_results.absent(results)
        for host in absent:
            if host["host"] in arguments["required"]:
                raise AnsibleActionFail(
                    f"{host['host']} is needed for this and gave no answer: {host['reason']}."
                    f" Mend that (try: ansible -m ping {host['host']}), then run this again."
                )
            Display().warning(f"{host['host']} is left out and gets no guests: {host['reason']}", formatted=True)
        snapshots = registered_results.snapshots(results)
        connect = {host: registered_results.connection(host, hostvars[host]) for host in snapshots}
        return {
            "changed": False,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "snapshots": snapshots,
            "absent": absent,
            "open": registered_results.open_hosts(snapshots),
            "connect": connect,
            "endpoints": [
                {"name": host, "uri": how["connect_uri"], "migration_address": how["migration_address"]}
                for host, how in connect.items()
            ],
        }
