# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: preflight_matrix
short_description: Show the paths between hosts as a matrix
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Turns paths, as M(kvmops.cluster.migration_path_info) finds them, into lines of fixed width. Sources go down and
    destinations across. Below, every failure is told with its remedy.
options:
  _input:
    description: The paths, a list of documents C(kvmops.path/1).
    type: list
    elements: dict
    required: true
seealso:
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Show which host can send guests to which
  kvmops.cluster.show_lines:
    lines: "{{ paths | kvmops.cluster.preflight_matrix }}"
"""

RETURN = r"""
_value:
  description: The lines, without line ends.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_table import matrix_lines


def preflight_matrix(paths: t.Any) -> list[str]:
    """Paths as lines of text."""
    if isinstance(paths, (str, t.Mapping)) or not isinstance(paths, t.Sequence):
        raise AnsibleFilterError(
            f"preflight_matrix takes a list of documents kvmops.path/1, not {type(paths).__name__}"
        )
    for number, path in enumerate(paths):
        schema = path.get("schema") if isinstance(path, t.Mapping) else type(path).__name__
        if schema != "kvmops.path/1":
            raise AnsibleFilterError(f"preflight_matrix: item {number} is {schema}, not a document kvmops.path/1")
    return matrix_lines(paths)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"preflight_matrix": preflight_matrix}
