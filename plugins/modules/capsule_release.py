#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_release
short_description: Let a host forget a guest that runs elsewhere from a capsule
version_added: 0.1.0
description:
  - Removes the definition of a guest that M(kvmops.cluster.capsule_save) has stopped on this host, once it provably
    runs on another host. Its capsules, with all images, stay.
  - A guest that runs, that something else has stopped, or that has written to its disks since, is left as it is.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guest:
    description: Name or UUID of the guest.
    type: str
    required: true
  started:
    description: The result of M(kvmops.cluster.capsule_start) on the other host.
    type: dict
  snapshots:
    description: Snapshots of hosts, by name, as M(kvmops.cluster.cluster_view) returns them.
    type: dict
    default: {}
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
  - kvmops.cluster.capsule_dir
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: kvmops.cluster.capsule_start
"""

EXAMPLES = r"""
- name: Let its old host forget the guest
  kvmops.cluster.capsule_release:
    guest: db1
    started: "{{ started }}"
  delegate_to: h1
"""

RETURN = r"""
guest:
  description: Name and UUID of the guest; null if there is none of that name.
  returned: success
  type: dict
removed:
  description: Files that were removed. They are layers that nobody has written to.
  returned: success
  type: list
  elements: str
refusal:
  description: Why it stays, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.releasing import (
    ReleaseRequest,
    release,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    local_uri,
    run,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            "guest": {"type": "str", "required": True},
            "started": {"type": "dict"},
            "snapshots": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    given = module.params

    def body() -> dict[str, t.Any]:
        request = ReleaseRequest(
            guest=given["guest"],
            host=host_name(module),
            started=given["started"],
            snapshots=list(given["snapshots"].values()),
            check=module.check_mode,
        )
        with connected(local_uri(module), read_only=module.check_mode) as connection:
            return release(connection, CapsuleStore(given["capsule_dir"]), request)

    run(module, body)


if __name__ == "__main__":
    main()
