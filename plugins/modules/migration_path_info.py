#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: migration_path_info
short_description: Prove that guests can get from this hypervisor to others
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - In a migration, the libvirtd of the source opens the connection to the destination. A connection that works for an
    operator may fail for libvirtd, which has no ssh agent, other keys and other known hosts.
  - This module runs on the source. It tries the path to each destination as libvirtd would, as root, in the environment
    of the running daemon. It tries all destinations at once, each with a time limit.
  - It proves that the connection can be made, that the destination is another host, that versions and CPUs fit, that
    encryption is possible on this side, and that the destination answers on the ports that migrations use, under the
    very name or address to which libvirt sends guests. It sends packets of the full size as well.
  - It does not find what a security module (AppArmor, SELinux) forbids only the daemon. It does not check the
    certificates of the destination, or whether the link is fast enough.
options:
  destinations:
    description:
      - The hosts to try.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The name of the host in the inventory.
        type: str
        required: true
      uri:
        description: The libvirt URI at which this host's libvirtd reaches that host.
        type: str
        required: true
      migration_address:
        description:
          - The address to which guests are sent.
          - By default what C(incoming.host) says, or else what the destination calls itself, as libvirt does it.
        type: str
      incoming:
        description:
          - What qemu.conf of the destination says of guests that come in, as C(migration.incoming) of its snapshot has
            it. The keys are C(host), C(listen), C(first_port) and C(last_port).
          - By default libvirt's own values are assumed, which are the ports 49152 to 49215.
        type: dict
        default: {}
      mtu:
        description: The MTU of the destination's interface on the migration network.
        type: int
  encryption:
    description:
      - Whether moves must be encrypted.
    type: str
    choices:
      - required
      - 'off'
    default: required
  timeout_s:
    description:
      - How long the checks of one destination may take, in seconds.
    type: float
    default: 10
  check_guests:
    description:
      - Ask each destination whether it can provide the CPU of each guest that runs here.
      - libvirt answers this only on a connection that may also write. So check mode leaves this check out.
    type: bool
    default: true
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.info_module
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
    details:
      - This module does not modify state. In check mode it opens read-only connections only.
notes:
  - The module connects to the ports to try them. While a guest arrives at the destination, it tries only the highest
    port of the range, in order not to disturb that migration.
seealso:
  - module: kvmops.cluster.host_info
"""

EXAMPLES = r"""
- name: Try the path from every hypervisor to h2
  kvmops.cluster.migration_path_info:
    name: "{{ inventory_hostname }}"
    destinations:
      - name: h2
        uri: qemu+ssh://root@h2/system
        migration_address: 198.18.0.12
  register: tried

- name: Show what is wrong, and what to do
  ansible.builtin.debug:
    msg: "{{ item.reason }}; {{ item.remedy }}"
  loop: "{{ tried.paths | map(attribute='checks') | flatten | rejectattr('ok') }}"
"""

RETURN = r"""
paths:
  description: One document C(kvmops.path/1) for each destination, in the order of O(destinations).
  returned: success
  type: list
  elements: dict
  contains:
    schema:
      description: Name and version of this document.
      returned: success
      type: str
      sample: kvmops.path/1
    source:
      description: The name of this host.
      returned: success
      type: str
      sample: h1
    destination:
      description: The name of the destination.
      returned: success
      type: str
      sample: h2
    ok:
      description: Whether all checks succeeded.
      returned: success
      type: bool
      sample: false
    checks:
      description: The checks V(connect), V(identity), V(versions), V(encryption), V(ports), V(cpu) and V(mtu), in this
        order.
      returned: success
      type: list
      elements: dict
      sample:
        - check: ports
          ok: false
          code: ports_filtered
          reason: no answer from 198.18.0.12 port 49152
          remedy: open TCP 49152-49215 from h1 to 198.18.0.12
    guests:
      description: The guests of this host that the destination cannot run, and why.
      returned: success
      type: list
      elements: dict
      sample: []
refusal:
  description: Why nothing could be tried, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
  sample:
    code: not_root
    reason: only root can try what libvirtd does as root
    remedy: 'run as root (become: true)'
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    host_name,
    local_uri,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import Destination, PathRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.paths import paths

DESTINATION = {
    "name": {"type": "str", "required": True},
    "uri": {"type": "str", "required": True},
    "migration_address": {"type": "str"},
    "incoming": {"type": "dict", "default": {}},
    "mtu": {"type": "int"},
}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "destinations": {"type": "list", "elements": "dict", "required": True, "options": DESTINATION},
            "encryption": {"type": "str", "choices": ["required", "off"], "default": "required"},
            "timeout_s": {"type": "float", "default": 10},
            "check_guests": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )

    def body() -> dict[str, t.Any]:
        given = module.params
        request = PathRequest(
            host_name(module),
            local_uri(module),
            given["encryption"],
            given["timeout_s"],
            given["check_guests"],
            module.check_mode,
        )
        destinations = [
            Destination(d["name"], d["uri"], d["migration_address"] or None, d["incoming"] or {}, d["mtu"])
            for d in given["destinations"]
        ]
        return {"changed": False, "paths": paths(request, destinations)}

    run(module, body)


if __name__ == "__main__":
    main()
