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
  - Turns the paths of M(kvmops.cluster.migration_path_info) into lines of fixed width. Each source is a row, and each
    destination is a column. Below the matrix stands every failure with its remedy.
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

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import PATH
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.filter_input import documents_of
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.path_matrix import matrix_lines


def preflight_matrix(paths: t.Any) -> list[str]:
    """Paths as lines of text."""
    return matrix_lines(documents_of(paths, PATH, "preflight_matrix"))


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"preflight_matrix": preflight_matrix}
