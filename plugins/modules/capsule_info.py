#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_info
short_description: Show the capsules and images of a host
version_added: 0.1.0
description:
  - Lists the capsules and images that a host has, from which capsules each was made, and which parts are missing.
  - With O(others), says what other hosts lack of them, and how many bytes are left of an image that has begun to go
    there.
  - Reads records only. M(kvmops.cluster.capsule_verify) reads the content of images.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guest:
    description: Name or UUID of a guest. Without it, all are listed.
    type: str
  others:
    description: What this module returned on other hosts, by host.
    type: dict
    default: {}
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.info_module
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
  - kvmops.cluster.capsule_dir
seealso:
  - module: kvmops.cluster.capsule_verify
  - module: kvmops.cluster.capsule_prune
"""

EXAMPLES = r"""
- name: See what each host has
  kvmops.cluster.capsule_info:
  register: stored

- name: See what the other site lacks of the capsules of db1
  kvmops.cluster.capsule_info:
    guest: db1
    others:
      h3: "{{ hostvars['h3'].stored }}"
  register: compared

- name: Show what must be sent before each capsule can be started there
  ansible.builtin.debug:
    msg: "{{ compared.capsules | items2dict(key_name='number', value_name='missing_at') }}"
"""

RETURN = r"""
capsules:
  description: The capsules that can be read, by the name of their guest and their number.
  returned: success
  type: list
  elements: dict
  contains:
    guest:
      description: Name and UUID of the guest.
      returned: success
      type: dict
    number:
      description: Grows with each capsule of a guest.
      returned: success
      type: int
      sample: 7
    digest:
      description: Of the document.
      returned: success
      type: str
      sample: "sha256:1f0c0b0a8f6e5d4c3b2a19080f0e0d0c0b0a09080706050403020100fffefdfc"
    made_at:
      description: When it was made.
      returned: success
      type: str
      sample: "2026-11-24T02:00:00.120Z"
    made_on:
      description: On which host it was made.
      returned: success
      type: str
      sample: h1
    consistency:
      description: V(memory), V(frozen) or V(crash).
      returned: success
      type: str
      sample: memory
    signed:
      description: Whether it has a signature. M(kvmops.cluster.capsule_verify) says what that is worth.
      returned: success
      type: bool
    lineage:
      description: The capsules from which it was made, the last one first, as far as they are here. C(here) says
        whether.
      returned: success
      type: list
      elements: dict
    missing:
      description: Parts that are not here or have changed, each with C(part), C(image) and C(why).
      returned: success
      type: list
      elements: dict
    missing_at:
      description: For each of O(others), the parts that are not there, each with C(part) and C(image).
      returned: success
      type: dict
    folder:
      description: Where its small parts are.
      returned: success
      type: str
    parent:
      description: Number and digest of the capsule from which it was made, or null.
      returned: success
      type: dict
    trust_domain:
      description: Blocks are compared only with those of images in the same trust domain.
      returned: success
      type: str
      sample: default
    memory:
      description: The part with the memory, or null.
      returned: success
      type: dict
    disks:
      description: The disks with their layers.
      returned: success
      type: list
      elements: dict
images:
  description: All images, or those of O(guest), by name.
  returned: success
  type: list
  elements: dict
  contains:
    image:
      description: Its name.
      returned: success
      type: str
    path:
      description: Where it is.
      returned: success
      type: str
    kind:
      description: V(disk) or V(memory).
      returned: success
      type: str
    format:
      description: V(raw) or V(qcow2).
      returned: success
      type: str
    size_bytes:
      description: What a guest sees.
      returned: success
      type: int
    allocated_bytes:
      description: What its file takes; null if there is none.
      returned: success
      type: int
    backing:
      description: The image that it stands on, or null.
      returned: success
      type: str
    base:
      description: Whether it was sealed as a base.
      returned: success
      type: bool
    in_store:
      description: Whether its file belongs to the store. Otherwise it is in a guest's own place.
      returned: success
      type: bool
    trust_domain:
      description: Blocks are compared only with those of images in the same trust domain.
      returned: success
      type: str
    sealed_at:
      description: When it was sealed.
      returned: success
      type: str
    why:
      description: Why it is not known to be as it was sealed; null if it is.
      returned: success
      type: str
receiving:
  description: Images that have begun to come here, each with C(image), C(size_bytes), C(verified_bytes), C(state) and
    C(why).
  returned: success
  type: list
  elements: dict
to_send:
  description:
    - Images of this host that have begun to go to one of O(others), each with C(host), C(image), C(total_bytes) and
      C(left_bytes), what is still to be sent before compression. If that is not known, C(why) says so.
  returned: success
  type: list
  elements: dict
damaged:
  description: What cannot be read, each with C(path) and C(why) (C(code), C(reason) and C(remedy)).
  returned: success
  type: list
  elements: dict
encrypted_at_rest:
  description:
    - Whether the file system of the store is on devices that encrypt (dm-crypt), all of them. Null if that is not
      known, such as for a network file system, or for one that encrypts by itself.
    - The store encrypts nothing itself, because libvirt restores memory from a plain file only. To have capsules
      encrypted at rest, set O(capsule_dir) to a file system on a LUKS device.
  returned: success
  type: bool
free_bytes:
  description: The room that the file system of the store has; null if there is no store.
  returned: success
  type: int
refusal:
  description: Why nothing could be listed, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import store_info
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import CONNECTION_ARGUMENTS, run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            "guest": {"type": "str"},
            "others": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )

    def body() -> dict[str, t.Any]:
        store = CapsuleStore(module.params["capsule_dir"])
        return {"changed": False, **store_info.look(store, module.params["guest"], module.params["others"])}

    run(module, body)


if __name__ == "__main__":
    main()
