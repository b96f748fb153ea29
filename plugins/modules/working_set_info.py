#!/usr/bin/python

# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: working_set_info
short_description: Measure the writable working sets of a host's guests
version_added: 0.1.0
description:
  - Measures for each guest how much memory it has touched, and how many different bytes it dirties in windows of
    several lengths. From this comes the forecast of its migration.
  - Samples pages of all guests of the host at once. No guest notices. Guests whose forecast depends on it are measured
    more precisely, within O(budget_s).
  - Also reads a sample of each guest's memory, to see whether it compresses, and whether whole pages change or only
    some bytes of them.
  - A guest that is being migrated is not measured.
  - Keeps the last measurements on the host, and says if a guest behaves unusually.
options:
  guests:
    description:
      - Names of the guests to measure. By default all that run.
    type: list
    elements: str
  budget_s:
    description:
      - Seconds for the whole host, for all its guests together. A host with many guests needs more for the same
        precision. If there is no time to read the memory of all guests, each run reads that of others.
    type: float
    default: 10
  allow_monitor:
    description:
      - Permit measuring through libvirt's monitor passthrough. It samples 32 times as many pages, and windows below a
        second (QEMU 8.2 or later).
      - Marks the guest as tainted until it is started again.
    type: bool
    default: false
  look_at_memory:
    description:
      - Read a sample of each guest's memory.
    type: bool
    default: true
  bandwidth_mib_s:
    description:
      - The bandwidth that a move will have, in MiB per second. Guests whose forecast is doubtful at this bandwidth are
        measured more precisely. By default that of the fastest path that moves from this host have shown.
    type: int
  since_capsule:
    description:
      - Also look how much of each guest is not as in its newest capsule on this host, for the forecast of a move to a
        host that has that capsule. That goes on beside the rest, for 0.6 of O(budget_s) at most.
    type: bool
    default: false
extends_documentation_fragment:
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
  - kvmops.cluster.capsule_dir
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
attributes:
  check_mode:
    support: full
    details:
      - In check mode nothing is measured, since libvirt counts that as a change. The last measurements are returned,
        read over a read-only connection.
  diff_mode:
    support: N/A
    details:
      - This module does not modify state.
  idempotent:
    support: full
    details:
      - Measures anew each time, and changes no guest.
author:
  - kvmops.cluster contributors (@kvmops)
seealso:
  - module: kvmops.cluster.host_info
  - module: kvmops.cluster.migration_plan
"""

EXAMPLES = r"""
- name: Measure all guests of this host
  kvmops.cluster.working_set_info:
    name: "{{ inventory_hostname }}"
  register: measured

- name: Say what each guest does
  ansible.builtin.debug:
    msg: "{{ item.guest.name }} {{ item.sentence }}"
  loop: "{{ measured.working_sets }}"
  loop_control:
    label: "{{ item.guest.name }}"
"""

RETURN = r"""
working_sets:
  description: One document (schema V(kvmops.working_set/1)) for each guest that runs.
  returned: success
  type: list
  elements: dict
  contains:
    guest:
      description: Name and UUID.
      type: dict
      returned: always
    touched_bytes:
      description: Memory that the first pass of a migration has to send.
      type: int
      returned: always
    points:
      description: Unique bytes dirtied in windows of several lengths, each with its sampling error.
      type: list
      elements: dict
      returned: always
    fit:
      description: The hot set, how fast it fills, and the rate at which cold memory is dirtied beyond it.
      type: dict
      returned: always
    sentence:
      description: The same in words.
      type: str
      returned: always
      sample: rewrites 64 MiB within 0.8 s, 2 MiB/s beyond
    unusual:
      description: How it differs from what the guest did before.
      type: str
      returned: always
refusals:
  description: Guests that could not be measured, with the reason and a remedy.
  returned: success
  type: list
  elements: dict
changes:
  description:
    - With O(since_capsule), for each guest with a capsule on this host how much of it has changed since. Empty in check
      mode.
  returned: success
  type: list
  elements: dict
  contains:
    guest:
      description: Name and UUID.
      type: dict
      returned: always
    number:
      description: Of the capsule.
      type: int
      returned: always
    digest:
      description: Of the capsule.
      type: str
      returned: always
    memory:
      description: C(changed_bytes), C(compressed_share), C(sampled_bytes) and C(error), one relative standard deviation
        of the first. Null if that cannot be told.
      type: dict
      returned: always
    disks:
      description: The same of each disk, by its target, and C(unflushed_seen), whether that includes what the guest has
        written and not flushed. A disk of which it cannot be told is left out.
      type: dict
      returned: always
calibration:
  description: What finished moves taught about guests (by UUID) and paths (by host) from here.
  returned: success
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CAPSULE_DIR_ARGUMENT
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import working_sets


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            "guests": {"type": "list", "elements": "str"},
            "budget_s": {"type": "float", "default": 10},
            "allow_monitor": {"type": "bool", "default": False},
            "look_at_memory": {"type": "bool", "default": True},
            "bandwidth_mib_s": {"type": "int"},
            "since_capsule": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    run(module, lambda: _body(module))


def _body(module: AnsibleModule) -> dict[str, t.Any]:
    request = working_sets.Request(
        uri=module.params["uri"],
        host=host_name(module),
        state_dir=module.params["state_dir"],
        guests=module.params["guests"],
        budget_s=module.params["budget_s"],
        allow_monitor=module.params["allow_monitor"],
        sample_memory=module.params["look_at_memory"],
        bandwidth_bytes_per_s=(module.params["bandwidth_mib_s"] or 0) * 1024 * 1024,
        capsule_dir=module.params["capsule_dir"] if module.params["since_capsule"] else None,
    )
    found = working_sets.last_measured(request) if module.check_mode else working_sets.measure(request, utc_now)
    return {"changed": False, **found}


if __name__ == "__main__":
    main()
