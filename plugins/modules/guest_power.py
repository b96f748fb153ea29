#!/usr/bin/python
# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: guest_power
short_description: Shut guests down cleanly, and start them again
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Asks guests of a host to shut down, like a press of the power button, and waits until they are off. Or starts guests
    that are shut off.
  - Never ends a guest by force. A guest that does not shut down in time keeps running, and the module fails. The guest
    may still shut down later, so RV(shutting_down) names it.
  - The role P(kvmops.cluster.rolling_upgrade#role) does this with guests that cannot move and that may be shut down
    while their host is upgraded.
options:
  guests:
    description:
      - UUIDs of the guests.
    type: list
    elements: str
    required: true
  state:
    description:
      - With V(shut_down), the module asks the guests that run to shut down. It refuses a guest without a definition on
        the host, because that guest would be gone when it is off.
      - With V(running), the module starts the guests that are shut off. It sees this host only, so make sure that none
        of the guests runs on another host.
    type: str
    choices: [shut_down, running]
    required: true
  timeout_s:
    description:
      - How long to wait until all of them are off, in seconds.
    type: float
    default: 180
extends_documentation_fragment:
  - kvmops.cluster.attributes
  - kvmops.cluster.attributes.action_group
  - kvmops.cluster.connection
  - kvmops.cluster.state_dir
attributes:
  check_mode:
    support: full
    details:
      - In check mode the module opens read-only connections only.
  diff_mode:
    support: none
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Shut a guest down
  kvmops.cluster.guest_power:
    guests: [0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11]
    state: shut_down
    timeout_s: 300

- name: Start it again
  kvmops.cluster.guest_power:
    guests: [0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11]
    state: running
"""

RETURN = r"""
guests:
  description: Names of the guests that were asked to shut down, or were started.
  returned: always
  type: list
  elements: str
  sample: [gpu1]
shutting_down:
  description:
    - Guests that were asked to shut down, or may have been asked, and that are not off yet, as C(name) and C(uuid).
    - They may still shut down at any time. Nothing starts them again then. You must.
  returned: always
  type: list
  elements: dict
  sample: [{name: gpu1, uuid: 0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11}]
refusal:
  description: Why the module failed, with C(code), C(reason) and C(remedy).
  returned: failure
  type: dict
  sample:
    code: still_running
    reason: gpu1 did not shut down within 180 s
    remedy: >-
      check why it ignores the power button (acpid or an agent in the guest), or give it more time; nothing was ended
      by force
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.explanation import explained
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    CONNECTION_ARGUMENTS,
    fail,
    host_name,
    local_uri,
    run,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state.power import Power


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **CONNECTION_ARGUMENTS,
            "guests": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["shut_down", "running"], "required": True},
            "timeout_s": {"type": "float", "default": 180},
        },
        supports_check_mode=True,
    )

    def body() -> dict[str, t.Any]:
        with connected(local_uri(module), read_only=module.check_mode) as connection:
            power = Power(connection, host_name(module), check_mode=module.check_mode)
            try:
                if module.params["state"] == "running":
                    power.start(module.params["guests"])
                else:
                    power.shut_down(module.params["guests"], module.params["timeout_s"])
            except Exception as error:  # pylint: disable=broad-except
                why = explained(error)
                if why is None:
                    raise
                fail(module, why, **told(power))
        return told(power)

    run(module, body)


def told(power: Power) -> dict[str, t.Any]:
    """What the module returns, however it ends."""
    return {"changed": bool(power.changed), "guests": power.changed, "shutting_down": power.shutting_down}


if __name__ == "__main__":
    main()
