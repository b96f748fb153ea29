# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: report_table
short_description: Show a report as a table
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Turns a report into lines of fixed width. They say for each guest where it went, how long the move took, how much
    was sent, and its downtime. The last lines say what is left to do.
options:
  _input:
    description: The report, a document C(kvmops.report/1).
    type: dict
    required: true
seealso:
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Show the report of a drain
  kvmops.cluster.show_lines:
    lines: "{{ lookup('ansible.builtin.file', 'report.json') | from_json | kvmops.cluster.report_table }}"
"""

RETURN = r"""
_value:
  description: The lines, without line ends.
  type: list
  elements: str
"""

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import REPORT
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.filter_input import document_of
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.report_table import report_lines


def report_table(document: t.Any) -> list[str]:
    """A report as lines of text."""
    return report_lines(document_of(document, REPORT, "report_table"))


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"report_table": report_table}
