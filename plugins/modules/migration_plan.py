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
  - Makes a plan from snapshots of all hosts. The plan empties hosts, rebalances them, empties them for a rolling
    upgrade, or moves guests back home. M(kvmops.cluster.plan_apply) carries it out.
  - The plan is a document that you can review. For each guest that moves it says where the guest goes, when, and why.
    For each guest that stays it says why, and what to do about it. It also says how long all moves take, and whether
    they fit into the maintenance window.
  - The module changes no host.
  - Memory, groups and all other constraints hold after each step, too. A step that needs the memory of another guest
    waits until that guest has left.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  goal:
    description:
      - With V(drain) or V(evacuate), every active guest of O(hosts) moves to a host that is not one of O(hosts). Both
        values give the same plan.
      - With V(rebalance), guests move until memory, CPU and pressure are about equal on all hosts.
      - With V(restore), guests return to one of O(hosts) if their metadata names it as their home. Guests in O(left)
        return too, unless their metadata names another home.
      - With V(upgrade), O(hosts) are emptied in waves. Each wave is upgraded before the next one is emptied. The order
        is chosen so that few guests move twice. RV(plan) is the plan of the first wave. Make a new plan before each
        wave. If one of O(hosts) is closed, it takes guests only after its upgrade.
    type: str
    required: true
    choices: [drain, evacuate, rebalance, restore, upgrade]
  hosts:
    description:
      - The hosts to empty, to upgrade, or to which guests return, by their names in the inventory.
      - With O(goal=rebalance), the hosts that give and take guests. An empty list means all hosts.
      - Every other goal needs at least one host.
    type: list
    elements: str
    default: []
  snapshots:
    description:
      - A snapshot of every host that the plan may use, as RV(kvmops.cluster.host_info#module:snapshot) returns it.
      - A list, or a dictionary of hosts to snapshots.
      - A host that is cordoned or in maintenance is never a destination.
      - Required unless O(cluster) is given.
    type: raw
  paths:
    description:
      - The results of the path checks, as M(kvmops.cluster.migration_path_info) returns them.
      - The plan does not use a path whose checks failed. It may use a path that is not in the list.
    type: list
    elements: dict
    default: []
  connect:
    description:
      - How hosts reach each other. A dictionary of hosts to dictionaries.
      - C(connect_uri) is the URI at which the libvirtd of a source reaches the libvirtd of this host.
      - C(migration_address) is the address to which guests are sent.
      - C(bandwidth_mib_s) is the bandwidth of the host's link, in MiB per second. On a path, the slower end counts.
      - C(link) names a link that the host shares with others, such as the uplink of its rack.
    type: dict
    default: {}
  intent:
    description:
      - What a move may cost a guest, for example C(max_downtime_ms) of V(200) and C(allow_postcopy).
      - A guest's own intent, from its metadata, can only be stricter. Only C(allow_shutdown) is the guest's to give.
      - The keys are V(max_downtime_ms), V(max_slowdown_pct), V(deadline_s), V(allow_postcopy), V(allow_suspend),
        V(allow_shutdown), V(allow_storage_copy), V(allow_managed), V(bandwidth_mib_s), V(bandwidth_floor_mib_s),
        V(encryption) and V(disks).
      - V(allow_shutdown) changes no plan. P(kvmops.cluster.upgrade_consent#filter) uses it to find the guests that may
        be shut down while their host is upgraded.
    type: dict
    default: {}
  exclude:
    description:
      - Guests that stay where they are.
      - A list of names or UUIDs, or a JMESPath expression. The expression is applied to each snapshot, and returns
        domains or names of domains. It needs the Python library jmespath on the controller.
      - A string may also be the name of one guest, if it finds nothing as an expression. Names in a list are never
        evaluated, so give a guest whose name looks like an expression in a list.
    type: raw
  placement_rules:
    description:
      - On which hosts guests may run, beside what their own metadata says (C(only_on), C(not_on)).
      - Each rule has C(guests), in the form of O(exclude), and C(only_on) or C(not_on) or both, with names of hosts.
      - A guest that is on another host already is not moved for that.
    type: list
    elements: dict
    default: []
  reserve_mib:
    description: Memory that must stay free on every destination, in MiB.
    type: int
    default: 256
  vcpu_ratio:
    description: The most virtual CPUs for each physical CPU of a destination. No limit by default.
    type: float
  may_downgrade:
    description: Whether guests may go to hosts with an older QEMU (by major and minor version).
    type: bool
    default: false
  spare:
    description:
      - Check for N+1. After the plan, any one open host may fail, and the others have room for its guests.
      - With V(warn), RV(remarks) says if this is not so.
      - With V(require), no guest moves if this is not so. A rebalance makes no move that breaks N+1. A guest does not
        return home if its return breaks N+1.
      - With O(goal=upgrade), the check is made for the time in which the hosts of a wave are away. So one more host may
        fail then. With V(require), a wave has fewer hosts than O(at_once) if that helps. If nothing helps, there is no
        plan.
    type: str
    choices: ['off', warn, require]
    default: 'off'
  may_move_others:
    description: With O(goal=drain) and O(goal=evacuate), whether guests of other hosts may move to make room.
    type: bool
    default: true
  window_s:
    description:
      - The maintenance window in seconds. The plan then says whether it fits. If it does not fit, the plan says why,
        and which guests you can leave out so that it fits.
      - The plan itself leaves no guest out.
    type: float
  slots:
    description:
      - How many moves run at once from one C(source) and to one C(destination), by default V(1) each. Set C(source) to
        the value of O(kvmops.cluster.plan_apply#module:window).
      - C(link) is how many moves may use a shared link at once. O(connect) names the shared links.
      - Moves that run at once share the bandwidth. Each forecast uses the share of its move. So do the times of the
        plan, and the answer whether it fits into O(window_s).
    type: dict
    default: {}
  solver:
    description:
      - With V(auto), the exact solver of the Python library ortools is used when the searches find no placement for a
        tight drain, if the controller has that library. The library is optional.
    type: str
    choices: [auto, none]
    default: auto
  at_once:
    description: The most hosts in one wave of an upgrade. A wave has fewer hosts if there is no room for their guests.
    type: int
    default: 1
  rules:
    description:
      - When to rebalance, and how far. The defaults are in parentheses.
      - C(act_above) is the score up to which nothing is done (V(0)). C(least_improvement) is the share by which all
        moves together must lower the score (V(0.05)).
      - C(most_moves) and C(most_mib) limit how much may move (no limit).
      - C(least_rate) is what a move must gain for each second or MiB that it costs (V(0)). C(least_share) is what it
        must gain of the part that its two hosts have in the score (V(0.01)).
    type: dict
    default: {}
  weights:
    description:
      - The weights in the score of a rebalance. C(memory) (V(1)), C(cpu) (V(1)), C(pressure) (V(1)) and C(count), the
        number of guests (V(0.1)).
    type: dict
    default: {}
  resting:
    description: UUIDs of guests that moved a short time ago. A rebalance does not move them again.
    type: list
    elements: str
    default: []
  left:
    description:
      - Guests that left O(hosts) earlier. Each entry is a UUID, a row of a report (C(guests)), a step of a plan, or a
        step result.
      - Only for O(goal=restore).
    type: list
    elements: raw
    default: []
  working_sets:
    description:
      - The working sets of the guests. The RV(kvmops.cluster.working_set_info#module:working_sets) of all sources, in
        one list. If a guest is in it several times, the newest document counts.
      - With this option or O(calibration), even if empty, the plan names for each step the method, the reason for it,
        and a forecast. A guest stays if no method keeps its intent, and the plan says what would permit its move.
      - The forecast of a guest that is not in the list uses only its size. The plan says so.
    type: list
    elements: dict
  calibration:
    description:
      - What finished moves have taught. A dictionary of sources to the
        RV(kvmops.cluster.working_set_info#module:calibration) of each.
    type: dict
  tune_network:
    description:
      - Whether M(kvmops.cluster.plan_apply) will run with O(kvmops.cluster.plan_apply#module:tune_network). Forecasts
        of the downtime are shorter then.
    type: bool
    default: false
  cluster:
    description:
      - A file that O(cluster_dest) wrote. With it you can plan without the hosts. It replaces O(snapshots), O(paths),
        O(connect), O(working_sets) and O(calibration).
      - The options of that time are in the file as C(asked). They are not used. State them again.
    type: path
  cluster_dest:
    description:
      - A file on the controller. The module writes to it all that the plan is made from (C(kvmops.cluster/1)), even if
        no plan can be made. The directory must exist.
      - The file has names, addresses and devices of hosts and guests. It has no passwords and no data of the guests.
    type: path
  dest:
    description: A file on the controller. The module writes the plan to it. The directory must exist.
    type: path
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
attributes:
  async:
    description: Supports the C(async) keyword.
    support: none
  check_mode:
    description: Makes the plan, but does not write O(dest) and O(cluster_dest).
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

- name: Measure the working sets of the guests of h1
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

- name: Show the plan
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
    - Remarks on the whole plan, for example C(balanced), C(in_motion), C(n_plus_one) or C(does_not_fit). The same as
      RV(plan).remarks.
  returned: success
  type: list
  elements: dict
  sample:
    - code: balanced
      reason: the score is 0.0312, and no allowed move improves it enough
      remedy: there is nothing to do; to do more, lower act_above or least_improvement
figures:
  description:
    - Figures of the plan. They depend on the goal. The same as RV(plan).figures.
    - For a rebalance, C(score_before), C(score_after), C(guests) and C(bytes).
    - For an upgrade, C(moves), C(guests), C(moves_per_guest) and the C(seconds) of all moves.
    - For a drain, the C(extra_bytes) of the moves that make room, and whether less is impossible (C(extra_is_least)).
  returned: success
  type: dict
  sample: {score_before: 0.4211, score_after: 0.0871, guests: 4, bytes: 2147483648}
waves:
  description:
    - The waves of a rolling upgrade in their order. Each has C(hosts), the C(plan) that empties them, and the
      C(seconds) that this takes.
    - The plan of a later wave assumes that the earlier waves are done, and that their hosts are upgraded.
  returned: when O(goal=upgrade)
  type: list
  elements: dict
blocked:
  description: The entries of the plan's C(stays) without the guests in O(exclude).
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
