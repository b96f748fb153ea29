# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: upgrade_standing
short_description: Find how far a rolling upgrade has come
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Reads the upgrade records of the hosts. Finds the rolling upgrade to continue, or begins a new one.
  - The role P(kvmops.cluster.rolling_upgrade#role) uses this filter.
options:
  _input:
    description: The hosts to upgrade.
    type: list
    elements: str
    required: true
  records:
    description: A dictionary of hosts to the C(record) that M(kvmops.cluster.host_upgrade_record) returned.
    type: dict
    required: true
  snapshots:
    description: A dictionary of hosts to their snapshots.
    type: dict
    required: true
  wanted:
    description: The run that the operator names. By default the run that has not ended, if there is one.
    type: str
    default: ""
  fresh:
    description: The name of a new run.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Find how far the upgrade has come
  ansible.builtin.set_fact:
    standing: "{{ ['h1', 'h2'] | kvmops.cluster.upgrade_standing(records, view.snapshots, fresh='upgrade-7') }}"
"""

RETURN = r"""
_value:
  description:
    - C(run) is the name of the run. C(resumed) says whether it was begun earlier.
    - C(done), C(begun) and C(left) are lists of hosts. C(left) includes the begun hosts.
    - C(lines) says the same as text.
  type: dict
"""

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_status import lines, upgrade_status
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain


def upgrade_standing(hosts: t.Any, records: t.Any, snapshots: t.Any, fresh: str, wanted: str = "") -> dict[str, t.Any]:
    """Where a run stands, with lines for people."""
    seen = plain(snapshots)
    found = upgrade_status(plain(hosts), plain(records), seen, wanted=str(wanted), fresh=str(fresh))
    return {**found._asdict(), "lines": [visible(line) for line in lines(found, seen)]}


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"upgrade_standing": upgrade_standing}
