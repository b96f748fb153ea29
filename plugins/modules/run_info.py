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
  - Says also how far a run is that is at work now, whoever has started it, and who has the host. It only reads, and
    takes no lease.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  since:
    description: Leave out runs that were started before this time (UTC, ISO 8601).
    type: str
  plan:
    description:
      - The id of a plan. RV(events) then has what this host has recorded of its steps, for a report, and RV(outcomes)
        what became of each of them.
    type: str
  name:
    description:
      - What Ansible calls this host, for messages.
      - By default its own name.
    type: str
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.info_module
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.state_dir
seealso:
  - module: kvmops.cluster.plan_apply
  - module: kvmops.cluster.migration_plan
  - module: kvmops.cluster.run_watch
"""

EXAMPLES = r"""
- name: See what left this host since this morning
  kvmops.cluster.run_info:
    since: "2026-11-24T06:00:00Z"
  register: record

- name: See how far the run is that is at work on this host
  kvmops.cluster.run_info:
  register: record

- name: Show it
  ansible.builtin.debug:
    msg: "{{ record.at_work.ended }} of {{ record.at_work.guests }} guests, about {{ record.at_work.eta_s }} s left"
  when: record.at_work is not none

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
at_work:
  description:
    - How far the run is that moves guests away from this host now, as a C(kvmops.run_progress/1)
      (C(docs/contracts.md), "Run at work"). It is null if no run is at work.
    - C(progress) is the file on this host with the lines of the run, each a C(kvmops.progress/1). It grows until a line
      with the phase V(end).
  returned: success
  type: dict
  contains:
    plan:
      description: The plan's id.
      type: str
      returned: always
    goal:
      description: The goal of the plan, with C(kind) and C(hosts).
      type: dict
      returned: always
    owner:
      description: Who has started it.
      type: str
      returned: always
    since:
      description: Since when it is at work, by this host's clock.
      type: str
      returned: always
    read_at:
      description: When this was read, by this host's clock.
      type: str
      returned: always
    guests:
      description: How many guests are to leave this host.
      type: int
      returned: always
    ended:
      description: For how many of them nothing more is expected. They have moved, or they stay.
      type: int
      returned: always
    share_done:
      description: Which part of the work is done, from 0 to 1, by the memory of the guests.
      type: float
      returned: always
    eta_s:
      description: Seconds until the last guest has arrived; null if nobody knows.
      type: float
      returned: always
    window_s:
      description: The maintenance window that was stated, or null.
      type: float
      returned: always
    window_left_s:
      description: Seconds until the window ends, below 0 after its end; null if none was stated.
      type: float
      returned: always
    steps:
      description:
        - A row for each guest, with what the run has told last about it.
        - Each has C(step), C(guest), C(destination), C(memory_bytes), C(start_s), C(end_s), C(phase), C(message),
          C(at), C(began_at), C(percent), C(rate_bytes_per_s), C(remaining_bytes), C(iteration), C(eta_s) and
          C(figures_at). What is not known is null.
      type: list
      elements: dict
      returned: always
    progress:
      description: The file with the lines.
      type: str
      returned: always
    progress_bytes:
      description: So much of that file was read for this. Its next line comes behind.
      type: int
      returned: always
lease:
  description:
    - Who has this host, with C(owner), C(run), C(purpose), C(since) and C(expires_at), as M(kvmops.cluster.host_lease)
      has them. It is null if nobody has it. A run has its hosts before its first guest moves, too.
  returned: success
  type: dict
outcomes:
  description:
    - What became of each step of O(plan) whose source is this host, as RV(kvmops.cluster.plan_apply#module:results) has
      it. It is null if the run has not ended, or has died.
  returned: when O(plan) is given
  type: list
  elements: dict
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

import socket
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.run.past_runs import events_of, list_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.run_directory import RunError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_dir import STATE_DIR_ARGUMENT
from ansible_collections.kvmops.cluster.plugins.module_utils.run.watch.at_work import at_work, lease_holder, results_of


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **STATE_DIR_ARGUMENT,
            "since": {"type": "str"},
            "plan": {"type": "str"},
            "name": {"type": "str"},
        },
        supports_check_mode=True,
    )
    result: dict[str, t.Any] = {"changed": False}
    state_dir, plan = module.params["state_dir"], module.params["plan"]
    try:
        result["at_work"] = at_work(state_dir)
        result["lease"] = lease_holder(state_dir, module.params["name"] or socket.gethostname())
        result["runs"] = list_runs(state_dir, module.params["since"])
        if plan is not None:
            result["events"] = events_of(state_dir, plan)
            result["outcomes"] = results_of(state_dir, plan)
    except ValueError as error:
        module.fail_json(msg=f"since: {module.params['since']!r} is not a time such as 2026-11-24T02:00:00Z ({error})")
    except RunError as error:
        module.fail_json(msg=visible(f"plan: {error}"))
    except OSError as error:
        module.fail_json(msg=visible(f"the record cannot be read: {error}; run as root (become: true)"))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
