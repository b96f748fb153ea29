#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_report
short_description: Report what became of the steps of a plan
version_added: 0.1.0
description:
  - Joins a plan with the results of M(kvmops.cluster.plan_apply) on the source hosts, and compares both with new
    snapshots of all hosts. If a result and a snapshot contradict each other, the snapshot counts.
  - Shows the report as a table, says what you must do now, and writes the report to a file.
  - Fails if a guest is not where the plan wants it. Also fails if a guest came to a host that should be empty.
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
      - The variable in which the task with M(kvmops.cluster.plan_apply) registered its result on the source hosts.
      - A step without a result counts as not started, unless the snapshots show that its guest has moved.
    type: str
    required: true
  snapshots_from:
    description:
      - The variable in which the task with M(kvmops.cluster.host_info) after the moves registered its result, or
        several such variables, in the form of O(kvmops.cluster.cluster_view#module:snapshots_from).
    type: list
    elements: str
    required: true
  hosts:
    description: The hosts whose results are collected. By default all hosts of the play.
    type: list
    elements: str
  recorded_from:
    description:
      - The variable in which a task with M(kvmops.cluster.run_info) and the id of the plan registered its result on the
        source hosts. The report then has the phases, rounds and decisions of each move.
    type: str
  before:
    description: Snapshots of the hosts before the moves, by host. The report compares the hosts with them.
    type: dict
    default: {}
  working_sets:
    description:
      - What was measured before the plan was made, as RV(kvmops.cluster.measurement_view#module:working_sets) has it.
        The report shows it for each guest.
    type: list
    elements: dict
    default: []
  directory:
    description:
      - A directory on the controller for the report. It is created if it is missing. The files have the name of the
        plan.
      - No file is written without this option, in check mode, or if the plan has no steps.
    type: path
  formats:
    description:
      - In which formats the report is written. V(json) is always written, because a return home reads it.
      - V(html) is a page for the browser in one file. V(markdown) is for a merge request. V(junit) is XML for a
        pipeline, with a test case for each guest. V(csv) is for a spreadsheet.
    type: list
    elements: str
    choices: [json, html, markdown, junit, csv]
    default: [json]
  mode:
    description:
      - The permissions of the files, such as V('0640'). Reports name guests, so others may not read them by default.
    type: raw
    default: '0600'
  keep:
    description:
      - The files of so many runs are kept in O(directory), the newest ones. With V(0), there is no such limit.
      - Whatever its age, a report is kept as long as a host waits for the return of a guest that it names.
      - Files that do not have the name of a plan are left alone.
    type: int
    default: 500
  keep_days:
    description: Files of older runs are removed from O(directory), as with O(keep). With V(0), there is no such limit.
    type: float
    default: 365
  figures:
    description:
      - Figures of the whole run. They go into the report. The table also shows C(score_before), C(score_planned) and
        C(score_after) of a rebalance.
    type: dict
    default: {}
  tolerant:
    description: Fail only if it is unclear where a guest is. Do not fail if a guest stayed where it was.
    type: bool
    default: false
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
attributes:
  check_mode:
    description: Makes the report, but writes no file.
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

- name: Read what the source hosts have recorded
  kvmops.cluster.run_info:
    plan: "{{ drain.plan.id }}"
  register: recorded

- name: Report, with a page for the team and a test case for each guest
  run_once: true
  kvmops.cluster.migration_report:
    plan: "{{ drain.plan }}"
    results_from: applied
    recorded_from: recorded
    snapshots_from: seen
    before: "{{ view.snapshots }}"
    working_sets: "{{ measured.working_sets }}"
    directory: /srv/kvmops-reports
    formats: [html, junit]
    mode: '0640'
"""

RETURN = r"""
report:
  description: The report, a document C(kvmops.report/1).
  returned: success
  type: dict
path:
  description: The file with the report itself, the JSON document.
  returned: when a file was written
  type: str
  sample: /srv/kvmops-reports/drain-h1-20261124T020000Z-3f9a.json
paths:
  description: All files that were written, by format.
  returned: always
  type: dict
  sample: {json: /srv/kvmops-reports/drain-h1-20261124T020000Z-3f9a.json}
left:
  description: The guests that are still active on each host of the plan's goal. A host that did not answer is missing.
  returned: always
  type: dict
  sample: {h1: []}
empty:
  description: Whether all hosts of the plan's goal answered, and no guest is active on any of them.
  returned: success
  type: bool
"""
