# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: plan_table
short_description: Show a plan as a table
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Turns a plan of M(kvmops.cluster.migration_plan) into lines of fixed width, or into Markdown for a merge request.
  - The lines say what each step does, when, and why. They say which guests stay, what to do about them, and how long
    the whole plan takes.
options:
  _input:
    description: The plan, a document C(kvmops.plan/1).
    type: dict
    required: true
  format:
    description: V(text) for terminals, V(markdown) for merge requests.
    type: str
    choices: [text, markdown]
    default: text
seealso:
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Show a plan from a file
  kvmops.cluster.show_lines:
    lines: "{{ lookup('ansible.builtin.file', 'drain-h1.json') | from_json | kvmops.cluster.plan_table }}"

- name: Write a plan for review
  ansible.builtin.copy:
    content: "{{ drain.plan | kvmops.cluster.plan_table(format='markdown') | join('\n') }}\n"
    dest: plans/drain-h1.md
  delegate_to: localhost
"""

RETURN = r"""
_value:
  description: The lines, without line ends.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import PLAN
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.filter_input import document_of
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_review import markdown
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_table import plan_lines


def plan_table(document: t.Any, format: str = "text") -> list[str]:  # noqa: A002 - the operator's word
    """A plan as lines of text."""
    plan = document_of(document, PLAN, "plan_table")
    if format not in ("text", "markdown"):
        raise AnsibleFilterError(f"plan_table: format is text or markdown, not {format!r}")
    return plan_lines(plan) if format == "text" else markdown(plan).splitlines()


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"plan_table": plan_table}
