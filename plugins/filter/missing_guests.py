# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: missing_guests
short_description: Find guests that ran on a host when it was closed, and that run nowhere now
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Names the guests that the runs of a host were to move away, and that are active on no host now. Their QEMU, or a
    host, has died meanwhile.
  - A guest that somebody has shut down is not among them, unless libvirt was restarted there since.
    It then no longer knows why the guest is off.
  - The roles P(kvmops.cluster.drain_host#role), P(kvmops.cluster.evacuate#role) and
    P(kvmops.cluster.restore_host#role) use this filter.
options:
  _input:
    description: The C(runs) of M(kvmops.cluster.run_info) since a host was closed, by host.
    type: dict
    required: true
  view:
    description: What M(kvmops.cluster.cluster_view) returned.
    type: dict
    required: true
  dismissed:
    description: Names and UUIDs of guests that nobody misses, as a list, or as a text with commas between them.
    type: raw
    default: []
"""

EXAMPLES = r"""
- name: Show which guests of h1 run nowhere
  ansible.builtin.debug:
    msg: "{{ {'h1': past.runs} | kvmops.cluster.missing_guests(view) | map(attribute='reason') }}"
"""

RETURN = r"""
_value:
  description: The guests, each with C(code), C(reason) and C(remedy).
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import missing_guests as missing
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.filter_input import mapping_with


def missing_guests(runs_by_host: t.Any, view: t.Any, dismissed: t.Any = ()) -> list[Refusal]:
    """The guests that ran on these hosts and run nowhere now."""
    seen = plain(mapping_with("snapshots", view, "a view", "missing_guests"))
    named = plain(dismissed)
    names = [name.strip() for name in named.split(",")] if isinstance(named, str) else list(named)
    silent = [absent["host"] for absent in seen.get("absent") or ()]
    return [
        found
        for host, runs in plain(runs_by_host).items()
        for found in missing.missing_guests(runs, host, seen["snapshots"], silent, names)
    ]


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"missing_guests": missing_guests}
