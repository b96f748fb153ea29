# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import begun_copies, left_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import published_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.guest_migration import GuestMigration
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import ports
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import MIB, URI, Move, Rig

EXT4 = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n"
NAMED_SOMEWHERE = {"state": (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)}


class DiskRig(Rig):
    """Two hosts with a pool each, at a directory that is there on this machine, and a guest with a local disk."""

    def __init__(self, cluster, monkeypatch, tmp_path, **settings):
        super().__init__(cluster, monkeypatch, tmp_path, **settings)
        mountinfo = tmp_path / "proc/self/mountinfo"
        mountinfo.parent.mkdir(parents=True)
        mountinfo.write_text(EXT4, encoding="utf-8")
        self.images = tmp_path / "images"
        self.images.mkdir()
        self.path = str(self.images / "web1.qcow2")
        Path(self.path).write_bytes(b"x" * 300_000)
        self.pool = self.h2.add_pool("images", str(self.images))

    def guest(self, **settings):
        block = [{"name": "vda", "capacity": 256 * MIB, "allocation": 100 * MIB}]
        return self.h1.add_guest("web1", disk=self.path, block=block, **settings)

    def moves(self, guest, **intent):
        """A move that succeeds if it starts."""
        self.cluster.on_migrate = lambda job: job.complete()
        return self.move(guest, **{"allow_storage_copy": True, **intent})


@pytest.fixture
def rig(cluster, monkeypatch, tmp_path):
    return DiskRig(cluster, monkeypatch, tmp_path)


def code_of(result):
    assert result["outcome"] == "refused", result
    return result["refusals"][0]["code"]


# --- what is at the destination already ---------------------------------------------------------------------------


def test_the_copy_is_made_new_and_as_large_as_the_disk(rig):
    result = rig.moves(rig.guest())
    assert result["outcome"] == "moved", result
    assert rig.h2.files[rig.path].capacity == 256 * MIB
    # libvirt found it, as it was made for it.
    assert rig.h2.files[rig.path].content == "overwritten"


@pytest.mark.parametrize("known", [True, False])
def test_an_image_that_exists_is_not_overwritten_whether_its_pool_knows_it_or_not(rig, known):
    theirs = rig.h2.add_file(rig.path)
    theirs.content = "precious"
    if known:
        rig.pool.refresh()
    result = rig.moves(rig.guest())
    assert code_of(result) == "disk_exists"
    assert rig.h2.files[rig.path].content == "precious"
    assert rig.h1.guest("web1").active


def test_an_image_that_appears_in_the_last_moment_is_not_overwritten(rig, monkeypatch):
    refresh = libvirt.Pool.refresh

    def appears(pool, flags=0):
        refresh(pool, flags)
        rig.h2.files[rig.path] = libvirt.File()
        rig.h2.files[rig.path].content = "precious"
        return 0

    monkeypatch.setattr(libvirt.Pool, "refresh", appears)
    result = rig.moves(rig.guest())
    assert code_of(result) == "disk_exists"
    assert rig.h2.files[rig.path].content == "precious"
    assert "virDomainMigrateToURI3" not in [call for _host, call in rig.cluster.writes]


def test_a_guest_cannot_permit_it(rig):
    assert code_of(rig.moves(rig.guest(), allow_storage_copy=False)) == "unshared_disk"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"active": False}, "pool_inactive"),
        ({"available": 10 * MIB}, "no_space"),
        ({"path": "/elsewhere"}, "no_pool"),
        ({"error": libvirt.libvirtError("cannot open path: Input/output error")}, "pool_not_answering"),
    ],
)
def test_a_pool_that_is_no_place_is_told_before_anything_starts(rig, change, code):
    for name, value in change.items():
        setattr(rig.pool, name, value)
    assert code_of(rig.moves(rig.guest())) == code
    assert "virStorageVolCreateXML" not in [call for _host, call in rig.cluster.writes]


def test_a_host_without_a_storage_driver_is_no_place(rig):
    rig.h2.storage_driver = False
    assert code_of(rig.moves(rig.guest())) == "no_pool"


