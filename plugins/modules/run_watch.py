#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_watch
short_description: Watch a run that somebody else has started
version_added: 0.1.0
description:
  - Finds the run that moves guests away from this host, whoever has started it and from wherever, and shows its lines
    until it is over. The controller that has started it may be gone.
  - It only reads. It takes no lease, sends no signal and leaves no file on the host. Press Ctrl-C, and only the
    watching ends.
  - If no run is at work, it returns at once, or waits for one with O(wait_s).
  - A host that does not answer for C(kvmops_cluster_silent_s) seconds is given up.
  - The playbook C(kvmops.cluster.watch) does this on all hosts of an inventory, and says what came of it.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  plan:
    description:
      - The id of the plan to watch, or how it begins, such as V(drain-h1).
      - By default any run.
    type: str
  wait_s:
    description:
      - For how many seconds to wait for a run to begin. If this task finds one on another host, it waits no longer than
        for that to end.
    type: float
    default: 0.0
  state_dir:
    description:
      - The directory on the host in which this collection keeps its records.
      - By default that of M(kvmops.cluster.run_info).
    type: path
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.info_module
  - kvmops.cluster.attributes.action_group
attributes:
  action:
    description: One part runs on the controller. It shows what the host has on record.
    support: full
  async:
    description: Supports being run with the C(async) keyword.
    support: none
seealso:
  - module: kvmops.cluster.run_info
  - module: kvmops.cluster.plan_apply
"""

EXAMPLES = r"""
- name: Watch whatever moves guests away from this host
  kvmops.cluster.run_watch:

- name: Wait up to ten minutes for the drain of h1, then watch it
  kvmops.cluster.run_watch:
    plan: drain-h1
    wait_s: 600
"""

RETURN = r"""
watched:
  description: The run as it was found, as RV(kvmops.cluster.run_info#module:at_work) has it. It is null if none was.
  returned: success
  type: dict
outcomes:
  description:
    - What became of each of its steps on this host, as RV(kvmops.cluster.plan_apply#module:results) has it.
    - It is null if no run was found, and if the run was killed on the host.
  returned: success
  type: list
  elements: dict
lease:
  description: Who has this host if no run was found, as RV(kvmops.cluster.run_info#module:lease) has it.
  returned: success
  type: dict
"""
