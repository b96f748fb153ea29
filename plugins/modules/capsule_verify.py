#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_verify
short_description: Hold capsules and images at rest against their digests
version_added: 0.1.0
description:
  - Reads each image as a whole, and the small parts of capsules, and holds them against the digests that name them.
    One bit that is not as it was is found, and named with its disk and its place.
  - Of a layer, what it has itself is read. What it stands on is an image of its own, and is read once.
  - Checks signatures. With O(signers), a capsule must be signed by one of these keys.
  - Fails if anything is missing or damaged, and says what to do. Guests may run meanwhile.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guest:
    description: Name or UUID of a guest. Without it, all capsules and images of the host are verified.
    type: str
  number:
    description: Number of a capsule of O(guest). Without it, all of them are verified.
    type: int
  signers:
    description: Public keys that may sign, each as in a file C(id_ed25519.pub).
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.attributes.live
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
  - kvmops.cluster.capsule_dir
  - kvmops.cluster.progress
attributes:
  check_mode:
    support: full
    details:
      - It reads the same in check mode. Only the records of images whose files were copied or touched are not renewed.
  diff_mode:
    support: none
  idempotent:
    support: full
requirements:
  - qemu-nbd and qemu-img on the hypervisor (Debian package qemu-utils)
  - python3-libnbd on the hypervisor, for images that are qcow2
seealso:
  - module: kvmops.cluster.capsule_info
  - module: kvmops.cluster.capsule_send
"""

EXAMPLES = r"""
- name: Verify all that this host has
  kvmops.cluster.capsule_verify:

- name: Verify the capsule that is to be started, and who signed it
  kvmops.cluster.capsule_verify:
    guest: db1
    number: 7
    signers: ["{{ lookup('ansible.builtin.file', 'keys/capsules.pub') }}"]
"""

RETURN = r"""
capsules:
  description: The capsules, each with C(guest), C(number), C(digest), C(status) (V(good) or V(damaged)), C(signature)
    (V(good), V(bad) or V(none)), C(images) and C(faults).
  returned: always
  type: list
  elements: dict
images:
  description: The images that were read, without those that only capsules named.
  returned: always
  type: list
  elements: dict
  contains:
    image:
      description: Its name.
      returned: always
      type: str
    path:
      description: Where it is; null if it is not here.
      returned: always
      type: str
    status:
      description: V(good), V(damaged) or V(missing).
      returned: always
      type: str
    read_bytes:
      description: What was read of it. Holes, and what is below a layer, are not.
      returned: always
      type: int
    places:
      description: Where it differs, as pairs of the first byte and how many; at most 20.
      returned: always
      type: list
      elements: list
    why:
      description: What is wrong and what to do, with C(code), C(reason) and C(remedy); null for a good one.
      returned: always
      type: dict
refreshed:
  description: Images whose content is right and whose file is not the one that was sealed. Their records were renewed.
  returned: always
  type: list
  elements: str
refusal:
  description: The first thing that is missing or damaged, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import (
    PROGRESS_ARGUMENT,
    live_lines,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.verification import Verifier
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import CONNECTION_ARGUMENTS, run


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            **PROGRESS_ARGUMENT,
            "guest": {"type": "str"},
            "number": {"type": "int"},
            "signers": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        required_by={"number": ["guest"]},
        supports_check_mode=True,
    )
    run(module, lambda: _finish(module, _verified(module)))


def _verified(module: AnsibleModule) -> dict[str, t.Any]:
    given = module.params
    store = CapsuleStore(given["capsule_dir"])
    faults: list[t.Mapping[str, t.Any]] = []
    if given["guest"]:
        first = store.find_capsule(given["guest"], given["number"])
        wanted = [first] if given["number"] else store.capsules(first.document["guest"]["uuid"])
        faults += [one.why for one in store.unreadable(first.document["guest"]["uuid"])]
    else:
        wanted = store.capsules()
        faults += [one.why for one in (*store.damaged_records(), *store.unreadable())]
    with live_lines(given["progress_path"]) as lines:
        verifier = Verifier(store, lines, module.check_mode)
        capsules = [verifier.capsule(one, given["signers"]) for one in wanted]
        rest = [] if given["guest"] else sorted(store.images())
        images = [verifier.image(name, "the image") for name in rest]
    faults += [why for one in capsules for why in one["faults"]]
    faults += [one["why"] for one in images if one["why"] and one["why"] not in faults]
    return {
        "changed": bool(verifier.refreshed),
        "capsules": capsules,
        "images": images,
        "refreshed": verifier.refreshed,
        "faults": faults,
    }


def _finish(module: AnsibleModule, result: dict[str, t.Any]) -> dict[str, t.Any]:
    faults = result.pop("faults")
    if faults:
        more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
        module.fail_json(msg=sentence(faults[0]) + more, refusal=dict(faults[0]), **result)
    return result


if __name__ == "__main__":
    main()
