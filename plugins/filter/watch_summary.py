# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: watch_summary
short_description: Say what came of runs that were watched
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Says for each run that M(kvmops.cluster.run_watch) has watched what became of its guests, on which hosts no run was
    at work, and which hosts do not answer.
  - The playbook C(kvmops.cluster.watch) uses it.
options:
  _input:
    description: What M(kvmops.cluster.run_watch) has returned, by host.
    type: dict
    required: true
seealso:
  - module: kvmops.cluster.run_watch
  - module: kvmops.cluster.show_lines
"""

EXAMPLES = r"""
- name: Say what came of it
  run_once: true
  vars:
    said: "{{ {'h1': seen} | kvmops.cluster.watch_summary }}"
  kvmops.cluster.show_lines:
    lines: "{{ said.lines }}"
    failure: "{{ said.failure }}"
"""

RETURN = r"""
_value:
  description:
    - C(lines), and C(failure). C(failure) is a sentence if a guest of a run that was watched has not moved, or if no
      host answers. Otherwise it is empty.
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import watch_summary as summaries


def watch_summary(results: t.Any) -> dict[str, t.Any]:
    """What came of runs, as lines and perhaps a failure."""
    given = plain(results)
    if not isinstance(given, dict) or not all(isinstance(one, dict) for one in given.values()):
        raise AnsibleFilterError("watch_summary: give what kvmops.cluster.run_watch returned, by host")
    return summaries.watch_summary(given)


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"watch_summary": watch_summary}
