#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_report
short_description: Report what came of a plan, told by what the hosts show
version_added: 0.1.0
description:
  - Joins a plan with what M(kvmops.cluster.plan_apply) returned on each source host, and holds both against fresh
    snapshots of all hosts. Where a record and the hosts disagree, the hosts are right.
  - Shows the report as a table, says what an operator must do now, and writes the report to a file.
  - Fails when a guest is not where the plan wants it, or has come to a host meanwhile that should be empty.
  - Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  plan:
    description: The plan, as M(kvmops.cluster.migration_plan) returned it.
    type: dict
    required: true
  results_from:
    description:
      - The name under which the task with M(kvmops.cluster.plan_apply) registered its result on the source hosts.
      - A step whose result is missing counts as not started, unless the hosts show that its guest has moved.
    type: str
    required: true
  snapshots_from:
    description:
      - The name under which the task with M(kvmops.cluster.host_info) that ran after the moves registered its result,
        or several such names, as O(kvmops.cluster.cluster_view#module:snapshots_from) takes them.
    type: list
    elements: str
    required: true
  hosts:
    description: The hosts to look at; all hosts of the play by default.
    type: list
    elements: str
  directory:
    description:
      - A directory on the controller for the report. It is made if it is missing; the file is named after the plan.
      - Nothing is written without it, in check mode, or when the plan has no steps.
    type: path
  figures:
    description:
      - Figures about the run as a whole that go into the report. C(score_before), C(score_planned) and C(score_after)
        of a rebalance are shown as well.
    type: dict
    default: {}
  tolerant:
    description: Only fail when it is unclear where a guest is, not when one has stayed where it was.
    type: bool
    default: false
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
attributes:
  check_mode:
    description: Reports, and writes no file.
    support: full
seealso:
  - module: kvmops.cluster.plan_apply
  - plugin: kvmops.cluster.report_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Report
  run_once: true
  kvmops.cluster.migration_report:
    plan: "{{ drain.plan }}"
    results_from: applied
    snapshots_from: seen
    directory: /srv/kvmops-reports
"""

RETURN = r"""
report:
  description: The report, a document C(kvmops.report/1).
  returned: success
  type: dict
path:
  description: The file with the report.
  returned: when a file was written
  type: str
  sample: /srv/kvmops-reports/drain-h1-20261124T020000Z-3f9a.json
left:
  description: The guests that are still active on each host of the plan's goal; one that did not answer is missing.
  returned: always
  type: dict
  sample: {h1: []}
empty:
  description: Whether all hosts of the plan's goal answered, and no guest is active on any.
  returned: success
  type: bool
"""
