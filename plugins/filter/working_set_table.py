# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: working_set_table
short_description: Show what guests do to their memory, and what moving them would cost
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Turns the measurements of M(kvmops.cluster.measurement_view) into lines of fixed width. They say for each guest how
    much memory it has touched, how fast it rewrites this memory, and what its move would cost.
  - The forecast is for the host to which the move is cheapest, among the hosts that may take guests. It does not check
    whether that host has room. A plan does.
positional: view
options:
  _input:
    description: What M(kvmops.cluster.measurement_view) returned.
    type: dict
    required: true
  view:
    description: What M(kvmops.cluster.cluster_view) returned.
    type: dict
    required: true
  intent:
    description: What a move may cost its guest, in the form of O(kvmops.cluster.migration_plan#module:intent).
    type: dict
    default: {}
seealso:
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Show the working sets of the guests
  run_once: true
  kvmops.cluster.show_lines:
    lines: "{{ measurements | kvmops.cluster.working_set_table(view) }}"
"""

RETURN = r"""
_value:
  description: The lines, without line ends.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import IntentError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.filter_input import mapping_with
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.working_set_table import working_set_lines


def working_set_table(measured: t.Any, view: t.Any, intent: t.Any = None) -> list[str]:
    """Measurements as lines of text."""
    measured = mapping_with("working_sets", measured, "measurements", "working_set_table")
    view = mapping_with("snapshots", view, "a view", "working_set_table")
    try:
        return working_set_lines(plain(measured), plain(view), plain(intent or {}))
    except IntentError as error:
        raise AnsibleFilterError(f"working_set_table: {visible(error)}") from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"working_set_table": working_set_table}