def test_check_mode_looks_at_no_pool_anew(cluster, monkeypatch, tmp_path):
    rig = DiskRig(cluster, monkeypatch, tmp_path, read_only=True)
    result = rig.mover.check(rig.step(rig.guest(), allow_storage_copy=True))
    assert result["outcome"] == "would_move", result
    assert result["forecast"]["disks"]["bytes"] > 0
    rig.h2.add_file(rig.path)
    rig.pool.refresh()
    assert code_of(rig.mover.check(rig.step(rig.guest(), allow_storage_copy=True))) == "disk_exists"
    # Libvirt still lists it; nobody has refreshed the pool.
    del rig.h2.files[rig.path]
    assert rig.mover.check(rig.step(rig.guest(), allow_storage_copy=True))["outcome"] == "would_move"
    assert rig.cluster.writes == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (libvirt.libvirtError("no storage vol with matching path", libvirt.VIR_ERR_NO_STORAGE_VOL), "would_move"),
        (libvirt.libvirtError("cannot open file: Input/output error", libvirt.VIR_ERR_SYSTEM_ERROR, int1=5), "refused"),
        (libvirt.libvirtError("internal error: client socket is closed"), "refused"),
    ],
)
def test_only_a_volume_that_is_surely_gone_leaves_its_place_free(cluster, monkeypatch, tmp_path, error, outcome):
    rig = DiskRig(cluster, monkeypatch, tmp_path, read_only=True)
    rig.h2.add_file(rig.path)
    rig.pool.refresh()
    rig.pool.volume_error = error
    result = rig.mover.check(rig.step(rig.guest(), allow_storage_copy=True))
    assert result["outcome"] == outcome
    assert [one["code"] for one in result["refusals"]] == ([] if outcome == "would_move" else ["disk_exists"])


# --- a copy that fails --------------------------------------------------------------------------------------------


def full(job):
    job.fail(text="operation failed: migration of disk vda failed: No space left on device")


def test_a_copy_that_fails_leaves_nothing_and_can_be_tried_again(rig):
    rig.cluster.on_migrate = full
    failed = rig.move(rig.guest(), allow_storage_copy=True)
    assert failed["outcome"] == "failed"
    assert "No space left on device" in failed["error"]
    assert rig.h2.files == {}
    assert not failed.get("left_copies")
    assert left_copies.load(str(rig.settings.state_dir), rig.h1.guest("web1").uuid) is None
    assert rig.moves(rig.h1.guest("web1"))["outcome"] == "moved"


def test_what_a_run_that_died_has_left_unfinished_is_taken_away(rig):
    guest = rig.guest()
    rig.h2.add_file(rig.path)
    begun_copies.store(
        rig.settings.state_dir,
        {
            "schema": begun_copies.SCHEMA,
            "guest": {"name": "web1", "uuid": guest.uuid},
            "destination": "h2",
            "disks": [{"target": "vda", "source": rig.path, "path": rig.path}],
        },
    )
    assert rig.moves(guest)["outcome"] == "moved"


def test_a_copy_that_the_guest_itself_is_defined_with_there_did_arrive_and_is_not_taken_away(rig):
    guest = rig.guest()
    rig.h2.add_file(rig.path).content = "precious"
    rig.pool.refresh()
    rig.h2.add_guest("web1", uuid=guest.uuid, disk=rig.path, **NAMED_SOMEWHERE)
    begun_copies.store(
        rig.settings.state_dir,
        {
            "schema": begun_copies.SCHEMA,
            "guest": {"name": "web1", "uuid": guest.uuid},
            "destination": "h2",
            "disks": [{"target": "vda", "source": rig.path, "path": rig.path}],
        },
    )
    assert code_of(rig.moves(guest)) == "disk_exists"
    assert rig.h2.files[rig.path].content == "precious"


