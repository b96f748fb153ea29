# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import errno
import os
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta import digest_file
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import left_copies as copies
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.run_records import record_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import begun_copies, left_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta import left_digests
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import published_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import copy_removal
from ansible_collections.kvmops.cluster.plugins.modules import disk_copies
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.builders import disk, domain, snapshot, uuid_of
from ansible_collections.kvmops.cluster.tests.unit.movers import until

GUEST = {"name": "web1", "uuid": uuid_of("web1")}
DAY = 86400


class Left:
    """A host with an image that web1 has left ten days ago, and a cluster in which web1 runs on h2."""

    def __init__(self, run_module, cluster, tmp_path, monkeypatch):
        self._run_module = run_module
        self.host = cluster.add_host("h1")
        self.state_dir = str(tmp_path / "state")
        self.images = tmp_path / "images"
        self.images.mkdir()
        self.image = self.images / "web1.qcow2"
        self.image.write_bytes(b"x" * 5000)
        self.proc = tmp_path / "proc"
        self.proc.mkdir()
        monkeypatch.setattr(copy_removal, "PROC", self.proc)
        monkeypatch.setattr(copy_removal.os, "geteuid", lambda: 0)
        at = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=10)
        left = {
            "target": "vda",
            "path": str(self.image),
            "format": "raw",
            **left_copies.facts_of(str(self.image)),
            "at": at.isoformat().replace("+00:00", "Z"),
            "destination": "h2",
        }
        record = copies.record_of(GUEST, "h1", [left])
        left_copies.store(self.state_dir, record)
        published_copies.publish(libvirt.Connection(self.host, "qemu:///system", read_only=False), record)
        away = domain("web1", disks=[disk("vda", source=str(self.image), shared=False)])
        self.snapshots = {"h1": snapshot("h1"), "h2": snapshot("h2", away)}

    def run(self, **given):
        given.setdefault("snapshots", self.snapshots)
        return self._run_module(disk_copies, name="h1", state_dir=self.state_dir, **given)

    def files(self):
        return sorted(path.name for path in self.images.iterdir())

    def only(self, **given):
        result = self.run(**given)
        (found,) = result["copies"]
        return result["changed"], found["status"], (found["why"] or {}).get("code")


@pytest.fixture
def left(run_module, cluster, tmp_path, monkeypatch):
    return Left(run_module, cluster, tmp_path, monkeypatch)


def test_they_are_listed_with_size_and_age_and_nothing_is_changed(left, cluster):
    result = left.run()
    (found,) = result["copies"]
    assert (found["guest"], found["host"], found["path"], found["target"]) == (GUEST, "h1", str(left.image), "vda")
    assert (found["size_bytes"], found["destination"], found["status"]) == (5000, "h2", "would_remove")
    assert 10 * DAY <= found["age_s"] < 11 * DAY
    assert result["changed"] is False
    assert left.image.exists()
    assert all(read_only for _uri, read_only in cluster.opened)


def test_what_nobody_needs_is_removed_with_its_record(left):
    pool = left.host.add_pool("images", str(left.images))
    left.host.add_file(str(left.image))
    pool.refresh()
    del left.host.files[str(left.image)]
    assert left.only(remove=True) == (True, "removed", None)
    assert not left.image.exists()
    assert left_copies.load_all(left.state_dir) == []
    assert left.host.secrets == {}
    assert pool.known == set()
    assert left.run(remove=True)["copies"] == []


def test_check_mode_says_what_would_be_removed(left):
    assert left.only(remove=True, check=True) == (True, "would_remove", None)
    assert left.image.exists()
    assert len(left_copies.load_all(left.state_dir)) == 1


def test_it_is_kept_for_the_time_that_is_set(left):
    assert left.only(remove=True, keep_s=11 * DAY) == (False, "kept", "copy_too_young")
    assert left.image.exists()


def test_without_proof_of_where_the_guest_runs_it_stays(left):
    assert left.only(remove=True, snapshots={}) == (False, "kept", "guest_not_seen")
    assert left.image.exists()


def test_an_image_that_was_written_to_stays(left):
    left.image.write_bytes(b"y" * 5001)
    assert left.only(remove=True) == (False, "kept", "copy_changed")


def test_a_link_stays(left):
    real = left.images / "real"
    left.image.rename(real)
    left.image.symlink_to(real)
    assert left.only(remove=True) == (False, "kept", "copy_changed")
    assert real.exists()


def test_an_image_that_a_guest_names_stays(left):
    off = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
    left.host.add_guest("other", disk=str(left.image), state=off)
    assert left.only(remove=True) == (False, "kept", "copy_in_use")


