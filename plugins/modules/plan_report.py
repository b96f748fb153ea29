#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_report
short_description: Write a migration plan as a page to look at
version_added: 0.1.0
description:
  - Writes what a plan would do, before it is done, in the formats of M(kvmops.cluster.migration_report). The page has
    the same timeline, with the forecasts.
  - The files are on the controller. Their names are the id of the plan with C(.plan.html) and so on.
  - Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  plan:
    description: The plan, as M(kvmops.cluster.migration_plan) returned it.
    type: dict
    required: true
  snapshots:
    description: Snapshots of the hosts as they are, by host. The page shows the hosts now and as planned.
    type: dict
    default: {}
  working_sets:
    description:
      - What was measured of the guests, as RV(kvmops.cluster.measurement_view#module:working_sets) has it. The page
        shows it for each guest.
    type: list
    elements: dict
    default: []
  directory:
    description: The directory for the files. It is created if it is missing.
    type: path
    required: true
  formats:
    description:
      - The formats, as in O(kvmops.cluster.migration_report#module:formats). V(json) is passed over, because the plan
        itself is written by O(kvmops.cluster.migration_plan#module:dest).
    type: list
    elements: str
    choices: [json, html, markdown, junit, csv]
    default: [html]
  mode:
    description: The permissions of the files, as in O(kvmops.cluster.migration_report#module:mode).
    type: raw
    default: '0600'
  keep:
    description: The files of so many runs are kept, as in O(kvmops.cluster.migration_report#module:keep).
    type: int
    default: 500
  keep_days:
    description: Older files are removed, as in O(kvmops.cluster.migration_report#module:keep_days).
    type: float
    default: 365
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
attributes:
  check_mode:
    description: Writes nothing. The roles run it with C(check_mode=false), because the page is what a check is for.
    support: full
  diff_mode:
    description: Shows no difference.
    support: none
seealso:
  - module: kvmops.cluster.migration_plan
  - module: kvmops.cluster.migration_report
  - module: kvmops.cluster.plan_review
"""

EXAMPLES = r"""
- name: Write what would be done as a page
  run_once: true
  check_mode: false
  kvmops.cluster.plan_report:
    plan: "{{ drain.plan }}"
    snapshots: "{{ view.snapshots }}"
    working_sets: "{{ measured.working_sets }}"
    directory: /srv/kvmops-reports
    formats: [html, markdown]
"""

RETURN = r"""
paths:
  description: The files, by format.
  returned: success
  type: dict
  sample: {html: /srv/kvmops-reports/drain-h1-20261124T020000Z-3f9a.plan.html}
"""
