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
  - Makes a plan that empties hosts, evens hosts out, upgrades hosts one after the other, or brings guests home, out of
    snapshots of all hosts. M(kvmops.cluster.plan_apply) carries it out.
  - The plan is a document to review. It tells for each guest where it goes, when and why, and for each guest that has
    to stay, why and what to do about it; and when all is over, and whether that fits the time there is.
  - It changes no host.
  - Capacity, groups and every other rule hold in every intermediate state. A step that needs room which another guest
    leaves behind waits for that guest.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  goal:
    description:
      - With V(drain) or V(evacuate), every guest that is active on O(hosts) leaves for a host that is not among them.
        Both words plan alike.
      - With V(rebalance), guests move so that memory, CPU and pressure are more even over the hosts.
      - With V(restore), the guests whose metadata says that one of O(hosts) is their home come back to it, and so do
        those in O(left) whose metadata names no other home.
      - With V(upgrade), O(hosts) are emptied in waves, each to be upgraded before the next one is emptied, in an order
        in which hardly a guest moves twice. RV(plan) is the plan of the first wave. Make a new plan before each wave.
        One of O(hosts) that is closed takes guests only once it is upgraded.
    type: str
    required: true
    choices: [drain, evacuate, rebalance, restore, upgrade]
  hosts:
    description:
      - The hosts to empty, to upgrade, or to bring guests home to, by their names in the inventory.
      - Of a rebalance, the hosts that give and take guests. None means all.
      - Every other goal needs at least one.
    type: list
    elements: str
    default: []
  snapshots:
    description:
      - A snapshot of every host that may play a part, as RV(kvmops.cluster.host_info#module:snapshot) returns it.
      - Either a list, or a dictionary of hosts to snapshots.
      - A host that is cordoned or in maintenance is never a destination.
      - Required unless O(cluster) is given.
    type: raw
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
        source's libvirtd reaches that host's, C(migration_address), the address that guest memory is sent to, and
        C(bandwidth_mib_s), what its link gives, in MiB per second. Of a path, the slower end counts.
      - C(link) names a link that the host shares with others, such as the uplink of its rack.
    type: dict
    default: {}
  intent:
    description:
      - What the operator wants of every move, for example C(max_downtime_ms) of V(200) and C(allow_postcopy).
      - A guest's own intent, from its metadata, wins, but no guest can permit what is set to V(false) here.
      - The words are V(max_downtime_ms), V(max_slowdown_pct), V(deadline_s), V(allow_postcopy), V(allow_suspend),
        V(allow_shutdown), V(allow_storage_copy), V(bandwidth_mib_s), V(bandwidth_floor_mib_s) and
        V(encryption).
      - V(allow_shutdown) changes no plan. Who may be shut down while a host is upgraded is found from what stays, with
        P(kvmops.cluster.upgrade_consent#filter).
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
  vcpu_ratio:
    description: How many virtual CPUs may be promised for each physical one of a destination. By default any number.
    type: float
  may_downgrade:
    description: Whether guests may go to hosts with an older QEMU (by major and minor version).
    type: bool
    default: false
  spare:
    description:
      - Whether any one open host may fail after the plan and the others have room for its guests.
      - With V(warn), RV(remarks) says if that is not so. With V(require), no guest moves then; a rebalance makes no
        move that breaks it, and guests whose return would break it stay away from home.
      - With O(goal=upgrade) it is looked at while the hosts of each wave are away. So one more host may fail then. With
        V(require), fewer hosts than O(at_once) are away where that helps, and there is no plan where nothing does.
    type: str
    choices: ['off', warn, require]
    default: 'off'
  may_move_others:
    description: With O(goal=drain) and O(goal=evacuate), whether guests of other hosts may move to make room.
    type: bool
    default: true
  window_s:
    description:
      - The maintenance window in seconds. The plan then says whether it fits, which guests to leave out so that it
        does, or why it does not.
      - Nothing is left out by itself.
    type: float
  slots:
    description:
      - How many moves run at once from one C(source) and to one C(destination), by default V(1) each. Give
        C(source) what O(kvmops.cluster.plan_apply#module:window) will be.
      - C(link) is how many may cross a link that several hosts share, which O(connect) names as C(link).
      - Moves at once share what they go over. Each is forecast with its share of what one alone would have, and the
        times of the plan and the verdict on O(window_s) keep to that.
    type: dict
    default: {}
  solver:
    description:
      - With V(auto), tight drains for which the searches find no place are handed to the exact solver of the Python
        library ortools, if the controller has it. None is needed.
    type: str
    choices: [auto, none]
    default: auto
  at_once:
    description: How many hosts may be away at the same time during an upgrade, where there is room for their guests.
    type: int
    default: 1
  rules:
    description:
      - When and how far to rebalance. C(act_above) is a score that is left alone (V(0)), C(least_improvement) the share
        by which the score must get lower (V(0.05)), C(most_moves) and C(most_mib) how much may move (no limit),
        C(least_rate) what a move must gain for each second or MiB it costs (V(0)), and C(least_share) what it must gain
        of its two hosts' part of the score (V(0.01)).
    type: dict
    default: {}
  weights:
    description:
      - What counts how much in the score of a rebalance, C(memory) (V(1)), C(cpu) (V(1)), C(pressure) (V(1)) and
        C(count) of guests (V(0.1)).
    type: dict
    default: {}
  resting:
    description: UUIDs of guests that moved a short while ago. A rebalance leaves them where they are.
    type: list
    elements: str
    default: []
  left:
    description:
      - Guests that left O(hosts) earlier. UUIDs, rows of a report (C(guests)), steps of a plan, or step results.
      - Only for O(goal=restore).
    type: list
    elements: raw
    default: []
  working_sets:
    description:
      - What the guests do to their memory, as RV(kvmops.cluster.working_set_info#module:working_sets) of all sources,
        in one list. Of several documents of one guest the newest counts.
      - With it or with O(calibration), even if they are empty, the plan says of each step how the guest is moved, why
        so, and what that will cost. A guest whose intent no way of moving it can keep then stays, with what would
        permit it.
      - A guest that is not in the list is forecast from its size alone, and the plan says so.
    type: list
    elements: dict
  calibration:
    description:
      - What finished moves have taught, a dictionary of sources to what
        RV(kvmops.cluster.working_set_info#module:calibration) is on each.
    type: dict
  tune_network:
    description: Whether O(kvmops.cluster.plan_apply#module:tune_network) will be permitted, which shortens downtimes.
    type: bool
    default: false
  cluster:
    description:
      - A file that O(cluster_dest) wrote, to plan without the cluster. Takes the place of O(snapshots), O(paths),
        O(connect), O(working_sets) and O(calibration).
      - What was asked for then is in the file as C(asked). State it again.
    type: path
  cluster_dest:
    description:
      - A file on the controller to write the cluster to, with all that the plan is made from (C(kvmops.cluster/1)).
        It is written even if no plan can be made. Its directory must exist.
      - It tells names, addresses and devices of hosts and guests. It has no passwords and nothing out of guests.
    type: path
  dest:
    description: A file on the controller to write the plan to. Its directory must exist.
    type: path
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
attributes:
  async:
    description: Supports the C(async) keyword.
    support: none
  check_mode:
    description: Makes the plan all the same, and does not write O(dest) and O(cluster_dest).
    support: full
  diff_mode:
    description: Shows how O(dest) and O(cluster_dest) change.
    support: full
seealso:
  - module: kvmops.cluster.host_info
  - module: kvmops.cluster.migration_path_info
  - module: kvmops.cluster.working_set_info
  - module: kvmops.cluster.plan_apply
  - plugin: kvmops.cluster.plan_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Take a snapshot of every host
  kvmops.cluster.host_info:
    name: "{{ inventory_hostname }}"
  register: seen

- name: Measure what the guests of h1 do
  kvmops.cluster.working_set_info:
    name: h1
    bandwidth_mib_s: 1100
  run_once: true
  delegate_to: h1
  register: measured

- name: Plan how to empty h1
  kvmops.cluster.migration_plan:
    goal: drain
    hosts: [h1]
    snapshots: "{{ ansible_play_hosts | map('extract', hostvars, ['seen', 'snapshot']) }}"
    connect:
      h1: {connect_uri: qemu+ssh://root@h1/system, migration_address: 198.18.0.11, bandwidth_mib_s: 1100}
      h2: {connect_uri: qemu+ssh://root@h2/system, migration_address: 198.18.0.12, bandwidth_mib_s: 1100}
    working_sets: "{{ measured.working_sets }}"
    calibration: {h1: "{{ measured.calibration }}"}
    intent:
      max_downtime_ms: 200
      allow_postcopy: true
    exclude: domains[?metadata.tier=='pinned']
    dest: "{{ playbook_dir }}/drain-h1.json"
  run_once: true
  register: drain

- name: Plan a cluster that was saved elsewhere
  kvmops.cluster.migration_plan:
    goal: drain
    hosts: [h1]
    cluster: misbehaved.json
  register: again

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
        strategy: pre-copy
        forecast:
          schema: kvmops.choice/1
          method: pre-copy
          verdict: converges
          total_s: {value: 4.1, low: 3.9, high: 4.4}
          downtime_ms: {value: 85, low: 80, high: 96}
    stays: []
    expected:
      seconds: 4.1
      bytes: 88500000
      fits_window: true
      verdict: fits
      bound_s: 4.1
      steps:
        s001: {start_s: 0.0, end_s: 4.1}
table:
  description: The plan as lines of text, for people.
  returned: success
  type: list
  elements: str
  sample: ["Plan drain-h1-20261124T020000Z-3f9a: 1 guest (512 MiB) leaves h1"]
remarks:
  description:
    - What concerns the plan as a whole, for example C(balanced), C(in_motion), C(n_plus_one) or C(does_not_fit). The
      same as RV(plan).remarks.
  returned: success
  type: list
  elements: dict
  sample:
    - code: balanced
      reason: the score is 0.0312, and no allowed move improves it enough
      remedy: there is nothing to do; to do more, lower act_above or least_improvement
figures:
  description:
    - What else a goal has to tell. Of a rebalance C(score_before), C(score_after), C(guests) and C(bytes); of an
      upgrade C(moves), C(guests), C(moves_per_guest) and the C(seconds) of all moves; of a drain the C(extra_bytes)
      of those that make room, and whether less is impossible (C(extra_is_least)). The same as RV(plan).figures.
  returned: success
  type: dict
  sample: {score_before: 0.4211, score_after: 0.0871, guests: 4, bytes: 2147483648}
waves:
  description:
    - The waves of a rolling upgrade in order. Each has C(hosts), the C(plan) that empties them, and the C(seconds)
      which that takes.
    - A later wave's plan starts where the waves before it left the guests, with their hosts upgraded.
  returned: when O(goal=upgrade)
  type: list
  elements: dict
blocked:
  description: Those of the plan's C(stays) that the operator did not ask for with O(exclude).
  returned: success
  type: list
  elements: dict
  sample: []
cluster_dest:
  description: The file with the cluster.
  returned: when O(cluster_dest) is given
  type: str
  sample: /home/alice/misbehaved.json
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
