# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.modules import host_health_info


def test_what_worked_before_must_work_again(run_module, cluster, tmp_path):
    host = cluster.add_host("h1")
    host.pools, host.networks = ["images", "iso"], ["default"]
    before = run_module(host_health_info, name="h1", state_dir=str(tmp_path))["health"]
    assert (before["libvirt"], before["qemu"], before["pools"], before["networks"]) == (
        "11.3.0",
        "10.0.2",
        ["images", "iso"],
        ["default"],
    )
    host.qemu_version, host.pools = 11001003, ["iso"]
    after = run_module(host_health_info, name="h1", state_dir=str(tmp_path), expected=before)
    assert after["msg"].startswith("on h1, the storage pool images is not active: see systemctl --failed")
    assert after["health"]["qemu"] == "11.1.3"
    host.pools = ["images", "iso"]
    assert "failed" not in run_module(host_health_info, name="h1", state_dir=str(tmp_path), expected=before)
    assert set(cluster.opened) == {("qemu:///system", True)}
