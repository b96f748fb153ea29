#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_maintenance
short_description: Close a hypervisor for guests, and open it again
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Records on a hypervisor whether guests may come to it, and who closed it, why, and since when.
  - A host that is not V(active) is never the destination of a move. Every source asks the destination before it sends a
    guest.
  - The record is a file on the host. The local fact C(ansible_local.kvmops) shows it, and the libvirtd of the host
    publishes it.
  - The module moves no guests. The role P(kvmops.cluster.drain_host#role) does that.
options:
  state:
    description:
      - With V(cordoned), no guest comes to the host any more. The guests that run there keep running. If the owner has
        the host in maintenance and it is still empty, it stays in maintenance, because it is cordoned already.
      - With V(maintenance), the module cordons the host, and then proves that it is empty. It refuses this while a
        guest runs there, and then changes nothing. A source that asked the host while it was open may still send a
        guest for a few seconds. So cordon the host first if moves are in progress.
      - Guests that are shut off on a host in V(maintenance) do not start when it boots, even if they have autostart.
        The record names them.
      - With V(active), the host is open for guests. Guests that had autostart have it again, if the host still has
        their definition.
    type: str
    choices:
      - active
      - cordoned
      - maintenance
    required: true
  owner:
    description:
      - Who closes or opens the host, for example C(alice@admin1).
      - Required unless O(state=active). It is needed there too if the record of the host has an owner.
    type: str
  reason:
    description:
      - Why the host is closed. By default the reason that the same owner gave before.
    type: str
  force:
    description:
      - Take over a host that someone else closed. Also replace a damaged record, whatever is in its place. A folder
        there is not removed but gets another name (C(maintenance.json.aside-1)).
    type: bool
    default: false
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
    details:
      - In check mode the module opens read-only connections only.
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Let no more guests come to this host
  kvmops.cluster.host_maintenance:
    state: cordoned
    owner: alice@admin1
    reason: DIMM swap, ticket 4711

- name: Open it again
  kvmops.cluster.host_maintenance:
    state: active
    owner: alice@admin1

- name: Show which hosts are closed, from the local facts
  ansible.builtin.debug:
    msg: "{{ ansible_facts.ansible_local.kvmops.state }}: {{ ansible_facts.ansible_local.kvmops.reason }}"
  when: ansible_facts.ansible_local.kvmops is defined
"""

RETURN = r"""
maintenance:
  description: The record, as the document C(kvmops.maintenance/1).
  returned: success
  type: dict
  contains:
    schema:
      description: Name and version of this document.
      returned: success
      type: str
      sample: kvmops.maintenance/1
    state:
      description: The state of the host.
      returned: success
      type: str
      sample: cordoned
    owner:
      description: Who closed it; V(null) while it is V(active).
      returned: success
      type: str
      sample: alice@admin1
    reason:
      description: Why it is closed.
      returned: success
      type: str
      sample: DIMM swap, ticket 4711
    since:
      description: When its owner closed it, in UTC.
      returned: success
      type: str
      sample: '2026-11-24T02:00:00Z'
    autostart:
      description:
        - Guests that are shut off on the host and start with it (autostart), each with C(name) and C(uuid). They do not
          while it is in maintenance, and do again when it is opened.
      returned: when there are such guests
      type: list
      elements: dict
previous:
  description: The record before the module ran.
  returned: success
  type: dict
refusal:
  description: Why the module refused, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
  sample:
    code: maintenance_of_other
    reason: 'h1 is cordoned by alice@admin1 since 2026-11-24T02:00:00Z (DIMM swap, ticket 4711)'
    remedy: ask alice@admin1, or take it over with force=true
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.run.maintenance import STATES, MaintenanceRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    local_uri,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import maintenance_record


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "state": {"type": "str", "choices": list(STATES), "required": True},
            "owner": {"type": "str"},
            "reason": {"type": "str"},
            "force": {"type": "bool", "default": False},
        },
        required_if=[("state", "cordoned", ["owner"]), ("state", "maintenance", ["owner"])],
        supports_check_mode=True,
    )
    request = MaintenanceRequest(
        host_name(module), *(module.params[key] for key in ("state", "owner", "reason", "force"))
    )

    def body() -> dict[str, t.Any]:
        with connected(local_uri(module), read_only=module.check_mode) as connection:
            outcome = maintenance_record.apply(
                connection, request, Path(module.params["state_dir"]), check_mode=module.check_mode
            )
        for warning in outcome.warnings:
            module.warn(visible(warning))
        result: dict[str, t.Any] = {
            "changed": outcome.changed,
            "maintenance": outcome.after,
            "previous": outcome.before,
        }
        if module._diff:
            result["diff"] = {"before": outcome.before, "after": outcome.after}
        return result

    run(module, body)


if __name__ == "__main__":
    main()
