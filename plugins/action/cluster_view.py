# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import typing as t

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import shares
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.resources import named_files
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import registered_results
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction


class ActionModule(ControllerAction):
    """Puts the snapshots that the hosts of a play took into one view, and names the hosts that gave none."""

    ARGUMENTS = {
        "snapshots_from": {"type": "list", "elements": "str", "required": True},
        "hosts": {"type": "list", "elements": "str"},
        "required": {"type": "list", "elements": "str", "default": []},
        "before": {"type": "dict"},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Collect what was registered; change nothing."""
        hosts = arguments["hosts"] or variables["ansible_play_hosts_all"]
        hostvars = variables["hostvars"]
        results = registered_results.results_of(hostvars, hosts, *arguments["snapshots_from"])
        before = arguments["before"] or {"snapshots": {}, "absent": []}
        # A host that gave a snapshot a moment ago has just been asked once more.
        absent = before["absent"] + [
            host for host in registered_results.absent(results) if host["host"] not in before["snapshots"]
        ]
        for host in absent:
            if host["host"] in arguments["required"]:
                raise AnsibleActionFail(_needed(host, has_answered="refusal" in results.get(host["host"], {})))
            told = visible(f"{host['host']} is left out and gets no guests: {host['reason']}")
            Display().warning(told, formatted=True)
        same_servers = registered_results.same_servers(hostvars, hosts)
        found = {**before["snapshots"], **registered_results.snapshots(results)}
        snapshots = shares.with_one_name(found, same_servers)
        asked = {host: registered_results.connection(host, hostvars[host]) for host in [*snapshots, *hosts]}
        addresses = {**before.get("addresses", {}), **asked}
        connect = {host: addresses[host] for host in snapshots}
        return {
            "changed": False,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "snapshots": snapshots,
            "absent": absent,
            "open": registered_results.open_hosts(snapshots),
            **named_files(snapshots)._asdict(),
            "connect": connect,
            "addresses": addresses,
            "endpoints": [
                {
                    "name": host,
                    "uri": how["connect_uri"],
                    "migration_address": how["migration_address"],
                    **registered_results.incoming(snapshots[host], how["migration_address"]),
                }
                for host, how in connect.items()
            ],
        }


def _needed(absent: dict[str, str], *, has_answered: bool) -> str:
    """Why nothing can be done without a host that gave no snapshot, and what to do."""
    host, reason = absent["host"], absent["reason"]
    if has_answered:
        return f"{host} is needed and gives no snapshot: {reason}. Repair that, then run the same again."
    return (
        f"{host} is needed and does not answer: {reason}."
        f" Repair that (try: ansible -m ping {host}), then run the same again."
    )
