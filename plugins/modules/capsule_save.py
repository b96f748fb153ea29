#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_save
short_description: Save a guest as a capsule
version_added: 0.1.0
description:
  - Saves a whole guest, with its disks, its memory if wanted, NVRAM, TPM state and definition, as a capsule in the
    store of its host. The guest goes on unless O(then=stop).
  - Each disk gets a new layer, to which the guest writes from then on. The layer below it never changes any more; it
    stays where it is. What was written since the last capsule is told by that layer, so only that is read and hashed.
  - Digests are computed after the guest goes on again.
  - The guest keeps its name, its addresses, its definition, its metadata and its autostart. Its definition names the
    new layers.
  - A run that was killed at any instant is ended by the next one. A guest that was saved and did not go on goes on
    then.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guest:
    description: Name or UUID of the guest.
    type: str
    required: true
  consistency:
    description:
      - V(memory) saves the memory of the running guest. It stands still for some seconds, and loses nothing.
      - V(frozen) has its guest agent freeze its file systems for a moment. Its memory is not saved.
      - V(crash) saves its disks as after a loss of power.
      - By default V(memory) for a guest that runs, and V(frozen) for one that is off. RV(consistency_because) says why.
    type: str
    choices: [memory, frozen, crash]
  balloon:
    description:
      - Whether memory that the guest does not need is taken by its balloon before, and given back at once. It is zero
        then, and need not be written and sent.
    type: bool
    default: true
  then:
    description:
      - V(continue) lets the guest go on. V(stop) leaves it off and defined here, without autostart, so that it can be
        started elsewhere. It needs O(consistency=memory), or a guest that is off.
    type: str
    choices: [continue, stop]
    default: continue
  sign_with:
    description: File of an ssh key on this host, without a passphrase, that signs the capsule.
    type: path
  trust_domain:
    description: Blocks are compared only with those of capsules in the same trust domain.
    type: str
    default: default
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
  - kvmops.cluster.capsule_dir
  - kvmops.cluster.require_encrypted
attributes:
  check_mode:
    support: full
    details: It tells the down time and the sizes to expect.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: Each run makes a new capsule. A guest that a run with O(then=stop) has stopped is not saved again.
requirements:
  - python3-libnbd and qemu-utils (qemu-img) on the host
seealso:
  - module: kvmops.cluster.capsule_start
"""

EXAMPLES = r"""
- name: Save the guest, which goes on after a second or two
  kvmops.cluster.capsule_save:
    guest: db1
  register: saved

- name: Say for how long it would stand still
  kvmops.cluster.capsule_save:
    guest: db1
  check_mode: true

- name: Save it for the last time here, signed, and leave it off
  kvmops.cluster.capsule_save:
    guest: db1
    then: stop
    sign_with: /etc/kvmops/capsule_key
  register: stopped
"""

RETURN = r"""
guest:
  description: Name and UUID of the guest.
  returned: success
  type: dict
number:
  description: Number of the capsule. It grows with each capsule of a guest.
  returned: success
  type: int
  sample: 7
digest:
  description: Digest of the capsule; null in check mode.
  returned: success
  type: str
  sample: sha256:9c1f…
consistency:
  description: V(memory), V(frozen) or V(crash).
  returned: success
  type: str
  sample: memory
consistency_because:
  description: Why so.
  returned: success
  type: str
state:
  description: What the guest does now, V(running), V(off) or V(stopped) (by O(then=stop)).
  returned: success
  type: str
  sample: running
stopped:
  description:
    - The word of this host that the guest is off and stays off, for O(kvmops.cluster.capsule_start#module:stopped).
      Null unless O(then=stop). C(still_since) is when it stopped for its memory.
  returned: success
  type: dict
down_s:
  description: Seconds for which the guest stood still; null if it does not run.
  returned: success
  type: float
  sample: 1.4
down_forecast_s:
  description: The seconds that were expected, with its memory.
  returned: success
  type: float
  sample: 1.6
freed_bytes:
  description: Memory that the balloon has freed before.
  returned: success, except in check mode
  type: int
disks:
  description: The disks.
  returned: success
  type: list
  elements: dict
  contains:
    target:
      description: The disk in the guest.
      returned: success
      type: str
      sample: vda
    path:
      description: The file that never changes any more.
      returned: success
      type: str
    image:
      description: Digest of what the guest sees.
      returned: success, except in check mode
      type: str
    layer_bytes:
      description: What the layer has of its own.
      returned: success
      type: int
    read_bytes:
      description: What was read to compute the digest.
      returned: success, except in check mode
      type: int
    full_because:
      description: Why the whole disk was read; null where only what was written since the last capsule was.
      returned: success, except in check mode
      type: str
    layers:
      description: Of how many layers the disk is made.
      returned: success
      type: int
memory:
  description: C(format), C(size_bytes), C(allocated_bytes) and C(image) of the memory; null without it.
  returned: success
  type: dict
part_bytes:
  description: Sizes of the small parts, C(definition), C(nvram) and C(tpm), those that there are.
  returned: success, except in check mode
  type: dict
signed:
  description: Whether the capsule is signed.
  returned: success, except in check mode
  type: bool
resumed:
  description: Whether this run has ended a save that an earlier one had begun.
  returned: success, except in check mode
  type: bool
notes:
  description: What an operator should know, as sentences.
  returned: success
  type: list
  elements: str
refusal:
  description: Why it was not saved, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    REQUIRE_ENCRYPTED_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.saving import SaveRequest, save
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
            **REQUIRE_ENCRYPTED_ARGUMENT,
            "guest": {"type": "str", "required": True},
            "consistency": {"type": "str", "choices": ["memory", "frozen", "crash"]},
            "balloon": {"type": "bool", "default": True},
            "then": {"type": "str", "choices": ["continue", "stop"], "default": "continue"},
            "sign_with": {"type": "path", "no_log": False},
            "trust_domain": {"type": "str", "default": "default"},
        },
        supports_check_mode=True,
    )
    given = module.params

    def body() -> dict[str, t.Any]:
        request = SaveRequest(
            guest=given["guest"],
            host=host_name(module),
            consistency=given["consistency"],
            balloon=given["balloon"],
            then=given["then"],
            sign_with=given["sign_with"],
            trust_domain=given["trust_domain"],
            state_dir=given["state_dir"],
            check=module.check_mode,
        )
        with connected(local_uri(module), read_only=module.check_mode) as connection:
            return save(connection, CapsuleStore(given["capsule_dir"], given["require_encrypted"]), request)

    run(module, body)


if __name__ == "__main__":
    main()
