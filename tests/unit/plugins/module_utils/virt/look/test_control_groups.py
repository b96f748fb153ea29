# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.guest_limits import Limits
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import control_groups

GROUP = "machine.slice/machine-qemu\\x2d3\\x2ddb1.scope"


@pytest.fixture
def host(tmp_path):
    """Files of a host: by path, from its root."""

    def write(files):
        for path, text in {"run/libvirt/qemu/db1.pid": "4242\n", **files}.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        return tmp_path

    return write


def test_version_2(host):
    root = host(
        {
            "proc/4242/cgroup": f"0::/{GROUP}/libvirt/emulator\n",
            f"sys/fs/cgroup/{GROUP}/memory.max": "9126805504\n",
            f"sys/fs/cgroup/{GROUP}/cpu.max": "max 100000\n",
            f"sys/fs/cgroup/{GROUP}/libvirt/memory.max": "max\n",
            f"sys/fs/cgroup/{GROUP}/libvirt/cpu.max": "300000 100000\n",
            f"sys/fs/cgroup/{GROUP}/libvirt/emulator/cpu.max": "50000 100000\n",
            "sys/fs/cgroup/machine.slice/memory.max": "9000000000\n",
            "sys/fs/cgroup/memory.max": "1\n",
        }
    )
    assert control_groups.limits(root, "db1") == Limits(memory_bytes=9000000000, cpus=3.0, emulator_cpus=0.5)


def test_version_1(host):
    root = host(
        {
            "proc/4242/cgroup": (
                f"9:memory:/{GROUP}\n4:cpu,cpuacct:/{GROUP}/emulator\n2:freezer:/{GROUP}\n1:name=systemd:/{GROUP}\n"
            ),
            f"sys/fs/cgroup/memory/{GROUP}/memory.limit_in_bytes": "9126805504\n",
            "sys/fs/cgroup/memory/machine.slice/memory.limit_in_bytes": "9223372036854771712\n",
            f"sys/fs/cgroup/cpu,cpuacct/{GROUP}/cpu.cfs_quota_us": "150000\n",
            f"sys/fs/cgroup/cpu,cpuacct/{GROUP}/cpu.cfs_period_us": "100000\n",
            f"sys/fs/cgroup/cpu,cpuacct/{GROUP}/emulator/cpu.cfs_quota_us": "-1\n",
        }
    )
    assert control_groups.limits(root, "db1") == Limits(memory_bytes=9126805504, cpus=1.5)


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"run/libvirt/qemu/db1.pid": "none"},
        {"proc/4242/cgroup": "0::/\n"},
        {"proc/4242/cgroup": "broken\n"},
        {"proc/4242/cgroup": "0::/../../x\n", "sys/fs/cgroup/memory.max": "1"},
    ],
)
def test_where_nothing_can_be_read_there_is_no_limit(host, files):
    assert control_groups.limits(host(files), "db1") == Limits()
    assert control_groups.limits(host(files), "a/b") == Limits()
