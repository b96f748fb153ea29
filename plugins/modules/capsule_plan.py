#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_plan
short_description: Choose how each guest gets to hosts at the end of a thin link
version_added: 0.1.0
description:
  - Chooses for each guest one of four modes. V(live) migrates the guest with its disks. V(lazy) migrates the guest, and
    its disks follow. V(suspended) saves the guest, sends what the far end lacks, and starts it there. V(carry) is for a
    disk that somebody carries there.
  - For each mode it predicts how many bytes are sent, how many seconds pass until the guest runs and until it is of
    use, and how long the guest stands still. Each figure has a band. It also says what need not be sent, and why.
  - It chooses the mode that is of use first, of those that the intent permits. If no mode is possible, it says why, and
    what to do.
  - The module changes no host. Run it with C(run_once).
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guests:
    description:
      - The guests. A list of names or UUIDs, or a JMESPath expression, which is applied to each snapshot and returns
        domains or names of domains. By default all guests of O(sources).
    type: raw
  sources:
    description: The hosts that the guests leave. By default all hosts of O(snapshots) that are not in O(destinations).
    type: list
    elements: str
    default: []
  destinations:
    description:
      - The hosts at the far end. If there are several, a guest goes to the one that has the newest capsule of it, and
        otherwise to the one with most free memory.
    type: list
    elements: str
    required: true
  snapshots:
    description:
      - A snapshot of every host of both ends, as RV(kvmops.cluster.host_info#module:snapshot) returns it.
      - A list, or a dictionary of hosts to snapshots.
    type: raw
    required: true
  working_sets:
    description:
      - What the guests do to their memory, as RV(kvmops.cluster.measurement_view#module:working_sets) returns it.
      - For a guest without a measurement, the prediction uses what its balloon tells. It is less exact then.
    type: list
    elements: dict
    default: []
  changes:
    description:
      - How much of each guest has changed since its newest capsule, as
        RV(kvmops.cluster.measurement_view#module:changes) returns it. Without it, that is reckoned from what guests
        write and from the age of the capsule.
    type: list
    elements: dict
    default: []
  calibration:
    description:
      - What finished moves taught each host, as RV(kvmops.cluster.measurement_view#module:calibration) returns it.
    type: dict
    default: {}
  capsules:
    description:
      - What the store of each host has. A dictionary of hosts to what M(kvmops.cluster.capsule_info) returned there.
      - From this the plan knows which base and which capsule both ends have. Without it, everything is sent.
    type: dict
    default: {}
  connect:
    description: How hosts reach each other, as RV(kvmops.cluster.cluster_view#module:connect) returns it.
    type: dict
    default: {}
  rate:
    description:
      - What the link to the far end carries, such as V(384kbit), V(20mbit) or V(1gbit).
      - By default what earlier moves measured, or C(kvmops_cluster_bandwidth_mib_s) of the inventory.
    type: str
  delay_ms:
    description:
      - How long a packet takes to the far end, in milliseconds. It is half of what C(ping) shows.
    type: float
  fill_rate:
    description: The rate at which disks follow a guest that already runs. By default all that the link carries.
    type: str
  intent:
    description:
      - What a move may cost a guest, in the form of O(kvmops.cluster.migration_plan#module:intent).
      - C(allow_suspend) permits V(suspended) and V(carry). C(allow_storage_copy) permits V(live) and V(lazy) for guests
        with disks that are not shared. C(deadline_s) counts until the guest is of use.
    type: dict
    default: {}
  modes:
    description: The modes that may be chosen. By default all.
    type: list
    elements: str
    choices: [live, lazy, suspended, carry]
    default: []
  carry_s:
    description:
      - How many seconds it takes to carry a disk to the far end. Writing and reading it is added.
      - Without it, V(carry) is not possible.
    type: float
  reserve_mib:
    description: Memory that must stay free on every destination, in MiB.
    type: int
    default: 256
  overheads:
    description:
      - What a move takes beside sending, where it is known better than by default.
      - C(save_s) and C(restore_s) are for saving and starting a guest, C(connect_s) for the start of a transfer,
        C(tasks_s) for the tasks before the guest stops, C(lazy_setup_s) for the export of a disk, all in seconds.
        C(round_trips) is how often a transfer waits for the far end before it sends, C(asks) how often while the guest
        is stopped. C(memory_bytes_per_s) is the speed at which memory is saved and read, C(balloon_bytes_per_s) that at
        which a balloon takes memory and gives it back.
    type: dict
    default: {}
extends_documentation_fragment:
  - kvmops.cluster.attributes.controller
attributes:
  check_mode:
    description: Does the same, because it changes nothing.
    support: full
  diff_mode:
    description: Shows no difference.
    support: none
seealso:
  - module: kvmops.cluster.capsule_info
  - plugin: kvmops.cluster.capsule_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Choose how the guests of h1 get to the other site
  run_once: true
  kvmops.cluster.capsule_plan:
    sources: [h1]
    destinations: [h3, h4]
    snapshots: "{{ view.snapshots }}"
    connect: "{{ view.connect }}"
    working_sets: "{{ measurements.working_sets }}"
    capsules: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'stored'))) }}"
    rate: 20mbit
    delay_ms: 40
    intent:
      allow_suspend: true
      allow_storage_copy: true
  register: chosen

- name: Show what it costs
  run_once: true
  kvmops.cluster.show_lines:
    lines: "{{ chosen.choices | kvmops.cluster.capsule_table }}"
"""

RETURN = r"""
choices:
  description:
    - The choice for each guest, a document C(kvmops.capsule_choice/1) with C(source) and C(destination).
    - C(newest) is the last capsule that was made on the source, C(seed) the last one that both ends have in full. Each
      has C(number) and C(age_s), and is null where there is none.
    - C(mode) is null if the guest cannot get there. C(refusal) says why, and what to do.
  returned: success
  type: list
  elements: dict
arrived:
  description:
    - Guests that a host at the far end runs already, while a source still has their definition. Each has C(guest),
      C(source) and C(destination). They are in no choice.
  returned: success
  type: list
  elements: dict
there:
  description:
    - Guests that O(guests) names, and that only a host at the far end has, as an earlier run has moved them. Each has
      C(guest), C(destination) and C(state). They are in no choice.
  returned: success
  type: list
  elements: dict
ahead:
  description:
    - The choices of guests that are sent to the far end while they run, before they are moved. A choice is there as
      often as its guest is to be sent.
  returned: success
  type: list
  elements: dict
seconds:
  description: How long all guests take, one after the other, until their disks are there.
  returned: success
  type: float
  sample: 812.4
refusals:
  description: The guests that cannot get there, each with C(guest), C(code), C(reason) and C(remedy).
  returned: success
  type: list
  elements: dict
summary:
  description: All of it in one line.
  returned: success
  type: str
  sample: 2 of 2 guests can go (1 lazy, 1 suspended), 143 MiB to send
refusal:
  description: Why there is no choice at all, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""
