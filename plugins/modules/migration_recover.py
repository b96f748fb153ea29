#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_recover
short_description: Finish moves of guests that broke off
version_added: 0.1.0
description:
  - Finds the guests of this host whose moves broke off, asks all other hosts about each of them, says what is known
    from all sides, and does what is provably safe. Everything else it names, with what a person should do.
  - A post-copy that broke off is resumed from its source, after the link between both hosts was tried. It is refused,
    by name, where a release of libvirt cannot resume, or dies of it.
  - A guest that a migration has left paused goes on at its source only if a run on record sent this very QEMU to one
    destination, the guest never ran there, and no host in O(connect) has it.
  - If a guest runs at its destination, and its definition is still here, the definition is removed, and the
    destination gets what libvirt does not bring along.
  - Memory that a run that died has taken of guests by their balloons is given back, and migration limits that it has
    changed are restored.
  - While this host holds a half of a guest, it has a mark (C(split_guests.json) in O(state_dir)), which the local fact
    C(ansible_local.kvmops_split) shows. The module sets and clears it. A marked host is neither closed nor rebooted by
    the roles of this collection.
  - A guest of which one half is gone is named as lost, with what may be ended where. The module ends and removes no
    guest.
  - Is a run of its own on the host, with a journal and the host's run lock, like M(kvmops.cluster.plan_apply). While
    another run moves guests away from this host, it does nothing and says who is at work (C(busy)). It needs no lease,
    because that of a run that died would keep a split guest waiting for nothing.
author:
  - kvmops.cluster contributors (@kvmops)
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.attributes.live
  - kvmops.cluster.connection
  - kvmops.cluster.progress
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
    details:
      - Opens read-only connections only. The link is tried in check mode, too.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  connect:
    description:
      - How this host reaches each other host, by name, with C(connect_uri) and perhaps C(migration_address), as
        M(kvmops.cluster.cluster_view) returns it (C(addresses)).
      - Name all hosts that may have a part of a guest. What cannot be asked keeps a guest from being touched.
    type: dict
    required: true
  guests:
    description:
      - Names or UUIDs of the guests to look at. By default all guests of this host.
    type: list
    elements: str
    default: []
  finish:
    description:
      - With V(false), the module only looks, and brings the mark of this host up to date. It finishes nothing, and does
        not fail because of what it finds.
    type: bool
    default: true
  owner:
    description:
      - Who runs it; shown to others who find the host busy.
    type: str
    default: ansible
  keep_runs:
    description:
      - So many of the newest runs keep their records on this host. With V(0), any number.
    type: int
    default: 200
  keep_days:
    description:
      - Records of runs are removed after so many days. With V(0), at any age they stay.
    type: int
    default: 90
seealso:
  - module: kvmops.cluster.plan_apply
  - module: kvmops.cluster.domain_migrate
  - module: kvmops.cluster.run_info
"""

EXAMPLES = r"""
- name: Look at every host
  kvmops.cluster.host_info:
    name: "{{ inventory_hostname }}"
  register: seen

- name: Collect how the hosts reach each other
  run_once: true
  kvmops.cluster.cluster_view:
    snapshots_from: seen
  register: view

- name: Finish what broke off
  kvmops.cluster.migration_recover:
    name: "{{ inventory_hostname }}"
    connect: "{{ view.addresses }}"

- name: Only say what would be done about one guest
  check_mode: true
  kvmops.cluster.migration_recover:
    name: "{{ inventory_hostname }}"
    connect: "{{ view.addresses }}"
    guests: [web1]
"""

RETURN = r"""
guests:
  description: The guests whose moves broke off, one entry each. Empty if there is none.
  returned: both on success and on failure, once the host was looked at
  type: list
  elements: dict
  contains:
    guest:
      description: Name and UUID.
      type: dict
      returned: always
    source:
      description: The host it was to leave; null if nobody knows.
      type: str
      returned: always
    destination:
      description: The host it was to go to; null if nobody knows.
      type: str
      returned: always
    found:
      description:
        - What was found. V(resume) for a post-copy that can be resumed from here, V(resume_source) for a guest that a
          migration has left paused here, V(close) for one that runs at its destination and has left something here,
          V(left_to) for a post-copy that another host resumes, V(under_way), V(lost) or V(unclear).
      type: str
      returned: always
    outcome:
      description:
        - V(moved) when the guest is whole at its destination, V(goes_on) when it runs at its source, V(closed) when
          what it had left here was put right.
        - V(would_resume), V(would_go_on) and V(would_close) in check mode.
        - V(left_to), V(under_way), V(lost) and V(unclear) as found, V(refused) when nothing was tried, V(not_started)
          when the run was stopped before. With O(finish=false), all are as found.
      type: str
      returned: always
      sample: moved
    reason:
      description: Why so, in one sentence.
      type: str
      returned: always
    remedy:
      description: What a person should do; empty if nothing.
      type: str
      returned: always
    sides:
      description: What each host says of the guest, this host first.
      type: list
      elements: str
      returned: always
      sample: [paused (postcopy_failed) on h1, running (postcopy_failed) on h2, unknown on h3]
changed_back:
  description: What else runs that died had left changed here, and what became of it, in words.
  returned: both on success and on failure, once the host was looked at
  type: list
  elements: str
run:
  description: The run itself.
  returned: both on success and on failure, once the host was looked at
  type: dict
  contains:
    plan:
      description: The id that names the directory of its records on this host; null if there was nothing to do.
      type: str
      returned: always
      sample: recover-h1-20261124T020000Z-3f9a
    attached:
      description: Whether a run that was at work already was joined.
      type: bool
      returned: always
refusal:
  description: Why nothing was done, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
  sample:
    code: busy
    reason: plan drain-h1-20261124T020000Z-3f9a of alice@admin1 is being carried out here
    remedy: wait for its end
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.recovery import leaves_nothing_to_do, summary
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.recover.recovery import recover


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "connect": {"type": "dict", "required": True},
            "guests": {"type": "list", "elements": "str", "default": []},
            "finish": {"type": "bool", "default": True},
            "owner": {"type": "str", "default": "ansible"},
            "progress_path": {"type": "path"},
            "keep_runs": {"type": "int", "default": 200},
            "keep_days": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    run(module, lambda: finish(module, recover(module.params, host_name(module), check_mode=module.check_mode)))


def finish(module: AnsibleModule, document: dict[str, t.Any]) -> dict[str, t.Any]:
    """End the module with what became of each guest."""
    rows = document["guests"]
    if module._diff:
        acted = [row for row in rows if row["outcome"] in ("moved", "would_resume")]
        document["diff"] = {
            "before": {row["guest"]["name"]: row["source"] for row in acted},
            "after": {row["guest"]["name"]: row["destination"] for row in acted},
        }
    undone = [row for row in rows if not leaves_nothing_to_do(row)]
    if undone and module.params["finish"]:
        module.fail_json(msg=summary(undone), **document)
    return document


if __name__ == "__main__":
    main()
