# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import yaml

from lab.cluster import inventory
from lab.common import settings
from lab.layout import addresses, scenario

HOME = settings.Settings(state=Path("/state"), cache=Path("/cache"), instance=0)
NETWORKS = addresses.networks(0)
PLAN = scenario.parse({"hosts": {"count": 2}})


def test_inventory(tmp_path):
    path = tmp_path / "deep" / "inventory.yml"
    inventory.write(path, inventory.content(HOME, NETWORKS, PLAN))
    group = yaml.safe_load(path.read_text(encoding="utf-8"))["all"]["children"]["hypervisors"]
    assert group["hosts"]["h2"] == {
        "ansible_host": "198.18.1.12",
        "kvmops_cluster_connect_uri": "qemu+ssh://root@h2/system",
        "kvmops_cluster_migration_address": "198.18.0.12",
    }
    assert "kvmops_cluster_bandwidth_mib_s" not in group["hosts"]["h1"], "its link has no limit"
    assert group["vars"]["ansible_ssh_private_key_file"] == "/state/ssh/id_ed25519"
    assert "UserKnownHostsFile=/state/ssh/known_hosts" in group["vars"]["ansible_ssh_common_args"]
    assert "ControlPersist=60s" in group["vars"]["ansible_ssh_common_args"]
