# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import is_copied
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.storage import Storage
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt


def disk(source, kind="file", below=(), **more):
    layers = [{"type": "file", "source": path, "role": role} for role, path in below]
    return {
        "target": "vda",
        "type": kind,
        "source": source,
        "layers": layers,
        "shared": None,
        "shared_why": None,
        **more,
    }


@pytest.fixture
def storage(tmp_path):
    mounts = [
        {"path": "/", "type": "ext4", "source": "/dev/sda1", "shared": False},
        {"path": str(tmp_path / "nfs"), "type": "nfs4", "source": "nas:/guests", "shared": True},
        {"path": "/mfs", "type": "fuse.moosefs", "source": "m:9421", "shared": False, "undeclared": True},
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


#: What udev makes of sda, on every host.
WWN = "/dev/disk/by-id/wwn-0x5"


@pytest.fixture
def linked(monkeypatch):
    """A symbolic link to sda."""
    follow = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path, **more: "/dev/sda" if path == WWN else follow(path, **more))


@pytest.mark.parametrize(
    ("source", "patterns", "expected"),
    [
        (WWN, [WWN], (True, "block device sda, which all hosts see by the inventory")),
        (
            WWN,
            ["/dev/mapper/*", "/dev/disk/by-id/wwn-*"],
            (True, "block device sda, which all hosts see by the inventory"),
        ),
        (WWN, ["/dev/disk/by-id/WWN-*", "wwn-0x5", "/dev/disk/by-id"], (False, "local block device sda")),
        # The definition has the name that may be another disk on another host.
        ("/dev/sda", ["/dev/disk/by-id/wwn-*"], (False, "local block device sda")),
        ("/dev/disk/by-id/../../sda", ["/dev/disk/by-id/*"], (False, "local block device sda")),
    ],
)
def test_block_devices_that_the_operator_says_all_hosts_see(storage, tmp_path, linked, source, patterns, expected):
    told = Storage(None, [], tmp_path / "sys", patterns)
    described = disk(source, "block")
    told.describe(described)
    assert (described["shared"], described["shared_why"]) == expected
    assert is_copied(described) is not expected[0]


def test_a_link_outside_of_dev_is_known_by_its_own_name(storage, tmp_path):
    link = tmp_path / "guest.img"
    link.symlink_to("/dev/sda")
    for patterns, shared in (([str(link)], True), (["/dev/disk/by-id/*"], False)):
        described = disk(str(link), "block")
        Storage(None, [], tmp_path / "sys", patterns).describe(described)
        assert described["shared"] is shared


def test_a_pattern_makes_no_device_of_one_that_is_not_there(tmp_path):
    described = disk(WWN, "block")
    Storage(None, [], tmp_path / "sys", ["/dev/disk/by-id/*"]).describe(described)
    assert described["shared"] is None


def test_files_and_what_they_rest_on(storage, tmp_path):
    shared, local = str(tmp_path / "nfs/a.qcow2"), "/var/lib/b.qcow2"
    for given, expected in (
        (disk(shared), (True, "nfs4 (nas:/guests)")),
        (disk(local), (False, "ext4")),
        (disk(shared, below=[("backing", local)]), (False, "ext4")),
        (disk(shared, below=[("data", local)]), (False, "ext4")),
        (disk(shared, below=[("backing", shared), ("data", shared)]), (True, "nfs4 (nas:/guests)")),
        (disk("nbd+localhost:x", "network"), (False, "nbd on localhost")),
        (disk("/run/v/blk.sock", "vhostuser"), (None, "vhostuser device")),
        (disk("rbd:pool/image", "network"), (True, "rbd:pool/image")),
        (disk("nbd+unix:x", "network"), (False, "nbd+unix on this host")),
        (disk(None), (None, None)),
    ):
        storage.describe(given)
        assert (given["shared"], given["shared_why"]) == expected


def test_where_it_must_not_be_copied_the_reason_is_told(storage, tmp_path):
    shared = str(tmp_path / "nfs/a.qcow2")
    told = {}
    for name, given in {
        "data": disk(shared, below=[("data", "/var/lib/a.raw")]),
        "backing": disk(shared, below=[("backing", "/var/lib/base.qcow2")]),
        "server": disk("nbd+localhost:x", "network"),
        "undeclared": disk("/mfs/a.qcow2"),
        "local": disk("/var/lib/a.qcow2", below=[("backing", "/var/lib/base.qcow2")]),
    }.items():
        storage.describe(given)
        assert given["shared"] is False
        told[name] = given["uncopyable"]
        assert not given["uncopyable"] or not is_copied(given)
    assert told.pop("local") is None
    assert {name: (one["code"], one["reason"]) for name, one in told.items()} == {
        "data": (
            "unshared_layer",
            (
                f"disk vda ({shared}) rests on /var/lib/a.raw, which is on local storage (ext4); copying the disk "
                "would overwrite its shared image"
            ),
        ),
        "backing": (
            "unshared_layer",
            (
                f"disk vda ({shared}) rests on /var/lib/base.qcow2, which is on local storage (ext4); copying the disk "
                "would overwrite its shared image"
            ),
        ),
        "server": (
            "local_server",
            (
                "disk vda (nbd+localhost:x) is served by this very host (nbd on localhost); at the destination that is "
                "another server"
            ),
        ),
        "undeclared": (
            "undeclared_share",
            (
                "disk vda (/mfs/a.qcow2) is on fuse.moosefs (m:9421); several hosts can share that, but libvirt takes "
                "it for local storage"
            ),
        ),
    }
    assert told["undeclared"]["remedy"] == (
        'name it in /etc/libvirt/qemu.conf on all hosts (shared_filesystems = ["/mfs"], libvirt 10.10 or later), and '
        "restart libvirtd (virtqemud)"
    )
    assert told["backing"]["remedy"] == (
        "put /var/lib/base.qcow2 on shared storage, or take it into the image (virsh blockpull)"
    )


