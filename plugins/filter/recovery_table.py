# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: recovery_table
short_description: Show what became of moves that broke off
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Turns what M(kvmops.cluster.migration_recover) returned on several hosts into lines.
positional: absent
options:
  _input:
    description: What M(kvmops.cluster.migration_recover) returned on each host, by host.
    type: dict
    required: true
  absent:
    description: Hosts that were not asked, as RV(kvmops.cluster.cluster_view#module:absent).
    type: list
    elements: dict
    default: []
  what:
    description: The lines, or only the names of guests that need a person and of hosts that were not looked through.
    type: str
    choices: [lines, undone]
    default: lines
seealso:
  - module: kvmops.cluster.migration_recover
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Show what became of them
  run_once: true
  kvmops.cluster.show_lines:
    lines: "{{ {'h1': done_on_h1, 'h2': done_on_h2} | kvmops.cluster.recovery_table(view.absent) }}"
"""

RETURN = r"""
_value:
  description: The lines, without line ends, or the names.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.recovery_table import recovery_lines, undone


def recovery_table(results: t.Any, absent: t.Any = (), what: str = "lines") -> list[str]:
    """Results as lines of text."""
    given, missing = plain(results), plain(absent)
    if not isinstance(given, dict) or not all(isinstance(one, dict) for one in given.values()):
        raise AnsibleFilterError("recovery_table: give what kvmops.cluster.migration_recover returned, by host")
    return (undone if what == "undone" else recovery_lines)(given, missing)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"recovery_table": recovery_table}
