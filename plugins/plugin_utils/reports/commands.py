# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: commands that an operator copies from a report. Names of hosts are the inventory's, and may
# have characters that mean something to a shell.

from __future__ import annotations

import json
import re
import shlex
import typing as t

#: The playbook of each goal, and the option that says for which hosts.
_PLAYBOOKS = {
    "drain": ("drain_host", "drain_host_name"),
    "evacuate": ("evacuate", "evacuate_hosts"),
    "restore": ("restore_host", "restore_host_name"),
    "rebalance": ("rebalance", "rebalance_hosts"),
    "upgrade": ("rolling_upgrade", "rolling_upgrade_hosts"),
}
#: What C(-e name=value) takes for one word.
_PLAIN = re.compile(r"[A-Za-z0-9._,:/-]+")


def again(goal: t.Mapping[str, t.Any], inventories: t.Iterable[str], more: t.Mapping[str, str] | None = None) -> str:
    """The command that runs the playbook of a goal, for the same hosts; empty for a goal without one.

    Args:
        goal: of a plan.
        inventories: that the run had.
        more: further variables.

    >>> again({"kind": "drain", "hosts": ["h1"]}, ["inventory.yml"])
    'ansible-playbook kvmops.cluster.drain_host -i inventory.yml -e drain_host_name=h1'
    >>> again({"kind": "evacuate", "hosts": ["h 1", "h2"]}, [])
    'ansible-playbook kvmops.cluster.evacuate -e \\'{"evacuate_hosts": ["h 1", "h2"]}\\''
    """
    if goal["kind"] not in _PLAYBOOKS:
        return ""
    playbook, option = _PLAYBOOKS[goal["kind"]]
    words = ["ansible-playbook", f"kvmops.cluster.{playbook}"]
    for inventory in inventories:
        words += ["-i", str(inventory)]
    if goal["hosts"]:
        words += ["-e", _variable(option, goal["hosts"])]
    for name, value in (more or {}).items():
        words += ["-e", _variable(name, [value])]
    return shlex.join(words)


def _variable(option: str, values: t.Sequence[str]) -> str:
    joined = ",".join(values)
    if _PLAIN.fullmatch(joined) and not any("," in value for value in values):
        return f"{option}={joined}"
    return json.dumps({option: values[0] if option.endswith(("_name", "_plan")) else list(values)})
