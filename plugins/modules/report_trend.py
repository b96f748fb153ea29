#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: report_trend
short_description: Show old reports side by side
version_added: 0.1.0
description:
  - Reads the reports that M(kvmops.cluster.migration_report) wrote on the controller. Shows how right the forecasts
    were from run to run, and how long guests stood still.
  - Shows a table, and writes a page beside the reports, C(reports.html).
  - A file that cannot be read as a report is left out, with a warning.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  path:
    description: The folder with the reports, or one report.
    type: path
    required: true
  formats:
    description: What is written beside the reports. With V(html) C(reports.html), with V(csv) C(reports.csv).
    type: list
    elements: str
    choices: [html, csv]
    default: [html]
  mode:
    description: The permissions of the files, as in O(kvmops.cluster.migration_report#module:mode).
    type: raw
    default: '0600'
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
attributes:
  check_mode:
    description: Shows the table, and writes no file.
    support: full
  diff_mode:
    description: Shows no difference.
    support: none
seealso:
  - module: kvmops.cluster.migration_report
"""

EXAMPLES = r"""
- name: Show how the drains of the last year went
  run_once: true
  kvmops.cluster.report_trend:
    path: /srv/kvmops-reports
    formats: [html, csv]
"""

RETURN = r"""
paths:
  description: The files, by format.
  returned: success
  type: dict
  sample: {html: /srv/kvmops-reports/reports.html}
runs:
  description:
    - The runs, the oldest first, each with C(plan), C(what), C(started_at), C(ok), C(moved), C(guests), C(total_s),
      C(expected_s), C(medians), C(worsts), C(downtime_ms), C(worst_downtime_ms) and C(not_kept).
    - C(medians) and C(worsts) are the errors of the forecasts of C(total_s), C(bytes) and C(downtime_ms), without their
      signs. They are null where nothing was compared.
  returned: success
  type: list
  elements: dict
"""
