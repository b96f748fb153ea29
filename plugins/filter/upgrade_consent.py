# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_consent
short_description: Find which guests that cannot move may be shut down
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Sorts guests that cannot move. Some may be shut down while their host is upgraded, the others may not.
  - A guest may be shut down if its own intent or the intent of the run permits it (C(allow_shutdown)).
  - A guest that serves storage to the cluster, or runs the controller, may be shut down only if its own intent permits
    it.
  - The role P(kvmops.cluster.rolling_upgrade#role) uses this filter.
options:
  _input:
    description: The C(stays) of a plan.
    type: list
    elements: dict
    required: true
  snapshots:
    description: A dictionary of hosts to their snapshots.
    type: dict
    required: true
  intent:
    description: The intent of the run.
    type: dict
    default: {}
  silent:
    description:
      - Hosts that do not answer. While there is one, no guest may be shut down, because it could not be started again.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Find the guests that prevent an upgrade
  ansible.builtin.debug:
    msg: "{{ (plan.stays | kvmops.cluster.upgrade_consent(view.snapshots, {'allow_shutdown': true})).blocked }}"
"""

RETURN = r"""
_value:
  description:
    - C(stop) lists the guests that may be shut down.
    - C(blocked) lists the C(stays) of the others, with the reason why they may not.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import IntentError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.shutdown_consent import consented
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_machine import own_uuids
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain


def upgrade_consent(stays: t.Any, snapshots: t.Any, intent: t.Any = None, silent: t.Any = ()) -> dict[str, t.Any]:
    """Who may be shut down and who stands in the way."""
    try:
        return consented(plain(stays), plain(snapshots), plain(intent or {}), own_uuids(), plain(silent))._asdict()
    except IntentError as error:
        raise AnsibleFilterError(f"upgrade_consent: {visible(error)}") from None


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"upgrade_consent": upgrade_consent}
