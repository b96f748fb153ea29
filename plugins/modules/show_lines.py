#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: show_lines
short_description: Show lines of text as they are
version_added: 0.1.0
description:
  - Shows lines on the terminal, and in the log of a job, exactly as they are. So a table stays a table.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  lines:
    description: The lines.
    type: list
    elements: str
    required: true
  failure:
    description: If this text is not empty, show the lines and then fail with this text.
    type: str
    default: ""
  mood:
    description: The colour of the lines on a terminal.
    type: str
    choices: [plain, good, warning, bad]
    default: plain
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
seealso:
  - plugin: kvmops.cluster.plan_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show a plan
  kvmops.cluster.show_lines:
    lines: "{{ plan | kvmops.cluster.plan_table }}"
"""

RETURN = r""" # """
