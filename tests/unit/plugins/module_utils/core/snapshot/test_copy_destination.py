# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import copy_destination
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, MIB, disk, domain, snapshot

IMAGES = "/var/lib/libvirt/images"
COPY = intent.normalise({"allow_storage_copy": True})


def local(target="vda", **changes):
    """A disk that only its own host sees."""
    source = f"{IMAGES}/web1-{target}.qcow2"
    return disk(target, **{"source": source, "shared": False, "shared_why": "ext4", "data_bytes": GIB, **changes})


def pool(name="images", **changes):
    made = {
        "name": name,
        "type": "dir",
        "path": IMAGES,
        "active": True,
        "capacity_bytes": 100 * GIB,
        "available_bytes": 50 * GIB,
        "volumes": [],
    }
    return {**made, **changes}


def codes(disks, *pools, source=None, ours=()):
    return [one["code"] for one in against(disks, *pools, source=source, ours=ours)]


def against(disks, *pools, source=None, ours=(), wanted=COPY):
    guest = domain("web1", disks=list(disks))
    there = snapshot("h2", storage_pools=list(pools))
    return copy_destination.refusals(guest, source or snapshot("h1"), there, wanted, ours=ours)


def test_a_pool_with_room_is_a_place():
    assert against([local()], pool()) == []


def test_a_host_that_tells_nothing_of_its_pools_is_not_refused():
    guest = domain("web1", disks=[local()])
    assert copy_destination.refusals(guest, snapshot("h1"), snapshot("h2"), COPY) == []


def test_only_copied_disks_need_a_place():
    assert against([disk()]) == []
    assert against([local()], wanted=intent.normalise({})) == []
    assert against([local(readonly=True)]) == []


def test_nothing_that_exists_is_overwritten():
    (why,) = against([local()], pool(volumes=["web1-vda.qcow2"]))
    assert why["code"] == "disk_exists"
    assert why["reason"] == (
        f"{IMAGES}/web1-vda.qcow2 is on h2 already, where disk vda of web1 would be copied, and nothing that exists is "
        "overwritten"
    )
    assert why["remedy"] == (
        "see on h2 what it is (virsh vol-info web1-vda.qcow2 --pool images), and rename or remove it if nobody needs it"
    )


def test_an_old_copy_of_our_own_may_be_overwritten():
    assert against([local()], pool(volumes=["web1-vda.qcow2"]), ours=[f"{IMAGES}/web1-vda.qcow2"]) == []
    assert codes([local()], pool(volumes=["web1-vda.qcow2"]), ours=[f"{IMAGES}/other"]) == ["disk_exists"]


@pytest.mark.parametrize(
    ("changes", "code", "reason", "remedy"),
    [
        (
            {"active": False},
            "pool_inactive",
            "storage pool images of h2, where disk vda of web1 would be copied, is not active",
            "start it on h2: virsh pool-start images",
        ),
        (
            {"type": "iscsi"},
            "pool_makes_no_volumes",
            "storage pool images of h2 is of type iscsi, in which libvirt cannot make a copy of disk vda of web1",
            "put the disk on shared storage, or copy it by hand while the guest is off",
        ),
        (
            {"volumes": None},
            "pool_not_answering",
            "storage pool images of h2, where disk vda of web1 would be copied, does not say what is in it",
            "see on h2: virsh pool-refresh images",
        ),
        (
            {"path": "/elsewhere"},
            "no_pool",
            f"h2 has no storage pool at {IMAGES}, where disk vda of web1 would be copied",
            f"make one on h2: virsh pool-create-as images dir --target {IMAGES}",
        ),
    ],
)
def test_a_pool_that_is_no_place(changes, code, reason, remedy):
    assert against([local()], pool(**changes)) == [{"code": code, "reason": reason, "remedy": remedy}]


def test_an_old_definition_beside_the_active_pool_is_no_obstacle():
    assert against([local()], pool("old", active=False, volumes=None), pool()) == []


def test_room_is_counted_over_all_disks_of_a_pool():
    twenty = [local(f"vd{letter}", data_bytes=GIB) for letter in "abcdefghijklmnopqrstuvwxy"]
    assert against(twenty, pool(available_bytes=31 * GIB)) == []
    (why,) = against(twenty[:2], pool(available_bytes=6 * GIB))
    assert why["code"] == "no_space"
    assert why["reason"] == (
        "storage pool images of h2 has 6 GiB free; disks vda and vdb need 2 GiB, and 5 GiB must stay free"
    )


def test_what_stays_free_of_a_large_pool_is_bounded():
    assert copy_destination.reserve_bytes(pool(capacity_bytes=2000 * GIB)) == 10 * GIB
    assert copy_destination.reserve_bytes(pool(capacity_bytes=None)) == 0


def test_a_copy_that_replaces_an_old_one_needs_no_room():
    full = pool(volumes=["web1-vda.qcow2"], available_bytes=MIB)
    assert against([local()], full, ours=[f"{IMAGES}/web1-vda.qcow2"]) == []


@pytest.mark.parametrize("source", ["/dev/vg0/web1", "/dev/vg0//web1"])
def test_a_logical_volume_is_copied_to_a_new_one(source):
    volumes = pool("vg0", type="logical", path="/dev/vg0")
    block = local(type="block", format="raw", source=source)
    assert against([block], volumes) == []
    assert codes([block], pool("vg0", type="logical", path="/dev/vg0", volumes=["web1"])) == ["disk_exists"]
    # All of it is allocated.
    assert codes([block], pool("vg0", type="logical", path="/dev/vg0", available_bytes=9 * GIB)) == ["no_space"]