def test_what_another_guest_has_made_of_an_unfinished_copy_is_not_taken_away(rig):
    guest = rig.guest()
    rig.cluster.on_migrate = full
    rig.move(guest, allow_storage_copy=True)
    rig.h2.add_file(rig.path).content = "precious"
    rig.pool.refresh()
    rig.h2.add_guest("other", disk=rig.path, **NAMED_SOMEWHERE)
    assert code_of(rig.moves(guest)) == "disk_exists"
    assert rig.h2.files[rig.path].content == "precious"


def test_without_a_record_nothing_is_begun(rig, monkeypatch):
    def refuses(*dummy):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(begun_copies, "store", refuses)
    assert code_of(rig.moves(rig.guest())) == "copies_not_recorded"
    assert rig.h2.files == {}


# --- what stays behind, and the way home --------------------------------------------------------------------------


def test_what_stays_behind_is_in_the_result_and_on_record(rig):
    guest = rig.guest()
    result = rig.moves(guest)
    (left,) = result["left_copies"]
    found = Path(rig.path).stat()
    assert (left["host"], left["path"], left["target"], left["destination"]) == ("h1", rig.path, "vda", "h2")
    assert (left["size_bytes"], left["mtime_ns"]) == (found.st_size, found.st_mtime_ns)
    record = left_copies.load(rig.settings.state_dir, guest.uuid)
    assert [disk["path"] for disk in record["disks"]] == [rig.path]
    assert record["host"] == "h1"
    (secret,) = rig.h1.secrets.values()
    assert json.loads(libvirt.ET.fromstring(secret.xml).findtext("description")) == record
    assert any("stays on h1 as the copy to come home to" in text for _phase, text in rig.recorder.lines)


def test_a_move_without_copied_disks_leaves_nothing(rig):
    result = rig.moves(rig.h1.add_guest("plain"))
    assert result["outcome"] == "moved"
    assert "left_copies" not in result
    assert rig.h1.secrets == {}


def test_a_record_that_cannot_be_written_is_told_and_the_guest_has_moved(rig, monkeypatch):
    def refuses(*dummy):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(left_copies, "store", refuses)
    result = rig.moves(rig.guest())
    assert result["outcome"] == "moved"
    assert len(result["left_copies"]) == 1
    assert [fault["code"] for fault in result["faults"]] == ["left_copies_not_recorded"]
    assert "the images that stay on h1 could not be recorded" in result["error"]


def came_from_h2(rig, guest, **changes):
    """h2 shows that this guest has left its image there, as it is now."""
    file = rig.h2.add_file(rig.path, capacity=256 * MIB, allocation=5000)
    rig.pool.refresh()
    left = {"target": "vda", "path": rig.path, "size_bytes": 5000, "mtime_ns": file.mtime_ns, **changes}
    record = {
        "schema": "kvmops.left_copies/1",
        "guest": {"name": "web1", "uuid": guest.uuid},
        "host": "h2",
        "disks": [left],
    }
    published_copies.publish(libvirt.Connection(rig.h2, "qemu:///system", read_only=False), record)
    return file


def test_the_way_home_is_not_barred_by_our_own_old_copy(rig):
    guest = rig.guest()
    came_from_h2(rig, guest)
    assert rig.moves(guest)["outcome"] == "moved"
    assert rig.h2.files[rig.path].capacity == 256 * MIB
    # What is there now is no old copy any more.
    assert rig.h2.secrets == {}


def test_our_own_old_copy_is_found_in_a_pool_that_does_not_know_it_yet(rig):
    guest = rig.guest()
    came_from_h2(rig, guest)
    # The image was not made by libvirt, and nobody has refreshed the pool since.
    rig.pool.known.clear()
    assert rig.moves(guest)["outcome"] == "moved"
    assert rig.h2.secrets == {}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"mtime_ns": 1}, "old_copy_changed"),
        ({"size_bytes": 4999}, "old_copy_changed"),
        ({"mtime_ns": None}, "old_copy_changed"),
        ({"path": "/images/web2.qcow2"}, "disk_exists"),
    ],
)
def test_an_old_copy_that_has_changed_is_not_ours(rig, changes, code):
    guest = rig.guest()
    came_from_h2(rig, guest, **changes).content = "precious"
    assert code_of(rig.moves(guest)) == code
    assert rig.h2.files[rig.path].content == "precious"


