#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: variable_check
short_description: Refuse misspelt variables
version_added: 0.1.0
description:
  - Fails if the name of a variable begins with the name of a role, but the role has no such option. The message names
    the nearest option.
  - Does the same for variables that begin with C(kvmops_cluster_). All roles share these.
  - Checks the names of extra variables, and of variables of the inventory, groups, hosts, the play, blocks and roles.
    Facts and registered results may have any name. Variables of other roles of the play are not refused.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  roles:
    description: Roles of this collection whose options are checked. Also C(measure), the playbook.
    type: list
    elements: str
    required: true
  hosts:
    description: The hosts whose variables are checked; all hosts of the play by default.
    type: list
    elements: str
    default: []
  others:
    description: Variables that are not options of these roles, and are permitted. C(*) stands for any characters.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
seealso:
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Refuse misspelt options of drain_host
  run_once: true
  kvmops.cluster.variable_check:
    roles: [drain_host]
    others: ["drain_host_ticket_*"]
"""

RETURN = r""" # """
