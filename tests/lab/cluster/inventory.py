# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Ansible inventory of a lab. It names variables; what they mean is for whoever reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lab.common.settings import Settings
from lab.host import ssh
from lab.layout.addresses import Networks
from lab.layout.scenario import HostPlan, Scenario

#: A megabit per second of the link, in MiB/s of what a hypervisor sends: 4.4 % go to headers of TCP/IP and Ethernet.
MIB_S_OF_A_MEGABIT = 1e6 / 8 * 0.956 / 2**20
HEADER = "# Written by the lab; changes are lost.\n"


def content(settings: Settings, networks: Networks, scenario: Scenario) -> dict[str, Any]:
    """Return the inventory as data."""
    common = {
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(settings.ssh_key),
        "ansible_ssh_common_args": ssh.option_text(settings),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    hosts = {host.name: _host(networks, host) for host in scenario.hosts}
    return {"all": {"children": {"hypervisors": {"hosts": hosts, "vars": common}}}}


def _host(networks: Networks, host: HostPlan) -> dict[str, Any]:
    variables: dict[str, Any] = {
        "ansible_host": networks.management.host(host.number),
        "kvmops_cluster_connect_uri": f"qemu+ssh://root@{host.name}/system",
        "kvmops_cluster_migration_address": networks.migration.host(host.number),
    }
    if host.link_mbit:
        variables["kvmops_cluster_bandwidth_mib_s"] = round(host.link_mbit * MIB_S_OF_A_MEGABIT, 2)
    return variables


def write(path: Path, data: dict[str, Any]) -> None:
    """Write an inventory file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + "---\n" + yaml.safe_dump(data, sort_keys=False, width=1000), encoding="utf-8")