def test_an_old_copy_that_has_changed_is_named_as_what_it_is(rig):
    guest = rig.guest()
    came_from_h2(rig, guest, mtime_ns=1)
    [refused] = rig.moves(guest)["refusals"]
    assert refused["reason"] == (
        f"{rig.path} on h2 is the old copy of disk vda of web1, and is not as it was left, or another guest names it; "
        "so it is neither used nor overwritten"
    )
    assert refused["remedy"].endswith("and remove it if nobody does: virsh vol-delete web1.qcow2 --pool images")


def test_an_old_copy_that_another_guest_names_is_not_ours(rig):
    guest = rig.guest()
    came_from_h2(rig, guest).content = "precious"
    rig.h2.add_guest("other", disk=rig.path, **NAMED_SOMEWHERE)
    assert code_of(rig.moves(guest)) == "old_copy_changed"
    assert rig.h2.files[rig.path].content == "precious"


def test_an_old_copy_of_another_guest_is_not_ours(rig):
    guest = rig.guest()
    other = rig.h1.add_guest("other")
    came_from_h2(rig, other).content = "precious"
    assert code_of(rig.moves(guest)) == "disk_exists"
    assert rig.h2.files[rig.path].content == "precious"


# --- several disks, volumes and devices ---------------------------------------------------------------------------


def with_disks(rig, count):
    """A guest with so many disks of 10 MiB."""
    guest = rig.guest()
    root = libvirt.ET.fromstring(guest.xml)
    devices = root.find("devices")
    devices.remove(devices.find("disk"))
    guest.block = []
    for number in range(count):
        target = f"vd{chr(ord('a') + number)}"
        path = rig.images / f"{target}.raw"
        path.write_bytes(b"x" * 1000)
        element = libvirt.ET.SubElement(devices, "disk", type="file", device="disk")
        libvirt.ET.SubElement(element, "driver", name="qemu", type="raw")
        libvirt.ET.SubElement(element, "source", file=str(path))
        libvirt.ET.SubElement(element, "target", dev=target, bus="virtio")
        guest.block.append({"name": target, "capacity": 10 * MIB, "allocation": 1000})
    guest.xml = libvirt.ET.tostring(root, encoding="unicode")
    return guest


def with_disk(rig, kind, **source):
    """A guest whose one disk, of another type, has this source."""
    guest = rig.guest()
    root = libvirt.ET.fromstring(guest.xml)
    element = root.find("devices/disk")
    element.set("type", kind)
    element.find("driver").set("type", "raw")
    element.find("source").attrib.clear()
    element.find("source").attrib.update(source)
    guest.xml = libvirt.ET.tostring(root, encoding="unicode")
    return guest


def test_a_logical_volume_is_made_as_large_as_the_disk(rig, tmp_path):
    (tmp_path / "sys/class/block/web1").mkdir(parents=True)
    rig.h2.add_pool("vg0", "/dev/vg0", kind="logical")
    result = rig.moves(with_disk(rig, "block", dev="/dev/vg0/web1"))
    assert result["outcome"] == "moved", result
    made = rig.h2.files["/dev/vg0/web1"]
    assert (made.capacity, made.allocation) == (256 * MIB, 256 * MIB)
    # Nothing about it could be proven later.
    assert [(one["path"], one["mtime_ns"]) for one in result["left_copies"]] == [("/dev/vg0/web1", None)]


def test_a_device_that_is_in_no_pool_is_not_written_to(rig, tmp_path):
    (tmp_path / "sys/class/block/sdz").mkdir(parents=True)
    rig.h2.add_file("/dev/sdz").content = "precious"
    assert code_of(rig.moves(with_disk(rig, "block", dev="/dev/sdz"))) == "no_pool"
    assert rig.h2.files["/dev/sdz"].content == "precious"