def test_a_device_without_a_pool_is_never_written_to():
    (why,) = against([local(type="block", format="raw", source="/dev/sdb")], pool())
    assert why["code"] == "no_pool"
    assert why["reason"] == "h2 has no storage pool at /dev, where disk vda of web1 would be copied to a new device"
    assert why["remedy"].endswith("or put the disk on shared storage")


def test_a_volume_goes_to_the_pool_of_the_same_name():
    volume = local(type="volume", source="fast/web1")
    assert against([volume], pool("fast", path="/fast")) == []
    assert codes([volume], pool("fast", path="/fast", volumes=["web1"])) == ["disk_exists"]
    (why,) = against([volume], pool())
    assert why["reason"] == "h2 has no storage pool called fast, where disk vda of web1 would be copied"
    assert why["remedy"] == "define one on h2 as on h1 (virsh pool-dumpxml fast, virsh pool-define, virsh pool-start)"


@pytest.mark.parametrize(
    ("layer", "code"),
    [
        (f"{IMAGES}/base.qcow2", None),
        ("/shared/base.qcow2", None),
        ("rbd:pool/base", None),
        ("/local/base.qcow2", "no_backing_file"),
    ],
)
def test_the_layers_below_a_copied_disk_must_be_there(layer, code):
    source = snapshot("h1", mounts=[{"path": "/shared", "type": "nfs4", "source": "nas:/x", "shared": True}])
    found = against([local(backing=[layer])], pool(volumes=["base.qcow2"]), source=source)
    assert [one["code"] for one in found] == ([code] if code else [])
    if code:
        assert found[0]["reason"] == f"disk vda rests on {layer}, which no storage pool of h2 has"
        assert "virsh blockpull web1 vda --wait" in found[0]["remedy"]


def test_a_directory_with_a_trailing_slash_is_the_same():
    assert against([local(source=f"{IMAGES}//web1.qcow2")], pool(path=f"{IMAGES}/")) == []


def many(count, **changes):
    return [local(f"vd{chr(ord('a') + number)}", **changes) for number in range(count)]


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"active": False}, "pool_inactive", "is not active"),
        ({"volumes": None}, "pool_not_answering", "does not say what is in it"),
    ],
)
def test_what_is_wrong_with_a_pool_is_told_once_for_25_disks(changes, code, where):
    (why,) = against(many(25), pool(**changes))
    assert why["code"] == code
    assert why["reason"] == (
        f"storage pool images of h2, where disks vda, vdb, vdc and 22 more of web1 would be copied, {where}"
    )


def test_a_pool_that_is_missing_is_told_once_for_25_disks():
    (why,) = against(many(25), pool(path="/elsewhere"))
    assert why["reason"] == (
        f"h2 has no storage pool at {IMAGES}, where disks vda, vdb, vdc and 22 more of web1 would be copied"
    )
    two = [local(), local("vdb", source="/other/b.qcow2")]
    assert codes(two, pool(path="/elsewhere")) == ["no_pool", "no_pool"]


def test_room_for_25_disks_is_told_in_one_sentence():
    (why,) = against(many(25), pool(available_bytes=20 * GIB))
    assert why["reason"] == (
        "storage pool images of h2 has 20 GiB free; disks vda, vdb, vdc and 22 more need 25 GiB, and 5 GiB must stay "
        "free"
    )


def test_each_image_that_exists_is_told():
    assert codes(many(2), pool(volumes=["web1-vda.qcow2", "web1-vdb.qcow2"])) == ["disk_exists"] * 2


def test_a_chain_of_30_is_told_in_one_sentence():
    (why,) = against([local(backing=[f"/local/{number}.qcow2" for number in range(29, -1, -1)])], pool())
    assert why == {
        "code": "no_backing_file",
        "reason": "disk vda rests on /local/29.qcow2, /local/28.qcow2, /local/27.qcow2 and 27 more, which no storage "
        "pool of h2 has",
        "remedy": "make the disk independent of them (virsh blockpull web1 vda --wait), or put the same files there "
        "on h2, in a storage pool",
    }


@pytest.mark.parametrize(
    ("layer", "known"),
    [
        # What libvirt makes of ../base/b.qcow2, and of ./b.qcow2, in an image.
        (f"{IMAGES}/../base/b.qcow2", "/var/lib/libvirt/base"),
        (f"{IMAGES}/./b.qcow2", IMAGES),
    ],
)
def test_a_relative_backing_file_is_looked_for_where_it_leads(layer, known):
    disks = [local(backing=[layer])]
    assert against(disks, pool(), pool("base", path=known, volumes=["b.qcow2"])) == []
    (why,) = against(disks, pool())
    assert why["reason"] == f"disk vda rests on {known}/b.qcow2, which no storage pool of h2 has"


def test_a_relative_backing_file_that_leads_out_of_a_share_is_not_on_it():
    source = snapshot("h1", mounts=[{"path": "/shared", "type": "nfs4", "source": "nas:/x", "shared": True}])
    assert codes([local(backing=["/shared/../local/b.qcow2"])], pool(), source=source) == ["no_backing_file"]
    assert codes([local(backing=["/local/../shared/b.qcow2"])], pool(), source=source) == []


def test_a_block_device_is_not_copied_into_a_folder():
    # A link in a folder of images leads to a device.
    (why,) = against([local(type="block", format="raw", source=f"{IMAGES}/web1")], pool())
    assert why == {
        "code": "pool_makes_no_devices",
        "reason": "storage pool images of h2 has files, and disk vda of web1 is a block device, which needs one there",
        "remedy": "put the disk on shared storage, or define it as a file while the guest is off (virsh edit web1)",
    }
