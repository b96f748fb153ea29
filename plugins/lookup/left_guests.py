# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: left_guests
short_description: Find the guests that left a host, in the reports of its drains
version_added: 0.1.0
author:
  - kvmops.cluster contributors (@kvmops)
description:
  - Reads the reports that M(kvmops.cluster.migration_report) wrote on the controller. Returns the guests that a drain
    or an evacuation moved away from a host.
  - Leaves out guests that left the host for another reason, such as a rebalance, or to make room for others.
  - Also leaves out guests that have come back, guests that were there only while their own host was away, and guests
    that a rebalance has moved since.
options:
  _terms:
    description: Names of hosts.
    type: list
    elements: str
    required: true
  directory:
    description: The directory of the reports. If it does not exist, there are no reports.
    type: path
    required: true
  runs:
    description:
      - What the host itself has on record, in the form of RV(kvmops.cluster.run_info#module:runs). It counts for runs
        without a report in O(directory), such as runs that were interrupted.
    type: list
    elements: dict
    default: []
seealso:
  - module: kvmops.cluster.migration_report
  - module: kvmops.cluster.run_info
  - module: kvmops.cluster.migration_plan
"""

EXAMPLES = r"""
- name: Plan the return of the guests that left h1
  kvmops.cluster.migration_plan:
    goal: restore
    hosts: [h1]
    snapshots: "{{ view.snapshots }}"
    left: "{{ query('kvmops.cluster.left_guests', 'h1', directory='/srv/kvmops-reports', runs=record.runs) }}"
"""

RETURN = r"""
_list:
  description: Their C(uuid) and C(source), in the form of O(kvmops.cluster.migration_plan#module:left).
  type: list
  elements: dict
"""

import typing as t
from pathlib import Path

from ansible.plugins.lookup import LookupBase

from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.home_claims import claims, without_reported
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files.report_files import read_reports


class LookupModule(LookupBase):
    """Finds rows of reports."""

    def run(
        self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any
    ) -> list[dict[str, t.Any]]:
        self.set_options(var_options=variables, direct=kwargs)
        reports = read_reports(Path(self.get_option("directory")))
        told = [*reports, *without_reported(self.get_option("runs"), reports)]
        return [row for host in terms for row in left_rows(host, told)]


def left_rows(host: str, reports: t.Iterable[t.Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """A row for each guest that this host wants back.

    Args:
        host: the host's name.
        reports: reports in any order.
    """
    return [{"uuid": uuid, "source": host} for uuid, hosts in claims(reports).items() if host in hosts]