def test_a_volume_is_made_in_the_pool_of_the_same_name(rig):
    rig.h1.add_file(rig.path)
    rig.h1.add_pool("images", str(rig.images))
    result = rig.moves(with_disk(rig, "volume", pool="images", volume="web1.qcow2"))
    assert result["outcome"] == "moved", result
    assert rig.h2.files[rig.path].capacity == 256 * MIB
    assert [one["path"] for one in result["left_copies"]] == [rig.path]


def test_a_disk_of_a_kind_that_libvirt_cannot_copy_stays(rig):
    result = rig.moves(with_disk(rig, "vhostuser", type="unix", path="/run/vhost.sock"))
    assert code_of(result) == "vhostuser_disk"


def test_a_guest_with_25_disks(rig):
    result = rig.moves(with_disks(rig, 25))
    assert result["outcome"] == "moved", result
    assert len(rig.h2.files) == 25
    assert {file.capacity for file in rig.h2.files.values()} == {10 * MIB}
    assert len(result["left_copies"]) == 25


def test_where_one_image_cannot_be_made_none_is_left(rig, monkeypatch):
    make = libvirt.Storage.make

    def third_fails(storage, name, capacity, allocation=0):
        if name == "vdc.raw":
            raise libvirt.libvirtError("cannot create path: Disk quota exceeded", 38)
        make(storage, name, capacity, allocation)

    monkeypatch.setattr(libvirt.Storage, "make", third_fails)
    result = rig.moves(with_disks(rig, 4))
    assert code_of(result) == "copy_not_made"
    assert "Disk quota exceeded" in result["refusals"][0]["reason"]
    assert rig.h2.files == {}


def test_an_image_that_is_a_link_is_copied_and_is_no_file_to_come_home_to(rig):
    real = rig.images / "real.qcow2"
    Path(rig.path).rename(real)
    Path(rig.path).symlink_to(real)
    (left,) = rig.moves(rig.guest())["left_copies"]
    assert (left["path"], left["is_file"], left["link_to"]) == (rig.path, False, str(real))
    # The copy is a file at the path of the link.
    assert list(rig.h2.files) == [rig.path]


def test_a_link_that_the_guest_has_left_is_not_replaced_on_the_way_home(rig):
    guest = rig.guest()
    came_from_h2(rig, guest, is_file=False, link_to="/data/real.qcow2").content = "precious"
    assert code_of(rig.moves(guest)) == "disk_exists"
    assert rig.h2.files[rig.path].content == "precious"


def test_a_pool_that_is_not_active_is_told_with_the_command_that_starts_it(rig):
    rig.pool.active = False
    result = rig.moves(with_disks(rig, 25))
    assert result["refusals"] == [
        {
            "code": "pool_inactive",
            "reason": "storage pool images of h2, where disks vda, vdb, vdc and 22 more of web1 would be copied, is "
            "not active",
            "remedy": "start it on h2: virsh pool-start images",
        }
    ]


def test_25_disks_that_may_not_be_copied_are_told_in_one_sentence(rig):
    result = rig.moves(with_disks(rig, 25), allow_storage_copy=False)
    assert result["refusals"] == [
        {
            "code": "unshared_disk",
            "reason": "disks vda, vdb, vdc and 22 more are on local storage (ext4)",
            "remedy": "put them on shared storage, or permit copying it with allow_storage_copy",
        }
    ]


def test_what_is_said_of_25_disks_is_short(rig):
    guest = with_disks(rig, 25)
    result = rig.moves(guest)
    assert "disks vda, vdb, vdc and 22 more are copied too" in result["reason"]
    (line,) = [text for _phase, text in rig.recorder.lines if "to come home to" in text]
    assert line.count(str(rig.images)) == 3
    assert "and 22 more stay on h1 as the copy to come home to" in line


def test_the_disk_of_the_destination_becomes_full_in_the_middle(rig):
    rig.cluster.on_migrate = full
    failed = rig.move(with_disks(rig, 25), allow_storage_copy=True)
    assert failed["error"] == (
        "operation failed: migration of disk vda failed: No space left on device. It still runs where it was. What "
        "to do: make room in the storage pool on h2 that the disks are copied to, then run it again."
    )
    assert rig.h2.files == {}
    assert rig.h1.guest("web1").active


