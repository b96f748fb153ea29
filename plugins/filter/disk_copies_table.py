# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: disk_copies_table
short_description: Show the images that guests have left on hosts
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Turns what M(kvmops.cluster.disk_copies) returned on several hosts into lines of fixed width.
options:
  _input:
    description: The lists RV(kvmops.cluster.disk_copies#module:copies) of all hosts, one after the other.
    type: list
    elements: dict
    required: true
seealso:
  - module: kvmops.cluster.disk_copies
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Show what guests have left behind
  run_once: true
  kvmops.cluster.show_lines:
    lines: "{{ copies | kvmops.cluster.disk_copies_table }}"
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
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.disk_copies_table import disk_copies_lines


def disk_copies_table(copies: t.Any) -> list[str]:
    """Copies as lines of text."""
    given = plain(copies)
    if not isinstance(given, list) or not all(isinstance(one, dict) and "status" in one for one in given):
        raise AnsibleFilterError("disk_copies_table: give the lists that kvmops.cluster.disk_copies returned as copies")
    return disk_copies_lines(given)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"disk_copies_table": disk_copies_table}
