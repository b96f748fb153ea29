#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_base
short_description: Seal an image as a base of capsules
version_added: 0.1.0
description:
  - A base is an image that never changes. Its name is the digest of what a guest sees of it. Disks of guests stand on
    it with layers of their own. A host that has the base need not receive it with a capsule.
  - Reads the whole image, without its holes, and keeps the digests of all its blocks.
  - The image stays where it is, and is made read-only. It is copied into O(capsule_dir) if it is compressed, if it
    stands on an image that is not sealed, or if it is a block device. Then RV(copied_because) says so.
  - An image that is sealed already and was not written to since is not read again.
  - An image to which a guest of the host writes, or would write when it starts, is refused.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  state:
    description:
      - V(present) seals the image.
      - V(absent) removes the base from the index. A copy in O(capsule_dir) is removed; any other image stays, and its
        owner may write to it again. It is refused if a capsule, a layer, a guest or a run needs the base.
    type: str
    choices: [present, absent]
    default: present
  path:
    description:
      - The image, a file or a block device.
      - Needed for O(state=present). For O(state=absent) either this or O(image) is needed.
    type: path
  format:
    description:
      - The format of the image. Without it, the first bytes of the image say so. That is refused if they name
        another file, because a guest can write them into a raw disk.
    type: str
    choices: [raw, qcow2]
  image:
    description:
      - The name of the base, V(blocks:) and 64 digits. With O(state=present), an image that turns out to be another one
        is refused.
    type: str
  copy:
    description: Copy the image into O(capsule_dir) even if it could stay where it is.
    type: bool
    default: false
  trust_domain:
    description:
      - Blocks are compared only with those of images in the same trust domain. Use one name for all images whose owners
        may learn what the others have.
    type: str
    default: default
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
      - The image is read in check mode, too, because its digest decides.
  diff_mode:
    support: none
  idempotent:
    support: full
requirements:
  - qemu-nbd and qemu-img on the hypervisor (Debian package qemu-utils)
  - python3-libnbd on the hypervisor, for images that are qcow2
seealso:
  - module: kvmops.cluster.capsule_verify
  - module: kvmops.cluster.capsule_prune
"""

EXAMPLES = r"""
- name: Seal the image that guests of this host stand on
  kvmops.cluster.capsule_base:
    path: /var/lib/libvirt/images/debian-13.qcow2
    format: qcow2
  register: base

- name: Show its name, for the other hosts
  ansible.builtin.debug:
    var: base.base.image

- name: Seal what was carried here, if it is the very same
  kvmops.cluster.capsule_base:
    path: /mnt/usb/debian-13.qcow2
    image: blocks:2f3c0b0a8f6e5d4c3b2a19080f0e0d0c0b0a09080706050403020100fffefdfc
    copy: true

- name: Remove a base that nothing needs
  kvmops.cluster.capsule_base:
    image: blocks:2f3c0b0a8f6e5d4c3b2a19080f0e0d0c0b0a09080706050403020100fffefdfc
    state: absent
"""

RETURN = r"""
base:
  description: The record of the base (C(kvmops.capsule_image/1)); null with O(state=absent).
  returned: success
  type: dict
  contains:
    image:
      description: Its name.
      returned: success
      type: str
      sample: blocks:2f3c0b0a8f6e5d4c3b2a19080f0e0d0c0b0a09080706050403020100fffefdfc
    path:
      description: Where it is.
      returned: success
      type: str
      sample: /var/lib/libvirt/images/debian-13.qcow2
    format:
      description: V(raw) or V(qcow2).
      returned: success
      type: str
      sample: qcow2
    size_bytes:
      description: The size that a guest sees.
      returned: success
      type: int
    backing:
      description: The name of the sealed image that it stands on, or null.
      returned: success
      type: str
    trust_domain:
      description: See O(trust_domain).
      returned: success
      type: str
copied_because:
  description: Why the store has a copy of its own; null if the image stays where it is.
  returned: success
  type: str
  sample: it is compressed, and guests would unpack each block that they read
read_bytes:
  description: What was read of the image. Holes are not read. 0 for an image that is sealed already.
  returned: success
  type: int
refusal:
  description: Why the image was not sealed or removed, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import functools
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import sealing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import (
    PROGRESS_ARGUMENT,
    live_lines,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    local_uri,
    run,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            **PROGRESS_ARGUMENT,
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path"},
            "format": {"type": "str", "choices": ["raw", "qcow2"]},
            "image": {"type": "str"},
            "copy": {"type": "bool", "default": False},
            "trust_domain": {"type": "str", "default": "default"},
        },
        required_if=[("state", "present", ["path"]), ("state", "absent", ["path", "image"], True)],
        supports_check_mode=True,
    )
    run(module, lambda: _body(module))


def _body(module: AnsibleModule) -> dict[str, t.Any]:
    given = module.params
    store = CapsuleStore(given["capsule_dir"])
    connection = functools.partial(connected, local_uri(module), read_only=True)
    if given["state"] == "absent":
        name = given["image"] or _name_at(store, given["path"])
        changed = name is not None and sealing.unseal(store, connection, name, module.check_mode)
        return {"changed": changed, "base": None, "copied_because": None, "read_bytes": 0}
    request = sealing.SealRequest(
        path=given["path"],
        form=given["format"],
        copy=given["copy"],
        image=given["image"],
        trust_domain=given["trust_domain"],
        at=utc_now(),
        dry=module.check_mode,
    )
    if not os.path.exists(request.path):
        raise VirtError(
            refusal(
                "image_missing", f"{request.path} is not there", f"see what is: ls -l {os.path.dirname(request.path)}"
            )
        )
    with live_lines(given["progress_path"]) as lines:
        sealed = sealing.seal(store, connection, request, lines)
    return {
        "changed": sealed.changed,
        "base": sealed.record,
        "copied_because": sealed.copied_because,
        "read_bytes": sealed.read_bytes,
    }


def _name_at(store: CapsuleStore, path: str) -> str | None:
    """The name of the base at a path; None: there is none."""
    wanted = os.path.realpath(path)
    return next((name for name, one in store.images().items() if one["base"] and one["path"] == wanted), None)


if __name__ == "__main__":
    main()
