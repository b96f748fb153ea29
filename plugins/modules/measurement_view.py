#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: measurement_view
short_description: Collect the measurements of all hosts of a play
version_added: 0.1.0
description:
  - Collects what M(kvmops.cluster.working_set_info) returned on each host of a play, in the form that
    M(kvmops.cluster.migration_plan) takes.
  - Warns of hosts and guests that could not be measured, with the reason. It does not fail then, because a guest
    without a measurement can be moved, too.
  - Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  measured_from:
    description: The variable in which the task with M(kvmops.cluster.working_set_info) registered its result.
    type: str
    required: true
  hosts:
    description:
      - The hosts whose results are collected. By default all hosts of the play.
      - Hosts that skipped the task are left out.
    type: list
    elements: str
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
seealso:
  - module: kvmops.cluster.working_set_info
  - module: kvmops.cluster.migration_plan
  - plugin: kvmops.cluster.working_set_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Measure all guests of every host
  kvmops.cluster.working_set_info:
    name: "{{ inventory_hostname }}"
  register: measured
  failed_when: false
  ignore_unreachable: true

- name: Collect the measurements
  run_once: true
  kvmops.cluster.measurement_view:
    measured_from: measured
  register: measurements
"""

RETURN = r"""
working_sets:
  description: The documents C(kvmops.working_set/1) of all guests that were measured.
  returned: success
  type: list
  elements: dict
changes:
  description: How much of each guest has changed since its newest capsule, where M(kvmops.cluster.working_set_info) has
    looked.
  returned: success
  type: list
  elements: dict
calibration:
  description:
    - What finished moves taught each host, in the form of O(kvmops.cluster.migration_plan#module:calibration).
  returned: success
  type: dict
hosts:
  description: For each host, the UUIDs of the guests that were measured there.
  returned: success
  type: dict
  sample: {h1: [0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11]}
unmeasured:
  description: What could not be measured, each with C(host), C(code), C(reason) and C(remedy).
  returned: success
  type: list
  elements: dict
"""