def test_an_image_that_a_far_end_has_not_read_whole_stays(left, tmp_path):
    store = CapsuleStore(str(tmp_path / "capsules"))
    store.prepare()
    details = {"ticket": "fill-0123abcd", "far_end": "h2", "disks": [{"path": str(left.image)}]}
    record = record_of("export", GUEST, (), at="2026-11-24T02:00:00Z", details=details)
    store.write_run(f"export-{GUEST['uuid']}", record)
    (found,) = left.run(remove=True, capsule_dir=store.directory)["copies"]
    assert (found["status"], found["why"]["code"]) == ("kept", "copy_in_use")
    assert "the unfinished fill of web1 on h2 uses it" in found["why"]["reason"]
    assert left.image.exists()
    store.write_run(f"export-{GUEST['uuid']}", {**record, "ended": True})
    (found,) = left.run(remove=True, capsule_dir=store.directory)["copies"]
    assert found["status"] == "removed"


def test_an_image_that_a_process_has_open_stays(left):
    fds = left.proc / "4711" / "fd"
    fds.mkdir(parents=True)
    (fds / "9").symlink_to(left.image)
    (found,) = left.run(remove=True)["copies"]
    assert (found["status"], found["why"]["code"]) == ("kept", "copy_in_use")
    assert "process 4711 uses it" in found["why"]["reason"]
    assert left.image.exists()


def test_who_may_not_look_at_processes_removes_nothing(left, monkeypatch):
    monkeypatch.setattr(copy_removal.os, "geteuid", lambda: 1000)
    assert left.only(remove=True) == (False, "kept", "copy_in_use")


def test_an_image_that_is_gone_is_forgotten(left):
    left.image.unlink()
    assert left.only() == (False, "gone", None)
    assert left.only(remove=True) == (False, "gone", None)
    assert left_copies.load_all(left.state_dir) == []


def test_an_image_that_cannot_be_looked_at_is_not_forgotten(left, monkeypatch):
    """Its storage fails, which does not mean that it is gone."""
    lstat = os.lstat

    def fails(path, **given):
        if path == str(left.image):
            raise OSError(errno.EIO, "Input/output error")
        return lstat(path, **given)

    monkeypatch.setattr(copy_removal.os, "lstat", fails)
    (found,) = left.run(remove=True)["copies"]
    assert (found["status"], found["why"]) == (
        "kept",
        {
            "code": "copy_not_seen",
            "reason": f"{left.image} on h1 cannot be looked at: Input/output error",
            "remedy": f"repair what keeps it from being read (on h1: ls -l {left.image})",
        },
    )
    assert len(left_copies.load_all(left.state_dir)) == 1


def test_an_image_that_its_guest_is_back_on_is_no_copy_any_more(left):
    back = domain("web1", disks=[disk("vda", source=str(left.image), shared=False)])
    home = {"h1": snapshot("h1", back), "h2": snapshot("h2")}
    assert left.only(remove=True, snapshots=home) == (False, "home", None)
    assert left.image.exists()
    assert left_copies.load_all(left.state_dir) == []


def test_the_snapshot_shows_what_is_unchanged(left, tmp_path):
    def shown():
        connection = libvirt.openReadOnly("qemu:///system")
        taken = host.snapshot(connection, name="h1", state_dir=Path(left.state_dir), root=tmp_path)
        return taken["left_copies"]

    assert shown() == [{"uuid": GUEST["uuid"], "path": str(left.image), "digests": False}]
    left.image.write_bytes(b"y" * 5001)
    assert shown() == []


def test_a_time_that_makes_no_sense(left):
    assert left.run(keep_s=-1)["msg"] == "keep_s is -1: set keep_s to 0 or more seconds"


def test_a_damaged_record_is_passed_over(left):
    Path(left.state_dir, "left_copies", "broken.json").write_text("{", encoding="utf-8")
    assert len(left.run()["copies"]) == 1


def test_a_link_that_a_guest_has_left_stays_and_is_told_with_what_it_leads_to(left):
    real = left.images / "real"
    left.image.rename(real)
    left.image.symlink_to(real)
    record = left_copies.load(left.state_dir, GUEST["uuid"])
    record["disks"][0].update(left_copies.facts_of(str(left.image)))
    left_copies.store(left.state_dir, record)
    (found,) = left.run(remove=True)["copies"]
    assert (found["status"], found["why"]) == (
        "kept",
        {
            "code": "copy_is_link",
            "reason": f"{left.image} on h1 is a symbolic link to {real}, and links are not followed to remove anything",
            "remedy": f"remove both on h1 by hand if nobody needs them: rm {left.image} {real}",
        },
    )
    assert real.exists()


# --- digests --------------------------------------------------------------------------------------------------------


def digests_of(result):
    (found,) = result["digests"]
    return result["changed"], found["state"], found["why"]


