# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.storage import Storage


def disk(source, kind="file", backing=()):
    return {"type": kind, "source": source, "backing": list(backing), "shared": None, "shared_why": None}


@pytest.fixture
def storage(tmp_path):
    mounts = [
        {"path": "/", "type": "ext4", "source": "/dev/sda1", "shared": False},
        {"path": str(tmp_path / "nfs"), "type": "nfs4", "source": "nas:/guests", "shared": True},
    ]
    block = tmp_path / "sys/class/block"
    block.mkdir(parents=True)
    devices = tmp_path / "sys/devices"
    for name, where in {
        "sda": "pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda",
        "sdb": "platform/host3/session1/target3:0:0/3:0:0:0/block/sdb",
        "sdc": "pci0000:00/host4/rport-4:0-1/target4:0:0/4:0:0:0/block/sdc",
        "rbd0": "rbd/0/block/rbd0",
        "dm-0": "virtual/block/dm-0",
        "dm-1": "virtual/block/dm-1",
    }.items():
        (devices / where / "slaves").mkdir(parents=True)
        (block / name).symlink_to(devices / where)
    for name, slaves in {"dm-0": ["sdb", "sdc"], "dm-1": ["dm-0", "sda"]}.items():
        for slave in slaves:
            (block / name / "slaves" / slave).symlink_to(block / slave)
    return Storage(None, mounts, tmp_path / "sys")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sda", (False, "local block device sda")),
        ("sdb", (True, "iSCSI (sdb)")),
        ("sdc", (True, "Fibre Channel (sdc)")),
        ("rbd0", (True, "block device rbd0")),
        # A stack is shared only if all of it is.
        ("dm-0", (True, "iSCSI (sdb)")),
        ("dm-1", (False, "local block device sda")),
        ("sdz", (None, None)),
    ],
)
def test_block_devices(storage, name, expected):
    described = disk(f"/dev/{name}", "block")
    storage.describe(described)
    assert (described["shared"], described["shared_why"]) == expected


def test_files_and_what_they_rest_on(storage, tmp_path):
    shared, local = str(tmp_path / "nfs/a.qcow2"), "/var/lib/b.qcow2"
    for given, expected in (
        (disk(shared), (True, "nfs4 (nas:/guests)")),
        (disk(local), (False, "ext4")),
        (disk(shared, backing=[local]), (False, "ext4")),
        (disk(shared, backing=[shared]), (True, "nfs4 (nas:/guests)")),
        (disk("rbd:pool/image", "network"), (True, "rbd:pool/image")),
        (disk("nbd+unix:x", "network"), (False, "nbd+unix on this host")),
        (disk(None), (None, None)),
    ):
        storage.describe(given)
        assert (given["shared"], given["shared_why"]) == expected


def test_symbolic_links_are_followed_up_to_where_a_server_would_have_to_answer(storage, tmp_path):
    (tmp_path / "images").symlink_to("nfs")
    (tmp_path / "loop").symlink_to("loop")
    assert storage.resolve(str(tmp_path / "images/a/../b.qcow2")) == str(tmp_path / "nfs/b.qcow2")
    # A link to itself has no end, but this has.
    storage.resolve(str(tmp_path / "loop/x"))


def test_a_volume_is_looked_up_once(tmp_path):
    class Pools:
        asked = 0

        def storagePoolLookupByName(self, name):  # noqa: N802
            self.asked += 1
            return self

        def storageVolLookupByName(self, name):  # noqa: N802
            return self

        def path(self):
            return "/images/web1"

    pools = Pools()
    mounts = [{"path": "/images", "type": "ceph", "source": "mon:/", "shared": True}]
    storage = Storage(pools, mounts, tmp_path)
    for _again in range(2):
        described = disk("images/web1", "volume")
        storage.describe(described)
        assert (described["shared"], described["shared_why"]) == (True, "ceph (mon:/)")
    assert pools.asked == 1
