#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_plan
short_description: Plan which guest goes to which host
version_added: 0.1.0
description:
  - Makes a plan that drains hosts, or brings guests home, out of snapshots of all hosts. M(kvmops.cluster.plan_apply)
    carries it out.
  - The plan is a document to review. It tells for each guest where it goes and why, and for each guest that has to
    stay, why and what to do about it.
  - It is an action plugin and runs on the controller only. It opens no connection and changes no host.
  - Capacity and groups hold in every intermediate state, because room that a guest leaves behind is not counted on.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  goal:
    description:
      - With V(drain), every guest that is active on O(hosts) leaves for another host.
      - With V(restore), the guests whose metadata says that one of O(hosts) is their home come back to it, and so do
        those in O(left) whose metadata names no other home.
    type: str
    required: true
    choices: [drain, restore]
  hosts:
    description: The hosts to empty, or to bring guests home to, by their names in the inventory.
    type: list
    elements: str
    required: true
  snapshots:
    description:
      - A snapshot of every host that may play a part, as RV(kvmops.cluster.host_info#module:snapshot) returns it.
      - Either a list, or a dictionary of hosts to snapshots.
      - A host that is cordoned or in maintenance is never a destination.
    type: raw
    required: true
  paths:
    description:
      - What the sources see of the destinations, as M(kvmops.cluster.migration_path_info) returns it.
      - A path whose checks failed is not used. A path that is not in the list is used.
    type: list
    elements: dict
    default: []
  connect:
    description:
      - How hosts reach each other. A dictionary of hosts to dictionaries with C(connect_uri), the URI under which a
        source's libvirtd reaches that host's, and C(migration_address), the address that guest memory is sent to.
    type: dict
    default: {}
  intent:
    description:
      - What the operator wants of every move, for example C(max_downtime_ms) of V(200) and C(allow_postcopy).
      - A guest's own intent, from its metadata, wins, but no guest can permit what is set to V(false) here.
      - The words are V(max_downtime_ms), V(max_slowdown_pct), V(deadline_s), V(allow_postcopy), V(allow_suspend),
        V(allow_shutdown), V(allow_storage_copy), V(bandwidth_mib_s) and V(encryption).
    type: dict
    default: {}
  exclude:
    description:
      - Guests to leave where they are.
      - Either a list of names or UUIDs, or a JMESPath expression over a snapshot that finds domains or names of
        domains. The expression is applied to every snapshot, and needs the Python library jmespath on the controller.
    type: raw
  reserve_mib:
    description: Memory that must stay free on every destination, in MiB.
    type: int
    default: 256
  left:
    description:
      - Guests that left O(hosts) earlier. UUIDs, rows of a report (C(guests)), steps of a plan, or step results.
      - Only for O(goal=restore).
    type: list
    elements: raw
    default: []
  dest:
    description: A file on the controller to write the plan to. Its directory must exist.
    type: path
attributes:
  action:
    description: Runs on the controller.
    support: full
  async:
    description: Supports the C(async) keyword.
    support: none
  check_mode:
    description: Makes the plan all the same, and does not write O(dest).
    support: full
  diff_mode:
    description: Shows how O(dest) changes.
    support: full
seealso:
  - module: kvmops.cluster.host_info
  - module: kvmops.cluster.migration_path_info
  - module: kvmops.cluster.plan_apply
  - plugin: kvmops.cluster.plan_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Take a snapshot of every host
  kvmops.cluster.host_info:
    name: "{{ inventory_hostname }}"
  register: seen

- name: Plan how to empty h1
  kvmops.cluster.migration_plan:
    goal: drain
    hosts: [h1]
    snapshots: "{{ ansible_play_hosts | map('extract', hostvars, ['seen', 'snapshot']) }}"
    connect:
      h1: {connect_uri: qemu+ssh://root@h1/system, migration_address: 198.18.0.11}
      h2: {connect_uri: qemu+ssh://root@h2/system, migration_address: 198.18.0.12}
    intent:
      max_downtime_ms: 200
      allow_postcopy: true
    exclude: domains[?metadata.tier=='pinned']
    dest: "{{ playbook_dir }}/drain-h1.json"
  run_once: true
  register: drain

- name: Show it
  kvmops.cluster.show_lines:
    lines: "{{ drain.table }}"
  run_once: true
"""

RETURN = r"""
plan:
  description: The plan, a document C(kvmops.plan/1).
  returned: success
  type: dict
  sample:
    schema: kvmops.plan/1
    id: drain-h1-20261124T020000Z-3f9a
    goal: {kind: drain, hosts: [h1]}
    steps:
      - id: s001
        guest: {name: web1, uuid: 0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11}
        source: h1
        destination: h2
        reason: h2 keeps the most memory free (21.4 GiB after the move)
    stays: []
table:
  description: The plan as lines of text, for people.
  returned: success
  type: list
  elements: str
  sample: ["Plan drain-h1-20261124T020000Z-3f9a: 1 guest (512 MiB) leaves h1"]
blocked:
  description: Those of the plan's C(stays) that the operator did not ask for with O(exclude).
  returned: success
  type: list
  elements: dict
  sample: []
dest:
  description: The file with the plan.
  returned: when O(dest) is given
  type: str
  sample: /home/alice/drain-h1.json
refusal:
  description: Why there is no plan.
  returned: failure
  type: dict
  sample: {code: unknown_host, reason: there is no snapshot of h9, remedy: check the name against the inventory}
"""

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Say that this is the wrong way in: the work is done by the action plugin of the same name."""
    module = AnsibleModule(
        argument_spec={
            "goal": {"type": "str", "required": True, "choices": ["drain", "restore"]},
            "hosts": {"type": "list", "elements": "str", "required": True},
            "snapshots": {"type": "raw", "required": True},
            "paths": {"type": "list", "elements": "dict", "default": []},
            "connect": {"type": "dict", "default": {}},
            "intent": {"type": "dict", "default": {}},
            "exclude": {"type": "raw"},
            "reserve_mib": {"type": "int", "default": 256},
            "left": {"type": "list", "elements": "raw", "default": []},
            "dest": {"type": "path"},
        },
        supports_check_mode=True,
    )
    module.fail_json(
        msg="migration_plan runs on the controller, as an action plugin: call it by its full name, "
        "kvmops.cluster.migration_plan, in a task"
    )


if __name__ == "__main__":
    main()
