#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Show what stands in the way of moves between the hosts of a play
version_added: 0.1.0
description:
  - Checks the hosts themselves (versions, known bugs, clocks, shared storage, post-copy and encryption where they are
    wanted) and puts what M(kvmops.cluster.migration_path_info) found on each source into a matrix.
  - Shows all of it, each failure with its remedy, and then fails if anything stands in the way.
  - Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  view:
    description: What M(kvmops.cluster.cluster_view) returned.
    type: dict
    required: true
  paths_from:
    description: The name under which the task with M(kvmops.cluster.migration_path_info) registered its result.
    type: str
    required: true
  started_at:
    description: When, by the controller's clock, the snapshots began to be taken (UTC, ISO 8601).
    type: str
    required: true
  sources:
    description: The hosts that guests may leave; all by default.
    type: list
    elements: str
    default: []
  destinations:
    description: The hosts that guests may go to; all by default.
    type: list
    elements: str
    default: []
  intent:
    description: What the operator wants of the moves, in the words of M(kvmops.cluster.migration_plan).
    type: dict
    default: {}
  max_skew_s:
    description: How far off the controller's clock a host's may be, in seconds.
    type: float
    default: 5.0
  tolerant:
    description:
      - Fail for nothing of all that, and show it as notes. For those who plan from what was found, and fail only if
        their plan needs what does not work.
    type: bool
    default: false
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
seealso:
  - module: kvmops.cluster.cluster_view
  - module: kvmops.cluster.migration_path_info
"""

EXAMPLES = r"""
- name: Judge what was found
  run_once: true
  kvmops.cluster.preflight_report:
    view: "{{ view }}"
    paths_from: tried
    started_at: "{{ started_at }}"
"""

RETURN = r"""
paths:
  description: All paths that were tried, documents C(kvmops.path/1).
  returned: success
  type: list
  elements: dict
findings:
  description: What was found about the hosts, each with C(host), C(bad) (whether it stops moves) and C(refusal).
  returned: success
  type: list
  elements: dict
"""
