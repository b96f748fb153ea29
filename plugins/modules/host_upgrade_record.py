#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_upgrade_record
short_description: Keep on a hypervisor how far a rolling upgrade has come
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Reads or writes the upgrade record of a host. With it, a rolling upgrade that was interrupted can continue.
  - This module is a part of the role P(kvmops.cluster.rolling_upgrade#role). You need not call it yourself.
options:
  run:
    description:
      - The name of the rolling upgrade. Without it the module only reads the record.
    type: str
  phase:
    description:
      - How far the run has come on this host. With V(waiting), the record stays as it is if this run has already begun
        with the host.
    type: str
    choices: [waiting, begun, upgraded, over]
  owner:
    description:
      - Who runs the upgrade.
    type: str
  qemu:
    description:
      - The version of QEMU that the host has now.
    type: str
  guests:
    description:
      - The guests that ran on the host before the run, each with C(name) and C(uuid).
    type: list
    elements: dict
  stopped:
    description:
      - The guests that the run shut down and did not start again yet, each with C(name) and C(uuid). Also guests that
        the run asked to shut down and that may still do so.
    type: list
    elements: dict
  health:
    description:
      - What worked before the run, in the form of RV(kvmops.cluster.host_health_info#module:health).
    type: dict
  broken_ways:
    description:
      - The paths from and to this host that did not work before the run. Each is a list of two hosts, source and
        destination.
    type: list
    elements: list
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Read the record
  kvmops.cluster.host_upgrade_record:
  register: kept

- name: Record that this host is upgraded
  kvmops.cluster.host_upgrade_record:
    run: upgrade-20261124T020000Z
    phase: upgraded
    qemu: 11.1.3
"""

RETURN = r"""
record:
  description: The record, as the document C(kvmops.upgrade/1).
  returned: success
  type: dict
  sample:
    schema: kvmops.upgrade/1
    run: upgrade-20261124T020000Z
    phase: upgraded
    owner: alice@admin1
    at: '2026-11-24T02:11:07Z'
    qemu: 11.1.3
    guests: []
    stopped: []
    health: null
    broken_ways: []
refusal:
  description: Why the module refused, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
"""

import datetime
import typing as t
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_record import (
    PHASES,
    RecordUpdate,
    advanced,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run import upgrade_record
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_dir import STATE_DIR_ARGUMENT
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_owner import give_to_owner


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "run": {"type": "str"},
            "phase": {"type": "str", "choices": list(PHASES)},
            "owner": {"type": "str"},
            "qemu": {"type": "str"},
            "guests": {"type": "list", "elements": "dict"},
            "stopped": {"type": "list", "elements": "dict"},
            "health": {"type": "dict"},
            "broken_ways": {"type": "list", "elements": "list"},
            **STATE_DIR_ARGUMENT,
        },
        required_together=[("run", "phase")],
        supports_check_mode=True,
    )
    state_dir = Path(module.params["state_dir"])
    try:
        before = upgrade_record.load(state_dir)
        after = before
        if module.params["run"]:
            update = RecordUpdate(**{name: module.params[name] for name in RecordUpdate._fields})
            after = advanced(before, update, f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}")
        if after != before and not module.check_mode:
            upgrade_record.store(after, state_dir)
    except upgrade_record.UpgradeRecordError as error:
        module.fail_json(msg=sentence(error.refusal), refusal=dict(error.refusal))
    finally:
        if not module.check_mode:
            give_to_owner(str(state_dir))
    result: dict[str, t.Any] = {"changed": after != before, "record": after}
    if module._diff:
        result["diff"] = {"before": before, "after": after}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
