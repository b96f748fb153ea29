#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_review
short_description: Write a migration plan for review in a pipeline
version_added: 0.1.0
description:
  - Writes three files on the controller.
  - C(NAME.json) is the plan itself. It can be carried out later. M(kvmops.cluster.plan_info) reads it.
  - C(NAME.xml) is JUnit XML. It has a failed test for each move, so that a pipeline shows the moves.
  - C(NAME.md) is Markdown for the merge request.
  - Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  plan:
    description: The plan, as M(kvmops.cluster.migration_plan) returned it.
    type: dict
    required: true
  directory:
    description: The directory for the files. It is created if it is missing.
    type: path
    required: true
  name:
    description: The name of the files, without the extension. By default the goal of the plan.
    type: str
  apply:
    description:
      - The command that carries the plan out. The Markdown shows it.
      - C(PLAN) in it is replaced by the path of the plan, and C(DIGEST) by the SHA-256 of that file.
    type: str
    required: true
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
attributes:
  check_mode:
    description: Writes nothing.
    support: full
  diff_mode:
    description: Shows no difference.
    support: none
seealso:
  - module: kvmops.cluster.migration_plan
  - module: kvmops.cluster.plan_info
"""

EXAMPLES = r"""
- name: Write the plan for review
  run_once: true
  kvmops.cluster.plan_review:
    plan: "{{ found.plan }}"
    directory: plans
    apply: ansible-playbook kvmops.cluster.rebalance -e rebalance_plan=PLAN -e rebalance_plan_sha256=DIGEST
"""

RETURN = r"""
paths:
  description: The paths of the files, as C(json), C(xml) and C(md).
  returned: success
  type: dict
  sample: {json: plans/rebalance.json, xml: plans/rebalance.xml, md: plans/rebalance.md}
sha256:
  description:
    - The SHA-256 of the plan's file. Whoever carries the plan out can state it, so that no other file is taken.
  returned: success
  type: str
summary:
  description: The plan in one line.
  returned: success
  type: str
  sample: 3 moves of 1.5 GiB, score 0.832 to 0.211
"""