def test_the_port_of_the_disks_is_closed(rig):
    text = (
        "internal error: unable to execute QEMU command 'blockdev-add': Failed to connect to '198.18.0.12:49153': "
        "Connection timed out"
    )
    rig.cluster.on_migrate = lambda job: job.fail(text=text)
    failed = rig.move(rig.guest(), allow_storage_copy=True)
    assert failed["error"] == (
        f"{text}. It still runs where it was. What to do: open TCP 49152-49215 from h1 to h2 (or the ports that "
        "qemu.conf of h2 names: migration_port_min and _max)."
    )
    assert rig.h2.files == {}
    assert rig.h1.guest("web1").active


def closed(rig, monkeypatch, **known):
    """What is tried at the destination, all of which is silent."""
    tried = []
    rig.use(destinations={"h2": {"connect_uri": URI, "migration_address": None, **known}})
    monkeypatch.setattr(
        ports, "connect_ports", lambda *given: tried.append(given[:2]) or dict.fromkeys(given[1], "no answer")
    )
    return tried


def test_ports_that_drop_what_is_sent_there_are_tried_before_the_guest_would_stand_still(rig, monkeypatch):
    tried = closed(rig, monkeypatch, ports=(49152, 49215), migration_address="[fd00::2]")
    assert code_of(rig.moves(rig.guest())) == "ports_filtered"
    assert tried == [("fd00::2", [49215])]
    assert rig.h2.files == {}
    # Without disks that are copied, the guest runs on while QEMU connects.
    rig.cluster.on_migrate = lambda job: job.complete()
    assert rig.move(rig.h1.add_guest("plain"))["outcome"] == "moved"
    assert len(tried) == 1


def test_ports_that_nobody_has_stated_are_not_tried(rig, monkeypatch):
    tried = closed(rig, monkeypatch)
    assert rig.moves(rig.guest())["outcome"] == "moved"
    assert tried == []


# --- disks that change, or that the host uses itself --------------------------------------------------------------


def changed_before_the_move(rig, monkeypatch, change):
    """The result of a move right before which the guest's definition changes."""
    guest, begin = rig.guest(), GuestMigration.begin

    def changed(migration, move, admitted):
        guest.xml = change(guest.xml)
        return begin(migration, move, admitted)

    monkeypatch.setattr(GuestMigration, "begin", changed)
    result = rig.moves(guest)
    assert rig.h2.files == {}
    assert guest.active
    return result


NEW_DISK = "<disk type='file' device='disk'><source file='/images/new.raw'/><target dev='vdb'/></disk></devices>"


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (
            lambda xml: xml.replace("</devices>", NEW_DISK),
            "disk_added",
            "web1 has got disk vdb since both hosts were asked about it",
        ),
        (
            lambda xml: xml.replace('dev="vda"', 'dev="vdb"'),
            "disk_added",
            "web1 has got disk vdb since both hosts were asked about it",
        ),
        (
            lambda xml: xml[: xml.index("<disk")] + xml[xml.index("</disk>") + len("</disk>") :],
            "disk_removed",
            "web1 has lost disk vda since both hosts were asked about it",
        ),
        (
            lambda xml: xml.replace("web1.qcow2", "overlay.qcow2"),
            "disk_changed",
            "web1 has another image in disk vda since both hosts were asked about it",
        ),
    ],
)
def test_a_disk_that_changes_right_before_the_move(rig, monkeypatch, change, code, reason):
    result = changed_before_the_move(rig, monkeypatch, change)
    assert result["refusals"] == [
        {
            "code": code,
            "reason": reason,
            "remedy": "run it again: then they are asked about its disks as they are now",
        }
    ]