def test_digests_are_computed_once(left):
    assert digests_of(left.run(digests=True, check=True)) == (True, "missing", None)
    assert digests_of(left.run(digests=True)) == (True, "computed", None)
    file = left.images / "web1.qcow2.kvmops-digests"
    assert file.stat().st_mode & 0o777 == 0o600
    made = digest_file.made_of(file.read_bytes())
    assert made is not None
    assert made[:3] == (5000, 5000, left.image.stat().st_mtime_ns)
    result = left.run(digests=True)
    assert digests_of(result) == (False, "there", None)
    assert result["copies"][0]["digests"] is True
    assert left.files() == ["web1.qcow2", "web1.qcow2.kvmops-digests"]


def test_only_the_guests_that_are_named_have_their_digests_computed(left):
    assert left.run(digests=True, guests=[uuid_of("web2")])["digests"] == []


def test_digests_of_another_state_do_not_count(left):
    left.run(digests=True)
    os.utime(left.image, ns=(1, 1))
    assert digests_of(left.run(digests=True)) == (False, "impossible", "it is not as the guest left it")


def test_a_write_that_was_hidden_by_its_time_is_found_and_the_digests_are_made_anew(left):
    left.run(digests=True)
    file = left.images / "web1.qcow2.kvmops-digests"
    before, was = file.read_bytes(), left.image.stat()
    with left.image.open("r+b") as image:
        image.write(b"other")
    os.utime(left.image, ns=(was.st_atime_ns, was.st_mtime_ns))
    result = left.run(digests=True)
    assert digests_of(result) == (True, "computed", None)
    # The digest of the first segment.
    assert file.read_bytes()[80:112] != before[80:112]
    assert digests_of(left.run(digests=True)) == (False, "there", None)


def test_an_image_of_an_unknown_format_gets_no_digests(left):
    record = left_copies.load(left.state_dir, GUEST["uuid"])
    del record["disks"][0]["format"]
    left_copies.store(left.state_dir, record)
    assert digests_of(left.run(digests=True)) == (
        False,
        "impossible",
        "nobody has recorded of which format it is",
    )


def test_digests_go_with_their_image(left):
    left.run(digests=True)
    assert left.only(remove=True, keep_s=DAY) == (True, "removed", None)
    assert left.files() == []


def test_digests_are_computed_by_a_process_that_outlives_its_parent(left):
    left_digests.compute_later(left.state_dir, [])
    assert left.files() == ["web1.qcow2"]
    left_digests.compute_later(left.state_dir, [GUEST["uuid"]])
    until((left.images / "web1.qcow2.kvmops-digests").exists)
    assert digests_of(left.run(digests=True)) == (False, "there", None)


BEGUN = {"schema": begun_copies.SCHEMA, "guest": GUEST, "disks": [{"target": "vda", "source": "/i/w", "path": "/i/w"}]}


def test_a_copy_that_was_begun_at_another_host_and_not_ended_is_named(left):
    begun_copies.store(left.state_dir, {**BEGUN, "destination": "h2"})
    here = domain("web1", disks=[disk("vda", source="/i/w", shared=False)])
    (_left, found) = left.run(snapshots={"h1": snapshot("h1", here), "h2": snapshot("h2")})["copies"]
    assert (found["host"], found["path"], found["status"], found["size_bytes"]) == ("h2", "/i/w", "begun", None)
    assert found["why"] == {
        "code": "copy_begun",
        "reason": "/i/w on h2 is a copy of disk vda of web1 that was begun and not ended",
        "remedy": "the next move of web1 to h2 overwrites it; to remove it now, if it is there: virsh vol-delete /i/w"
        " on h2",
    }


def test_a_copy_that_a_guest_has_did_arrive(left):
    begun_copies.store(left.state_dir, {**BEGUN, "destination": "h2"})
    there = domain("web1", disks=[disk("vda", source="/i/w", shared=False)])
    assert len(left.run(snapshots={"h1": snapshot("h1"), "h2": snapshot("h2", there)})["copies"]) == 1


def test_the_snapshot_shows_what_was_begun(left, tmp_path):
    begun_copies.store(left.state_dir, {**BEGUN, "destination": "h2"})
    begun_copies.store(left.state_dir, {**BEGUN, "destination": "h3"})
    connection = libvirt.openReadOnly("qemu:///system")
    taken = host.snapshot(connection, name="h1", state_dir=Path(left.state_dir), root=tmp_path)
    assert taken["begun_copies"] == [
        {"uuid": GUEST["uuid"], "destination": "h3", "path": "/i/w"},
        {"uuid": GUEST["uuid"], "destination": "h2", "path": "/i/w"},
    ]
