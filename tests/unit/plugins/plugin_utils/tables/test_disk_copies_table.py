# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.disk_copies_table import disk_copies_lines

MIB = 1 << 20
WHY = {"code": "copy_too_young", "reason": "it is 3 h old", "remedy": "wait"}


def copy(host="h1", guest="web1", status="would_remove", **changes):
    made = {
        "guest": {"name": guest, "uuid": "u"},
        "host": host,
        "target": "vda",
        "path": f"/images/{guest}.qcow2",
        "size_bytes": 50 * MIB,
        "allocated_bytes": 47 * MIB,
        "at": "2026-11-24T02:00:00Z",
        "age_s": 3 * 86400,
        "destination": "h2",
        "status": status,
        "why": None,
    }
    return {**made, **changes}


def test_no_copies():
    assert disk_copies_lines([]) == ["No guest has left a copy of a disk behind."]


def test_all_copies_of_all_hosts():
    young = copy("h3", "db1", "kept", age_s=10800, why=WHY)
    gone = copy("h2", "old", "gone", allocated_bytes=None, age_s=None)
    assert disk_copies_lines([young, copy(), gone]) == [
        "3 copies of disks left behind, 94 MiB that can be had back",
        "",
        "HOST  GUEST  DISK    SIZE  AGE  WENT TO  NOW             PATH",
        "h1    web1   vda   47 MiB  3 d  h2       can be removed  /images/web1.qcow2",
        "h2    old    vda        -    -  h2       gone            /images/old.qcow2",
        "h3    db1    vda   47 MiB  3 h  h2       kept            /images/db1.qcow2",
        "",
        "Why they are kept:",
        "  it is 3 h old: wait",
    ]
