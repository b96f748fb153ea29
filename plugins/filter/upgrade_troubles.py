# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_troubles
short_description: Find why upgraded hosts must not be opened
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - A host may take guests again if its upgrade is complete, if it answers, and if the paths between it and every host
    that was not away work in both directions. A check without a result counts as failed.
  - The role P(kvmops.cluster.rolling_upgrade#role) uses this filter.
options:
  _input:
    description: The hosts that were away.
    type: list
    elements: str
    required: true
  well:
    description: The hosts that completed the upgrade and passed its health gate.
    type: list
    elements: str
    required: true
  said:
    description: What failed on the other hosts. A dictionary of hosts to text.
    type: dict
    required: true
  snapshots:
    description: A dictionary of the hosts that answer now to their snapshots.
    type: dict
    required: true
  paths:
    description: What M(kvmops.cluster.migration_path_info) found between these hosts and all others.
    type: list
    elements: dict
    required: true
  before:
    description:
      - The paths that did not work before the upgrade either. Each is a list of two hosts, source and destination. They
        do not count against a host.
    type: list
    elements: list
    default: []
"""

EXAMPLES = r"""
- name: Stop if a host must not be opened
  ansible.builtin.assert:
    that: "['h1'] | kvmops.cluster.upgrade_troubles(well=['h1'], said={}, snapshots=view.snapshots, paths=paths) == {}"
"""

RETURN = r"""
_value:
  description: A dictionary of the hosts that must not be opened to the reasons.
  type: dict
"""

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_verdict import reasons_to_stay_closed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain


def upgrade_troubles(
    hosts: t.Any, well: t.Any, said: t.Any, snapshots: t.Any, paths: t.Any, before: t.Any = None
) -> dict[str, list[str]]:
    """What stands against opening each host."""
    found = reasons_to_stay_closed(
        plain(hosts),
        well=plain(well),
        said=plain(said),
        snapshots=plain(snapshots),
        paths=plain(paths),
        before=plain(before or []),
    )
    return {host: [visible(why) for why in whys] for host, whys in found.items()}


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"upgrade_troubles": upgrade_troubles}
