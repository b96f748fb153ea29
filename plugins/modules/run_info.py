#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_info
short_description: Read a host's own record of the plans it carried out
version_added: 0.1.0
description:
  - Reads what M(kvmops.cluster.plan_apply) and M(kvmops.cluster.domain_migrate) record on a source host. The record is
    there even if the controller that started the run is gone.
  - Returns which guests a plan moves away from the host, and when each of them left.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  since:
    description: Leave out runs that were started before this time (UTC, ISO 8601).
    type: str
  plan:
    description:
      - The id of a plan. RV(events) then has what this host has recorded of its steps, for a report.
    type: str
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.info_module
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.state_dir
seealso:
  - module: kvmops.cluster.plan_apply
  - module: kvmops.cluster.migration_plan
"""

EXAMPLES = r"""
- name: See what left this host since this morning
  kvmops.cluster.run_info:
    since: "2026-11-24T06:00:00Z"
  register: record

- name: See how the moves of a plan went
  kvmops.cluster.run_info:
    plan: drain-h1-20261124T020000Z-3f9a
  register: recorded

- name: Plan the way back
  delegate_to: localhost
  kvmops.cluster.migration_plan:
    goal: restore
    hosts: ["{{ inventory_hostname }}"]
    snapshots: "{{ view.snapshots }}"
    left: "{{ record.runs | map(attribute='steps') | flatten(levels=1) }}"
"""

RETURN = r"""
events:
  description:
    - What happened to each step of O(plan) whose source is this host, in the order of time, by the id of the step. Each
      has C(at), C(event) and C(data), as C(docs/contracts.md) describes them for the journal. C(data) has only what a
      report shows.
    - It is empty if this host has no record of that plan.
  returned: when O(plan) is given
  type: dict
  sample: {s001: [{at: "2026-11-24T02:01:07.412Z", event: migration.started, data: {destination: h2}}]}
runs:
  description: The runs, the oldest first. A damaged record is left out.
  returned: success
  type: list
  elements: dict
  contains:
    plan:
      description: The plan's id.
      type: str
      returned: always
      sample: drain-h1-20261124T020000Z-3f9a
    goal:
      description: The goal of the plan, with C(kind) and C(hosts).
      type: dict
      returned: always
      sample: {kind: drain, hosts: [h1]}
    started_at:
      description: When the run was started, by the host's clock.
      type: str
      returned: always
      sample: "2026-11-24T02:00:01Z"
    finished:
      description: Whether the run has ended.
      type: bool
      returned: always
    steps:
      description:
        - The moves of the plan, each with C(guest), C(source), C(destination) and C(moved_at).
        - C(moved_at) is the time at which both hosts agreed that the guest has moved, by this host's clock. It is null
          if the guest has not moved, or if its source is another host.
      type: list
      elements: dict
      returned: always
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.run.past_runs import events_of, list_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_dir import STATE_DIR_ARGUMENT


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **STATE_DIR_ARGUMENT,
            "since": {"type": "str"},
            "plan": {"type": "str"},
        },
        supports_check_mode=True,
    )
    result: dict[str, t.Any] = {"changed": False}
    try:
        result["runs"] = list_runs(module.params["state_dir"], module.params["since"])
        if module.params["plan"] is not None:
            result["events"] = events_of(module.params["state_dir"], module.params["plan"])
    except ValueError as error:
        module.fail_json(msg=f"since: {module.params['since']!r} is not a time such as 2026-11-24T02:00:00Z ({error})")
    except RunError as error:
        module.fail_json(msg=visible(f"plan: {error}"))
    except OSError as error:
        module.fail_json(msg=visible(f"the record cannot be read: {error}; run as root (become: true)"))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
