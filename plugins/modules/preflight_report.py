#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Show what prevents moves between the hosts of a play
version_added: 0.1.0
description:
  - Checks the hosts themselves. The checks are for versions, known bugs, clocks and shared storage, and for post-copy
    and encryption if O(intent) asks for them.
  - Makes a matrix of what M(kvmops.cluster.migration_path_info) found on each source.
  - Shows all findings, each failure with its remedy. Then fails if one of them prevents moves.
  - Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  view:
    description: What M(kvmops.cluster.cluster_view) returned.
    type: dict
    required: true
  paths_from:
    description: The variable in which the task with M(kvmops.cluster.migration_path_info) registered its result.
    type: str
    required: true
  started_at:
    description: When the task that takes the snapshots began, by the controller's clock (UTC, ISO 8601).
    type: str
    required: true
  sources:
    description: The hosts that guests may leave. By default all.
    type: list
    elements: str
    default: []
  destinations:
    description: The hosts that guests may go to. By default all.
    type: list
    elements: str
    default: []
  intent:
    description: What a move may cost a guest, in the form of O(kvmops.cluster.migration_plan#module:intent).
    type: dict
    default: {}
  max_skew_s:
    description: The largest difference between the clock of a host and that of the controller, in seconds.
    type: float
    default: 5.0
  tolerant:
    description:
      - Do not fail, and show the findings as notes. Use it if you make a plan from the findings, and fail only if the
        plan needs something that does not work.
    type: bool
    default: false
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
seealso:
  - module: kvmops.cluster.cluster_view
  - module: kvmops.cluster.migration_path_info
"""

EXAMPLES = r"""
- name: Show what was found
  run_once: true
  kvmops.cluster.preflight_report:
    view: "{{ view }}"
    paths_from: tried
    started_at: "{{ started_at }}"
"""

RETURN = r"""
paths:
  description: All paths that were tried, as documents C(kvmops.path/1).
  returned: success
  type: list
  elements: dict
rights:
  description: In one line, as whom Ansible works on the hosts, and as whom these reach each other.
  returned: success
  type: str
  sample: >-
    Rights: least privilege. Ansible works as kvmops; hosts log in to each other as kvmops-peer; libvirt asks polkit
    about each call.
findings:
  description: What was found about the hosts, each with C(host), C(bad) (whether it prevents moves) and C(refusal).
  returned: success
  type: list
  elements: dict
"""
