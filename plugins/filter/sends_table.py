# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: sends_table
short_description: Show what of a capsule goes to each host
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Turns what M(kvmops.cluster.capsule_send) returned into lines of fixed width. In check mode, they tell what would be
    sent.
options:
  _input:
    description: The rows RV(kvmops.cluster.capsule_send#module:hosts).
    type: list
    elements: dict
    required: true
seealso:
  - module: kvmops.cluster.capsule_send
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Show what was sent to each host
  run_once: true
  kvmops.cluster.show_lines:
    lines: "{{ sent.hosts | kvmops.cluster.sends_table }}"
"""

RETURN = r"""
_value:
  description: The lines, without line ends.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.sends_table import sends_lines


def sends_table(rows: t.Any) -> list[str]:
    """Rows as lines of text."""
    given = plain(rows)
    if not isinstance(given, list) or not all(isinstance(one, dict) and "avoided_by" in one for one in given):
        raise AnsibleFilterError("sends_table: give the rows that kvmops.cluster.capsule_send returned as hosts")
    return sends_lines(given)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"sends_table": sends_table}
