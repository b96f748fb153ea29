#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: capsule_prune
short_description: Remove capsules and images that nobody needs any more
version_added: 0.1.0
description:
  - Keeps the last capsules of each guest (O(keep_last)), and of the last days that have any the last one of each
    (O(keep_daily)). What no capsule, no guest and no run needs then is marked. What is still not needed O(delay_s)
      seconds
    after its mark is removed.
  - Never removes what a guest of the host stands on, running or not, what a send, a start or a fill needs, or a base.
    If anything cannot be read, so that nobody knows what is needed, nothing is removed.
  - The memory of a guest, its NVRAM and its TPM state are written over before their files are removed. A file system
    or a disk that writes elsewhere (copy on write, flash) may keep the old content for a while.
  - An image that has begun to come, and of which nothing came for seven days, is removed in the same way.
  - Layers of running guests that no capsule needs alone are merged into the file below them, while the guest goes on.
    So a disk that is saved every night keeps few layers.
  - Files in a guest's own place are not removed, because a guest of another host may stand on them. They are only
    forgotten.
author:
  - kvmops.cluster contributors (@kvmops)
options:
  guest:
    description: Name or UUID of a guest. The capsules of all others are kept. Without it, all guests count.
    type: str
  keep_last:
    description: So many capsules with the highest numbers are kept of each guest, at least 1.
    type: int
    default: 2
  keep_daily:
    description: Of so many last days that have any, the last capsule of each day (UTC) is kept.
    type: int
    default: 0
  bases:
    description: Whether bases that nothing needs are removed, too.
    type: bool
    default: false
  delay_s:
    description: Seconds from the mark to the removal.
    type: int
    default: 86400
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
  diff_mode:
    support: none
  idempotent:
    support: full
seealso:
  - module: kvmops.cluster.capsule_info
  - module: kvmops.cluster.capsule_base
"""

EXAMPLES = r"""
- name: See what would be removed
  kvmops.cluster.capsule_prune:
    keep_last: 2
    keep_daily: 7
  check_mode: true
  register: pruned

- name: Keep the last two capsules of each guest, and one for each of the last seven days that have any
  kvmops.cluster.capsule_prune:
    keep_last: 2
    keep_daily: 7
"""

RETURN = r"""
removed:
  description: What was removed, or would be in check mode, in this order.
  returned: success
  type: list
  elements: dict
  contains:
    what:
      description: What it is.
      returned: success
      type: str
      sample: capsule 6 of db1
    name:
      description: The digest of a capsule, or the name of an image.
      returned: success
      type: str
    path:
      description: Where it is.
      returned: success
      type: str
    bytes:
      description: What the file of an image takes; null for a capsule.
      returned: success
      type: int
    file_stays:
      description: Whether it is in a guest's own place, so that it was only forgotten.
      returned: success
      type: bool
marked:
  description: What nobody needs, and what stays until its delay is over. Each has the keys of RV(removed), and
    C(since).
  returned: success
  type: list
  elements: dict
kept:
  description: Why each other capsule and image stays, by digest or name.
  returned: success
  type: dict
freed_bytes:
  description: What the removed files took.
  returned: success
  type: int
merged:
  description:
    - Layers of running guests that were merged, or would be in check mode. Each has C(guest), C(target), C(image) (what
      the file shows now), C(into) (the file) and C(files) (those that were removed).
  returned: success
  type: list
  elements: dict
faults:
  description: What could not be removed or merged, in words. The next run tries again.
  returned: success
  type: list
  elements: str
refusal:
  description: Why nothing was removed, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import datetime
import functools
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.retention import Rule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR_ARGUMENT,
    CapsuleStore,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import pruning
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import (
    PROGRESS_ARGUMENT,
    live_lines,
)
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
            "guest": {"type": "str"},
            "keep_last": {"type": "int", "default": 2},
            "keep_daily": {"type": "int", "default": 0},
            "bases": {"type": "bool", "default": False},
            "delay_s": {"type": "int", "default": 86400},
        },
        supports_check_mode=True,
    )
    run(module, lambda: _body(module))


def _body(module: AnsibleModule) -> dict[str, t.Any]:
    given = module.params
    store = CapsuleStore(given["capsule_dir"])
    if not os.path.isdir(store.directory):
        return {"changed": False, "removed": [], "marked": [], "kept": {}, "freed_bytes": 0, "faults": [], "merged": []}
    request = pruning.PruneRequest(
        rule=Rule(given["keep_last"], given["keep_daily"], given["bases"], given["delay_s"]),
        guest=given["guest"],
        now=datetime.datetime.now(datetime.timezone.utc),
        dry=module.check_mode,
    )
    connection = functools.partial(connected, local_uri(module), read_only=module.check_mode)
    with live_lines(given["progress_path"]) as lines:
        pruned = pruning.prune(store, connection, request, lines)
    return {"changed": bool(pruned.removed or pruned.merged), **pruned._asdict()}


if __name__ == "__main__":
    main()
