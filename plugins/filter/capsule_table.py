# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: capsule_table
short_description: Show how guests get to the far end of a thin link
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Turns what M(kvmops.cluster.capsule_plan) chose into lines of fixed width. They say for each guest when it is of use
    at the far end, how long it stands still, how much is sent, and why.
options:
  _input:
    description: The list RV(kvmops.cluster.capsule_plan#module:choices).
    type: list
    elements: dict
    required: true
seealso:
  - module: kvmops.cluster.capsule_plan
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Show how the guests get to the other site
  run_once: true
  kvmops.cluster.show_lines:
    lines: "{{ chosen.choices | kvmops.cluster.capsule_table }}"
"""

RETURN = r"""
_value:
  description: The lines, without line ends.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode.mode_choice import SCHEMA
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.capsule_table import capsule_lines
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.filter_input import documents_of


def capsule_table(choices: t.Any) -> list[str]:
    """Choices as lines of text."""
    return capsule_lines(documents_of(plain(choices), SCHEMA, "capsule_table"))


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"capsule_table": capsule_table}
