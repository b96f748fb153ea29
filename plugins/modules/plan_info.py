#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_info
short_description: Read a saved migration plan, and compare it with the cluster
version_added: 0.1.0
description:
  - Reads a plan that M(kvmops.cluster.migration_plan) wrote earlier, for example for a review.
  - Fails if the plan is damaged, or was made for other hosts or another goal.
  - Fails if the cluster has changed since in a way that matters for the steps of the plan, and says what changed. Free
    memory is not compared, because each move asks its destination.
  - Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  path:
    description: The file, on the controller.
    type: path
    required: true
  snapshots:
    description:
      - Snapshots of the hosts as they are now, by host, as M(kvmops.cluster.cluster_view) returns them.
      - Without them the plan is only read, and is not compared with the cluster.
    type: dict
  connect:
    description:
      - How the hosts are reached by the inventory, as RV(kvmops.cluster.cluster_view#module:connect) has it.
      - A plan with another address is refused, and the difference is told. Without this option addresses are not
        compared; M(kvmops.cluster.plan_apply) compares them then.
    type: dict
  intent:
    description:
      - What the operator of this run permits. A plan of which a step permits more is refused.
      - Without this option permissions are not compared.
    type: dict
  sha256:
    description:
      - The SHA-256 of the file that was reviewed, as C(sha256sum) prints it. Any other file is refused.
    type: str
  goal:
    description: The goal that the plan must have.
    type: str
    choices: [drain, evacuate, rebalance, restore, upgrade]
  hosts:
    description: The hosts for which the plan must be. By default any hosts.
    type: list
    elements: str
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
seealso:
  - module: kvmops.cluster.migration_plan
  - module: kvmops.cluster.plan_apply
"""

EXAMPLES = r"""
- name: Read the plan that was reviewed
  run_once: true
  kvmops.cluster.plan_info:
    path: plans/drain-h1.json
    snapshots: "{{ view.snapshots }}"
    connect: "{{ view.connect }}"
    intent: "{{ drain_intent }}"
    sha256: 2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
    goal: drain
    hosts: [h1]
  register: drain
"""

RETURN = r"""
plan:
  description: The plan, a document C(kvmops.plan/1).
  returned: success
  type: dict
table:
  description: The plan as lines of text.
  returned: success
  type: list
  elements: str
blocked:
  description: Guests that the goal wants elsewhere and that cannot go, without the excluded ones.
  returned: success
  type: list
  elements: dict
remarks:
  description: The remarks on the whole plan when it was made.
  returned: success
  type: list
  elements: dict
figures:
  description: The figures of the plan when it was made.
  returned: success
  type: dict
changes:
  description: What has changed since the plan was made, each with C(code), C(reason) and C(remedy).
  returned: always
  type: list
  elements: dict
"""
