#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_start
short_description: Start a guest from a capsule
version_added: 0.1.0
description:
  - Starts a guest from a capsule that this host has. The guest gets a layer of its own on each disk. The images of the
    capsule never change, so it can be started again.
  - A capsule with memory lets the guest go on where it was saved. Any other capsule boots.
  - Its definition is rebuilt from what is permitted. It names files of the capsule only, and bridges and networks that
    this host has. What may not come along is refused by name; what was left out is in RV(notes).
  - The capsule is not started while its guest runs on this host, or may run on another one.
  - If the start fails, nothing of it is left, and the capsule is as before.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guest:
    description: Name or UUID of the guest, as it was saved.
    type: str
    required: true
  number:
    description: Number of the capsule. By default the newest one that this host has.
    type: int
  stopped:
    description:
      - The word of the host that has made the capsule that the guest is off there. It is
        RV(kvmops.cluster.capsule_save#module:stopped).
    type: dict
  snapshots:
    description:
      - Snapshots of hosts, by name, as M(kvmops.cluster.cluster_view) returns them. They prove that the guest runs on
        none of them. The host that has made the capsule must be among them, if there is no O(stopped).
    type: dict
    default: {}
  source_is_off:
    description:
      - Your word that the guest runs nowhere, for a site that is lost. If it runs there all the same, there are two of
        it.
    type: bool
    default: false
  allow_older:
    description:
      - Whether an older capsule than the last one here may be started, or one that replaces a guest of this host that
        is off. What the guest has done since is lost.
    type: bool
    default: false
  as_new:
    description:
      - Name of a new guest. It gets a new UUID, new MAC addresses, a new C(genid), and at its first boot a new machine
        ID and new ssh host keys.
      - The machine ID is set by a systemd unit that the firmware's tables hand to the guest. This needs systemd 256 in
        the guest (Debian 13, EL 10), and an x86_64 guest. In other guests, set it by hand or through their agent.
      - The memory of a capsule knows the old identity. A capsule that has memory also needs O(discard_memory).
    type: str
  lazy:
    description:
      - What M(kvmops.cluster.capsule_export) with O(kvmops.cluster.capsule_export#module:ticket) and
        O(kvmops.cluster.capsule_export#module:guest) has returned on the source as
        RV(kvmops.cluster.capsule_export#module:export).
      - The guest is started before its disks have come. It reads from its source what it needs, through ssh, until
        M(kvmops.cluster.capsule_fill) has got the rest. Memory and definition of the capsule must be here.
      - While the source does not answer, reads of the guest wait. After 5 minutes the guest is paused, and
        M(kvmops.cluster.capsule_fill) brings it back. No error reaches it.
      - Needs libvirt 9.2 or later on this host.
    type: dict
  discard_memory:
    description: Whether the guest boots, though its memory was saved. Its disks are then as after a loss of power.
    type: bool
    default: false
  signers:
    description:
      - Public keys that may sign, each as in a C(.pub) file. With any, a capsule without a good signature is refused.
    type: list
    elements: str
    default: []
  networks:
    description: Names here of bridges, networks and network devices that its definition names, by their old names.
    type: dict
    default: {}
  allow_files:
    description:
      - Patterns of files of this host that its definition may name, such as the kernel of a guest that boots one
        directly, the log of a serial port or an ISO image. All other files are refused or left out.
    type: list
    elements: str
    default: []
  image_dir:
    description: Directory for the layers that the guest writes to.
    type: path
    default: /var/lib/libvirt/images
  wait_s:
    description:
      - Seconds to wait until the guest is of use. Its agent has answered, where it has one, and it has read from its
        disks. With O(lazy), a source that does not answer is waited for as long.
    type: int
    default: 120
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
    details: A guest that runs and was started from this capsule is left alone.
requirements:
  - python3-libnbd and qemu-utils (qemu-img) on the host
seealso:
  - module: kvmops.cluster.capsule_save
  - module: kvmops.cluster.capsule_release
"""

EXAMPLES = r"""
- name: Save the guest on its host, and leave it off
  kvmops.cluster.capsule_save:
    guest: db1
    then: stop
  delegate_to: h1
  register: saved

- name: Let it go on here
  kvmops.cluster.capsule_start:
    name: "{{ inventory_hostname }}"
    guest: db1
    stopped: "{{ saved.stopped }}"
  register: started

- name: Let its old host forget it
  kvmops.cluster.capsule_release:
    guest: db1
    started: "{{ started }}"
  delegate_to: h1

- name: Let it go on here before its disks have come
  kvmops.cluster.capsule_start:
    name: "{{ inventory_hostname }}"
    guest: db1
    stopped: "{{ saved.stopped }}"
    lazy: "{{ exported.export }}"

- name: Start a second guest from the same disks
  kvmops.cluster.capsule_start:
    guest: golden
    as_new: web7
    discard_memory: true
"""

RETURN = r"""
guest:
  description: Name and UUID of the guest that runs.
  returned: success
  type: dict
host:
  description: Name of this host.
  returned: success
  type: str
  sample: h2
number:
  description: Number of the capsule.
  returned: success
  type: int
  sample: 7
digest:
  description: Digest of the capsule.
  returned: success
  type: str
state:
  description: V(running), or V(off) in check mode.
  returned: success
  type: str
  sample: running
disks:
  description: C(target) and C(path) of each file that the guest writes to, and whether its disk is C(lazy), that is not
    all here.
  returned: success
  type: list
  elements: dict
running_after_s:
  description: Seconds from the begin of the task until the guest ran; null if it ran already.
  returned: success
  type: float
  sample: 1.9
useful_after_s:
  description: Seconds until it was of use; null if it was not within O(wait_s).
  returned: success
  type: float
  sample: 2.3
useful_by:
  description:
    - What has shown that it is of use. V(disk) is a read or write that has ended, V(quiet) that it had none for two
      seconds, with its memory and its disks here. A guest with an agent has answered as well, V(agent and disk) or
      V(agent and quiet).
  returned: success
  type: str
notes:
  description: What was left out or changed, as sentences.
  returned: success
  type: list
  elements: str
refusal:
  description: Why it was not started, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.whereabouts import Evidence
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import before_disks
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.start_checks import StartRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.starting import start
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
            "number": {"type": "int"},
            "stopped": {"type": "dict"},
            "snapshots": {"type": "dict", "default": {}},
            "source_is_off": {"type": "bool", "default": False},
            "allow_older": {"type": "bool", "default": False},
            "as_new": {"type": "str"},
            "lazy": {"type": "dict"},
            "discard_memory": {"type": "bool", "default": False},
            "signers": {"type": "list", "elements": "str", "default": []},
            "networks": {"type": "dict", "default": {}},
            "allow_files": {"type": "list", "elements": "str", "default": []},
            "image_dir": {"type": "path", "default": "/var/lib/libvirt/images"},
            "wait_s": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    given = module.params

    def body() -> dict[str, t.Any]:
        request = StartRequest(
            guest=given["guest"],
            number=given["number"],
            host=host_name(module),
            as_new=given["as_new"],
            discard_memory=given["discard_memory"],
            evidence=Evidence(given["stopped"], list(given["snapshots"].values()), given["source_is_off"]),
            allow_older=given["allow_older"],
            signers=given["signers"],
            networks={str(there): str(here) for there, here in given["networks"].items()},
            allow_files=given["allow_files"],
            image_dir=given["image_dir"],
            wait_s=given["wait_s"],
            check=module.check_mode,
            lazy=before_disks.export_of(given["lazy"]) if given["lazy"] else None,
        )
        with connected(local_uri(module), read_only=module.check_mode) as connection:
            return start(connection, CapsuleStore(given["capsule_dir"]), request)

    run(module, body)


if __name__ == "__main__":
    main()
