#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: disk_copies
short_description: List and remove the images that guests have left on a host
version_added: 0.1.0
description:
  - A move that copies disks leaves the images on the host that the guest came from. The host records them.
  - Lists these images, with their size and age.
  - Computes their digests, on request. A guest that comes back to a copy with digests sends only what differs from it.
  - Removes those that are old enough, on request. An image is removed only if its guest provably runs on another host
    from another image, nothing uses the image, and nobody has written to it since the guest left. In doubt it stays.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  digests:
    description:
      - Whether to compute the digests of the images that are as they were left and have none. This reads them, which
        takes a second or more for each GiB of data.
    type: bool
    default: false
  guests:
    description: UUIDs of the guests whose digests are computed; by default, of all.
    type: list
    elements: str
  remove:
    description: Whether to remove the images that nobody needs. Otherwise they are listed only.
    type: bool
    default: false
  keep_s:
    description: Seconds for which an image is kept after its guest has left.
    type: int
    default: 604800
  snapshots:
    description:
      - Snapshots of all hosts, by name, as M(kvmops.cluster.cluster_view) returns them. They prove where guests run.
      - Without them nothing is removed.
    type: dict
    default: {}
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.capsule_dir
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: kvmops.cluster.plan_apply
"""

EXAMPLES = r"""
- name: List what guests have left on this host
  kvmops.cluster.disk_copies:
  register: left

- name: Compute digests, so that guests come back by sending only what differs
  kvmops.cluster.disk_copies:
    digests: true

- name: Remove images that are older than three days, and that nobody needs
  kvmops.cluster.disk_copies:
    name: "{{ inventory_hostname }}"
    remove: true
    keep_s: "{{ 3 * 86400 }}"
    snapshots: "{{ view.snapshots }}"
"""

RETURN = r"""
copies:
  description: The images, by the name of their guest.
  returned: success
  type: list
  elements: dict
  contains:
    guest:
      description: Name and UUID of the guest.
      returned: success
      type: dict
    host:
      description: Where the image is.
      returned: success
      type: str
      sample: h1
    target:
      description: The disk in the guest.
      returned: success
      type: str
      sample: vda
    path:
      description: The image.
      returned: success
      type: str
      sample: /var/lib/libvirt/images/web1.qcow2
    size_bytes:
      description: Its length; null if it is no file.
      returned: success
      type: int
    allocated_bytes:
      description: What it takes of its file system; null if it is no file.
      returned: success
      type: int
    at:
      description: When the guest left.
      returned: success
      type: str
      sample: "2026-11-24T02:00:05.310Z"
    age_s:
      description: Seconds since then.
      returned: success
      type: int
    destination:
      description: Where the guest went.
      returned: success
      type: str
      sample: h2
    digests:
      description: Whether its digests are there, so that the guest comes back by sending only what differs.
      returned: success
      type: bool
    status:
      description:
        - V(kept), V(removed), V(would_remove) (without O(remove), or in check mode), V(gone) (there is no such file),
          V(home) (the guest has come back to it) or V(begun) (a copy at another host that a run began for a guest of
          this one, and could neither end nor remove; with O(snapshots)).
      returned: success
      type: str
      sample: kept
    why:
      description: Why the image is kept or left, with C(code), C(reason) and C(remedy); null for all others.
      returned: success
      type: dict
digests:
  description: What became of the digests of each image.
  returned: with O(digests)
  type: list
  elements: dict
  contains:
    uuid:
      description: The guest.
      returned: success
      type: str
    path:
      description: The image.
      returned: success
      type: str
      sample: /var/lib/libvirt/images/web1.qcow2
    state:
      description:
        - V(there) (before), V(computed), V(missing) (in check mode) or V(impossible).
      returned: success
      type: str
      sample: computed
    why:
      description: Why it is impossible; null otherwise.
      returned: success
      type: str
refusal:
  description: Why nothing could be listed, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import datetime
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CAPSULE_DIR_ARGUMENT
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    fail,
    local_uri,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import left_digests
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.copy_removal import (
    RemovalRequest,
    look_through,
    tell_pools,
)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            **CAPSULE_DIR_ARGUMENT,
            "digests": {"type": "bool", "default": False},
            "guests": {"type": "list", "elements": "str"},
            "remove": {"type": "bool", "default": False},
            "keep_s": {"type": "int", "default": 604800},
            "snapshots": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    given = module.params

    def body() -> dict[str, t.Any]:
        if given["keep_s"] < 0:
            fail(module, refusal("bad_option", f"keep_s is {given['keep_s']}", "set keep_s to 0 or more seconds"))
        dry = module.check_mode or not given["remove"]
        request = RemovalRequest(
            state_dir=given["state_dir"],
            remove=given["remove"],
            keep_s=given["keep_s"],
            snapshots=list(given["snapshots"].values()),
            dry=dry,
            now=datetime.datetime.now(datetime.timezone.utc),
            capsule_dir=given["capsule_dir"],
        )
        digests = _digests(module) if given["digests"] else []
        read_only = module.check_mode or not (given["remove"] or given["digests"])
        with connected(local_uri(module), read_only=read_only) as connection:
            found = look_through(connection, request)
            if any(one.state == "computed" for one in digests):
                tell_pools(connection, [one.path for one in digests])
        removed = ("removed", "would_remove") if given["remove"] else ()
        changed = any(one["status"] in removed for one in found)
        changed = changed or any(one.state in ("computed", "missing") for one in digests)
        answer = {"changed": changed, "copies": found}
        return {**answer, "digests": [one._asdict() for one in digests]} if given["digests"] else answer

    run(module, body)


def _digests(module: AnsibleModule) -> list[left_digests.Computed]:
    """Compute the digests that are missing, or say which ones would be."""
    given = module.params
    return left_digests.compute(given["state_dir"], given["guests"], dry=module.check_mode)


if __name__ == "__main__":
    main()