def test_a_disk_that_is_plugged_in_after_the_plan_is_copied_with_the_others(rig):
    guest = rig.guest()
    step = rig.step(guest, allow_storage_copy=True)
    path = rig.images / "new.raw"
    path.write_bytes(b"x" * 1000)
    guest.xml = guest.xml.replace("</devices>", NEW_DISK.replace("/images/new.raw", str(path)))
    guest.block.append({"name": "vdb", "capacity": 10 * MIB, "allocation": 1000})
    rig.cluster.on_migrate = lambda job: job.complete()
    result = Move(rig, step).result()
    assert result["outcome"] == "moved", result
    assert sorted(rig.h2.files) == [str(path), rig.path]


def test_a_disk_that_is_plugged_in_after_the_plan_and_may_not_be_copied_keeps_the_guest(rig):
    guest = rig.h1.add_guest("web1")
    step = rig.step(guest)
    path = rig.images / "new.raw"
    path.write_bytes(b"x" * 1000)
    guest.xml = guest.xml.replace("</devices>", NEW_DISK.replace("/images/new.raw", str(path)))
    result = Move(rig, step).result()
    assert [one["reason"] for one in result["refusals"]] == [f"disk vdb ({path}) is on local storage (ext4)"]


def test_an_image_that_its_host_has_mounted_by_a_loop_device_is_not_copied(rig, tmp_path):
    loop = tmp_path / "sys/class/block/loop0"
    (loop / "loop").mkdir(parents=True)
    (loop / "dev").write_text("7:0\n", encoding="ascii")
    (loop / "loop/backing_file").write_text(f"{rig.path}\n", encoding="utf-8")
    mountinfo = tmp_path / "proc/self/mountinfo"
    mountinfo.write_text(f"{EXT4}23 22 7:0 / /mnt/rescue rw - ext4 /dev/loop0 rw\n", encoding="utf-8")
    assert rig.moves(rig.guest())["refusals"] == [
        {
            "code": "device_mounted",
            "reason": f"disk vda ({rig.path}) is mounted on this host as well, at /mnt/rescue",
            "remedy": "unmount it (umount /mnt/rescue), or detach it from the guest (virsh detach-disk web1 vda)",
        }
    ]
    mountinfo.write_text(EXT4, encoding="utf-8")
    assert rig.moves(rig.h1.guest("web1"))["outcome"] == "moved"


def test_a_volume_whose_pool_is_stopped_here_is_not_taken_for_shared(rig):
    rig.h1.add_file(rig.path)
    pool = rig.h1.add_pool("images", str(rig.images))
    guest = with_disk(rig, "volume", pool="images", volume="web1.qcow2")
    pool.active = False
    assert rig.moves(guest)["refusals"] == [
        {
            "code": "volume_not_found",
            "reason": "disk vda (images/web1.qcow2) is in storage pool images of this host, which is not active, so "
            "nobody can tell whether other hosts see it",
            "remedy": "virsh pool-start images, then run it again",
        }
    ]


# --- the variables of its firmware --------------------------------------------------------------------------------


def with_nvram(rig, path):
    guest = rig.guest()
    nvram = f"<nvram template='/usr/share/OVMF/OVMF_VARS_4M.fd'>{path}</nvram></os>"
    guest.xml = guest.xml.replace("</os>", nvram)
    return guest


def test_the_old_file_of_its_firmware_is_named_with_its_size(rig, tmp_path):
    path = tmp_path / "web1_VARS.fd"
    path.write_bytes(b"x" * 540_672)
    result = rig.moves(with_nvram(rig, path))
    assert result["outcome"] == "moved", result
    stays = f"its old NVRAM file {path} (528 KiB) stays on h1, where nothing uses it"
    assert result["notes"] == [f"{stays}; QEMU overwrites it when the guest comes back"]


@pytest.mark.parametrize("kind", ["gone", "link", "refused"])
def test_what_is_no_such_file_is_not_named(rig, tmp_path, kind):
    path = tmp_path / "web1_VARS.fd"
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "refused":
        path.write_bytes(b"x")
    result = rig.moves(with_nvram(rig, path), allow_storage_copy=kind != "refused")
    assert (result["outcome"], result["notes"]) == ("refused" if kind == "refused" else "moved", [])
