#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_health_info
short_description: Tell what works on a hypervisor, and compare it with what worked before
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Returns the versions of a host, and its active storage pools, active networks and mounts of shared storage.
  - Compares them with O(expected). Fails if something is missing, or if a version is older than before. This is the
    health gate of the role P(kvmops.cluster.rolling_upgrade#role).
options:
  expected:
    description:
      - An earlier RV(health). The module does not fail because of something new.
    type: dict
    default: {}
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.info_module
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
"""

EXAMPLES = r"""
- name: Remember what works
  kvmops.cluster.host_health_info:
  register: before

- name: Reboot
  ansible.builtin.reboot:

- name: Wait until it works again
  kvmops.cluster.host_health_info:
    expected: "{{ before.health }}"
  register: after
  until: after is succeeded
  retries: 60
  delay: 5
"""

RETURN = r"""
health:
  description: What works now.
  returned: always, unless libvirt does not answer
  type: dict
  contains:
    libvirt:
      description: The version of libvirt.
      returned: always
      type: str
      sample: 11.3.0
    qemu:
      description: The version of QEMU.
      returned: always
      type: str
      sample: 11.1.3
    pools:
      description: Names of the active storage pools.
      returned: always
      type: list
      elements: str
      sample: [images]
    networks:
      description: Names of the active networks of libvirt.
      returned: always
      type: list
      elements: str
      sample: [default]
    mounts:
      description: Where shared storage is mounted.
      returned: always
      type: list
      elements: str
      sample: [/shared]
refusal:
  description: What is missing, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
  sample:
    code: not_healthy
    reason: on h1, the storage pool images is not active
    remedy: see systemctl --failed and virsh pool-list --all there
"""

import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_verdict import lost_features
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    fail,
    host_name,
    local_uri,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.health import health


def main() -> None:
    module = AnsibleModule(
        argument_spec={**CONNECTION_ARGUMENTS, "expected": {"type": "dict", "default": {}}}, supports_check_mode=True
    )
    name = host_name(module)

    def body() -> dict[str, t.Any]:
        with connected(local_uri(module), read_only=True) as connection:
            taken = host.snapshot(connection, name=name, state_dir=Path(module.params["state_dir"]))
            now = health(connection, taken)
        missing = lost_features(module.params["expected"], now)
        if missing:
            remedy = "see systemctl --failed, virsh pool-list --all and virsh net-list --all there"
            fail(module, refusal("not_healthy", f"on {name}, {', '.join(missing)}", remedy), health=now)
        return {"changed": False, "health": now}

    run(module, body)


if __name__ == "__main__":
    main()