def test_a_read_only_medium_needs_no_declaration(storage):
    """libvirt looks only at disks that the guest can write to."""
    medium = disk("/mfs/install.iso", readonly=True)
    storage.describe(medium)
    assert (medium["shared"], medium["shared_why"]) == (True, "fuse.moosefs (m:9421)")
    assert "uncopyable" not in medium


@pytest.mark.parametrize(
    ("transports", "expected"),
    [
        (["tcp"], (True, "NVMe over tcp (nvme1n1)")),
        (["rdma", "tcp"], (True, "NVMe over rdma/tcp (nvme1n1)")),
        (["pcie"], (False, "local block device nvme1n1")),
        ([], (False, "local block device nvme1n1")),
    ],
)
def test_nvme_may_be_on_a_network(storage, tmp_path, transports, expected):
    """With multipath, a namespace is below its subsystem, and the controllers are beside it."""
    subsystem = tmp_path / "sys/devices/virtual/nvme-subsystem/nvme-subsys1"
    (subsystem / "nvme1n1").mkdir(parents=True)
    (subsystem / "nvme1n1/device").symlink_to(subsystem)
    for number, transport in enumerate(transports):
        (subsystem / f"nvme{number}").mkdir()
        (subsystem / f"nvme{number}/transport").write_text(f"{transport}\n")
    (tmp_path / "sys/class/block/nvme1n1").symlink_to(subsystem / "nvme1n1")
    described = disk("/dev/nvme1n1", "block")
    storage.describe(described)
    assert (described["shared"], described["shared_why"]) == expected


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


def test_a_link_to_a_block_device_is_that_device(storage, tmp_path):
    for name, expected in (("sda", (False, "local block device sda")), ("sdb", (True, "iSCSI (sdb)"))):
        (tmp_path / name).symlink_to(f"/dev/{name}")
        described = disk(str(tmp_path / name), "block")
        storage.describe(described)
        assert (described["shared"], described["shared_why"]) == expected


def test_a_link_to_an_image_is_on_the_storage_of_the_image(storage, tmp_path):
    (tmp_path / "nfs").mkdir()
    (tmp_path / "web1.qcow2").symlink_to(tmp_path / "nfs/web1.qcow2")
    described = disk(str(tmp_path / "web1.qcow2"))
    storage.describe(described)
    assert (described["shared"], described["shared_why"]) == (True, "nfs4 (nas:/guests)")


@pytest.mark.parametrize(
    ("code", "uncopyable"),
    [
        (
            libvirt.VIR_ERR_OPERATION_INVALID,
            {
                "code": "volume_not_found",
                "reason": "disk vda (fast/web1) is in storage pool fast of this host, which is not active, so nobody "
                "can tell whether other hosts see it",
                "remedy": "virsh pool-start fast, then run it again",
            },
        ),
        (
            libvirt.VIR_ERR_NO_STORAGE_POOL,
            {
                "code": "volume_not_found",
                "reason": "disk vda (fast/web1) is in storage pool fast, which this host does not have any more, so "
                "nobody can tell whether other hosts see it",
                "remedy": "define that pool again and start it (virsh pool-define, virsh pool-start), then run it "
                "again",
            },
        ),
        (
            libvirt.VIR_ERR_NO_STORAGE_VOL,
            {
                "code": "volume_not_found",
                "reason": "disk vda (fast/web1) is no volume that storage pool fast of this host knows, so nobody "
                "can tell whether other hosts see it",
                "remedy": "virsh pool-refresh fast, then run it again",
            },
        ),
        # The daemon of the pools does not run: nothing is known, and nothing refused.
        (libvirt.VIR_ERR_SYSTEM_ERROR, None),
    ],
)
def test_a_volume_whose_pool_does_not_tell_where_it_is(tmp_path, code, uncopyable):
    class Pools:
        def storagePoolLookupByName(self, name):  # noqa: N802
            raise libvirt.libvirtError("no", code)

    described = disk("fast/web1", "volume")
    Storage(Pools(), [], tmp_path).describe(described)
    assert described["shared"] is (None if uncopyable is None else False)
    assert described.get("uncopyable") == uncopyable
    assert not is_copied(described)
