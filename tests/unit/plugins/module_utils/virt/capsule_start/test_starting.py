# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.whereabouts import Evidence
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import layers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import save_record, saving
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import (
    before_disks,
    host_place,
    releasing,
    start_record,
    starting,
    usefulness,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.releasing import ReleaseRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.start_checks import StartRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.usefulness import Useful
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import overlays
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.capsule_save.fake_host import (
    LIBVIRT,
    UUID,
    Died,
    FakeHost,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.capsule_save.test_saving import request

LAYER = "db1-vda.kvmops-1.qcow2"


@pytest.fixture
def far(tmp_path, monkeypatch):
    """Another host, without the guest, whose store is that of the first one: a capsule that has come."""
    monkeypatch.setattr(virt, "libvirt", LIBVIRT)
    monkeypatch.setattr(layers, "make", lambda path, *_rest: Path(path).touch())
    monkeypatch.setattr(layers, "is_written", lambda path: Path(path).exists() and Path(path).stat().st_size > 0)
    monkeypatch.setattr(host_place, "place", lambda _connection, wanted: wanted)
    monkeypatch.setattr(usefulness, "wait", lambda *_all, **_more: Useful(True, "disk", None))
    monkeypatch.setattr(starting.guest_clock, "NOTICEABLE_MS", 10**12)
    (tmp_path / "h1").mkdir()
    (tmp_path / "h2").mkdir()
    store = CapsuleStore(str(tmp_path / "capsules"))
    saved = saving.save(FakeHost(tmp_path / "h1"), store, request(then="stop"))
    store.remove_run(f"save-{UUID}")
    host = FakeHost(tmp_path / "h2")
    host.defined, host.live = False, None
    host.store, host.stopped = store, saved["stopped"]
    return host


def wanted(far, tmp_path, **changes):
    usual = StartRequest(
        guest="db1",
        number=None,
        host="h2",
        as_new=None,
        discard_memory=False,
        evidence=Evidence(stopped=getattr(far, "stopped", None)),
        allow_older=False,
        signers=(),
        networks={},
        allow_files=(),
        image_dir=str(tmp_path / "h2"),
        wait_s=1,
        check=False,
    )
    return usual._replace(**changes)


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "h2").iterdir())


def test_the_guest_goes_on_from_its_memory_on_a_layer_of_its_own(far, tmp_path):
    found = starting.start(far, far.store, wanted(far, tmp_path))
    assert far.calls == ["define", "restore"]
    assert far.active
    assert far.paths(far.live) == far.paths(far.persistent) == [str(tmp_path / "h2" / LAYER)]
    assert (found["changed"], found["state"], found["number"]) == (True, "running", 1)
    assert found["disks"] == [{"target": "vda", "path": str(tmp_path / "h2" / LAYER), "lazy": False}]
    assert far.starts == 1


def test_it_is_started_once(far, tmp_path):
    starting.start(far, far.store, wanted(far, tmp_path))
    far.calls.clear()
    found = starting.start(far, far.store, wanted(far, tmp_path))
    assert (found["changed"], far.calls) == (False, [])


def test_a_check_makes_nothing(far, tmp_path):
    found = starting.start(far, far.store, wanted(far, tmp_path, check=True))
    assert (found["changed"], found["state"], far.calls) == (True, "off", [])
    assert files(tmp_path) == ["db1.img"]
    assert far.store.runs("start") == {}


def test_nothing_is_left_of_a_start_that_failed(far, tmp_path):
    far.fails.add("restore")
    with pytest.raises(virt.VirtError) as error:
        starting.start(far, far.store, wanted(far, tmp_path))
    assert error.value.refusal["reason"] == "db1 could not be started from capsule 1: restore does not work"
    assert error.value.refusal["remedy"].startswith("nothing of it is left, and the capsule is as before. See why: ")
    assert files(tmp_path) == ["db1.img"]
    assert not far.defined
    assert far.store.runs("start") == {}
    far.fails.clear()
    assert starting.start(far, far.store, wanted(far, tmp_path))["changed"]


@pytest.mark.parametrize("call", ["define", "restore"])
def test_a_start_that_died_is_ended_or_begun_anew(far, tmp_path, monkeypatch, call):
    real = far._call

    def dies(name):
        real(name)
        if name == call:
            monkeypatch.setattr(far, "_call", real)
            if name == "define":
                far.defined = True
            raise Died

    monkeypatch.setattr(far, "_call", dies)
    with pytest.raises(Died):
        starting.start(far, far.store, wanted(far, tmp_path))
    assert starting.start(far, far.store, wanted(far, tmp_path))["state"] == "running"
    assert files(tmp_path) == [LAYER, "db1.img"]
    assert [one["details"]["stage"] for one in far.store.runs("start").values()] == [start_record.STARTED]


def test_what_a_guest_has_written_is_never_removed(far, tmp_path, monkeypatch):
    """It ran, the module died before it could write that down, and the guest was shut down later."""
    monkeypatch.setattr(usefulness, "wait", lambda *_all, **_more: (dummy for dummy in ()).throw(Died()))
    with pytest.raises(Died):
        starting.start(far, far.store, wanted(far, tmp_path))
    (tmp_path / "h2" / LAYER).write_bytes(b"a day of work")
    far.live = None
    with pytest.raises(CapsuleError, match="db1 is defined on h2 and off, and may have written to its disks"):
        starting.start(far, far.store, wanted(far, tmp_path))
    assert (tmp_path / "h2" / LAYER).read_bytes() == b"a day of work"
    assert far.defined


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"evidence": Evidence()}, "may_run_elsewhere"),
        ({"number": 9}, "capsule_missing"),
        ({"signers": ["ssh-ed25519 " + "A" * 68]}, "signature_missing"),
        ({"as_new": "db2"}, "memory_has_identity"),
        ({"as_new": "db1", "discard_memory": True}, "name_taken"),
    ],
)
def test_what_may_not_be_is_refused_and_nothing_is_made(far, tmp_path, changes, code):
    far.defined = code == "name_taken"
    with pytest.raises(CapsuleError) as error:
        starting.start(far, far.store, wanted(far, tmp_path, **changes))
    assert error.value.refusal["code"] == code
    assert far.calls == []
    assert files(tmp_path) == ["db1.img"]


def test_a_guest_that_runs_here_is_not_started_again(far, tmp_path):
    far.defined, far.live = True, far.persistent
    with pytest.raises(CapsuleError, match="db1 runs on h2 already"):
        starting.start(far, far.store, wanted(far, tmp_path))


def test_an_image_that_was_written_to_is_not_used(far, tmp_path):
    disk = tmp_path / "h1" / "db1.img"
    disk.write_bytes(b"changed" * 1000)
    with pytest.raises(CapsuleError, match="the disk vda of capsule 1 of db1 cannot be used"):
        starting.start(far, far.store, wanted(far, tmp_path))
    assert far.calls == []


def test_another_guest_has_another_identity(far, tmp_path):
    found = starting.start(
        far, far.store, wanted(far, tmp_path, as_new="db2", discard_memory=True, evidence=Evidence())
    )
    assert far.calls == ["define", "create"]
    assert found["guest"]["name"] == "db2"
    assert found["guest"]["uuid"] != UUID
    assert files(tmp_path) == ["db1.img", "db2-vda.kvmops-1.qcow2"]


EXPORT = {"ticket": "fill-0123abcd", "guest": {"name": "db1", "uuid": UUID}, "number": 1}


class Source:
    """The tickets of the far end, and what the source answers."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.ensured = 0

    def __call__(self, _store):
        return self

    def ensure(self, _ticket):
        self.ensured += 1

    def read(self, _ticket):
        return {"source": "h1"}

    def look(self, _ticket):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, CapsuleError):
            raise answer
        return answer


@pytest.fixture
def early(far, tmp_path, monkeypatch):
    """The far end, where the image of the disk has not come; what it is told of the export; and a source."""
    (capsule,) = far.store.capsules(UUID)
    (disk,) = capsule.document["disks"]
    far.store.forget_image(disk["image"])
    told = {"target": "vda", "slot": 3, "image": disk["image"], "size_bytes": disk["size_bytes"]}
    far.export = {**EXPORT, "digest": capsule.digest, "disks": [told]}
    far.seen = [{**told, "guest": capsule.document["guest"], "changed": None}]
    far.source = Source(far.seen)
    monkeypatch.setattr(before_disks, "Tickets", far.source)
    monkeypatch.setattr(before_disks.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(overlays, "make", lambda path, *rest: Path(path).write_bytes(b"") or far.calls.append(rest))
    return far


def lazy(far, tmp_path, **changes):
    return wanted(far, tmp_path, lazy=before_disks.export_of(far.export), **changes)


def test_before_its_disk_has_come_it_reads_from_its_source(early, tmp_path):
    found = starting.start(early, early.store, lazy(early, tmp_path))
    assert found["disks"] == [{"target": "vda", "path": str(tmp_path / "h2" / LAYER), "lazy": True}]
    assert early.calls[0] == (7000, "nbd+unix:///disk?socket=/run/kvmops/fill/fill-0123abcd/3", "raw")
    for xml in (early.live, early.persistent):
        assert 'socket="/run/kvmops/fill/fill-0123abcd/3"' in xml
        assert 'error_policy="stop" rerror_policy="stop"' in xml
    (record,) = early.store.runs("fill").values()
    (entry,) = record["details"]["disks"]
    assert (entry["image"], entry["slot"], record["ended"]) == (early.export["disks"][0]["image"], 3, False)
    assert starting.start(early, early.store, lazy(early, tmp_path))["changed"] is False


def test_without_an_export_the_disk_must_be_here(early, tmp_path):
    with pytest.raises(CapsuleError, match=r"the disk vda of capsule 1 of db1 is not here \(blocks:"):
        starting.start(early, early.store, wanted(early, tmp_path))


@pytest.mark.parametrize(
    ("change", "lacks"),
    [
        ({"ticket": None, "disks": None}, "'NoneType' object is not iterable"),
        ({"disks": [{"target": "vda", "image": "blocks:0"}]}, "'slot'"),
        ({"disks": [{"target": "vda", "image": "blocks:0", "slot": 64}]}, "a number below 64 for each disk"),
        ({"disks": [{"target": "vda", "image": "blocks:0", "slot": -1}]}, "a number below 64 for each disk"),
    ],
)
def test_an_export_that_makes_no_sense_is_refused(change, lacks):
    with pytest.raises(CapsuleError) as error:
        before_disks.export_of({**EXPORT, "digest": "sha256:0", "disks": [], **change})
    assert error.value.refusal["reason"] == f"lazy has no export: it lacks {lacks}"


def test_a_libvirt_that_cannot_wait_for_a_disk_is_named(early, tmp_path, monkeypatch):
    monkeypatch.setattr(early, "getLibVersion", lambda: 9_000_000)
    with pytest.raises(CapsuleError) as error:
        starting.start(early, early.store, lazy(early, tmp_path, discard_memory=True))
    assert error.value.refusal == {
        "code": "lazy_libvirt",
        "reason": "libvirt 9.0 of h2 cannot let a guest wait for a disk; that needs 9.2",
        "remedy": "upgrade libvirt on h2 to 9.2 or later, or send its disks first (capsule_send on h1 with disks: now)",
    }
    assert early.calls == []


@pytest.mark.parametrize(
    ("code", "change", "seen"),
    [
        ("export_differs", {"digest": "sha256:" + "0" * 64}, {}),
        ("export_differs", {"disks": []}, {}),
        ("export_missing", {}, {"slot": 4}),
        ("export_missing", {}, {"image": "blocks:" + "0" * 64}),
        ("source_changed", {}, {"changed": "/img/db1.img is gone (No such file or directory)"}),
    ],
)
def test_another_export_than_that_of_the_capsule_is_refused(early, tmp_path, code, change, seen):
    early.export.update(change)
    early.seen[0].update(seen)
    with pytest.raises(CapsuleError) as error:
        starting.start(early, early.store, lazy(early, tmp_path))
    assert error.value.refusal["code"] == code
    assert early.calls == []
    assert early.store.runs("fill") == {}


def test_a_cut_is_waited_for_and_the_start_is_tried_again(early, tmp_path):
    away = CapsuleError("export_unreachable", "h1 does not give the disks", "see that h1 is up")
    early.source.answers = [away, away, early.seen, away, early.seen]
    early.fails.add("restore")

    def mended(_ticket):
        answer = early.source.answers.pop(0) if len(early.source.answers) > 1 else early.source.answers[0]
        if isinstance(answer, CapsuleError):
            raise answer
        if early.calls.count("restore"):
            early.fails.clear()
        return answer

    early.source.look = mended
    assert starting.start(early, early.store, lazy(early, tmp_path, wait_s=60))["state"] == "running"
    assert early.calls.count("restore") == 2
    assert len(early.store.runs("fill")) == 1


def test_nothing_is_left_of_a_start_whose_source_does_not_come_back(early, tmp_path):
    early.fails.add("restore")
    with pytest.raises(virt.VirtError):
        starting.start(early, early.store, lazy(early, tmp_path, wait_s=60))
    assert early.calls.count("restore") == starting.STARTS
    assert files(tmp_path) == ["db1.img"]
    assert early.store.runs("fill") == early.store.runs("start") == {}


def release(host, store, **changes):
    usual = ReleaseRequest(guest="db1", host="h1", started=None, snapshots=(), check=False)
    return releasing.release(host, store, usual._replace(**changes))


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(virt, "libvirt", LIBVIRT)
    monkeypatch.setattr(layers, "make", lambda path, *_rest: Path(path).touch())
    monkeypatch.setattr(layers, "is_written", lambda path: Path(path).exists() and Path(path).stat().st_size > 0)
    host = FakeHost(tmp_path)
    host.store = CapsuleStore(str(tmp_path / "capsules"))
    saved = saving.save(host, host.store, request(then="stop"))
    host.started = {"guest": saved["guest"], "host": "h2", "state": "running", "digest": saved["digest"]}
    return host


def test_the_old_host_forgets_the_guest_once_it_runs_elsewhere(source, tmp_path):
    with pytest.raises(CapsuleError, match="nothing proves that db1 runs on another host now, so h1 keeps it"):
        release(source, source.store)
    assert release(source, source.store, started=source.started, check=True)["changed"]
    assert source.defined
    found = release(source, source.store, started=source.started)
    assert found["removed"] == [str(tmp_path / "db1.kvmops-1.qcow2")]
    assert not source.defined
    assert not (tmp_path / "db1.kvmops-1.qcow2").exists()
    assert source.disk.exists()
    assert source.store.runs() == {}
    assert not release(source, source.store, started=source.started)["changed"]


def test_its_source_does_not_start_it_while_another_host_may_run_it(source, tmp_path, monkeypatch):
    monkeypatch.setattr(host_place, "place", lambda _connection, wanted: wanted)
    monkeypatch.setattr(usefulness, "wait", lambda *_all, **_more: Useful(True, "disk", None))
    save_record.read(source.store, UUID).write(asked=["h2"])
    at_home = wanted(source, tmp_path, host="h1", evidence=Evidence())
    with pytest.raises(CapsuleError) as error:
        starting.start(source, source.store, at_home)
    assert error.value.refusal == {
        "code": "may_run_elsewhere",
        "reason": "h2 was asked to start db1, and nothing says that it is off there",
        "remedy": "run capsule_move to h2 again, which asks it; or give snapshots with that of h2 (cluster_view); if h2"
        " is lost, source_is_off: true",
    }
    runs = {"host": "h2", "domains": [{"uuid": UUID, "state": "running"}]}
    with pytest.raises(CapsuleError, match="db1 is running on h2"):
        starting.start(source, source.store, at_home._replace(evidence=Evidence(snapshots=[runs])))
    nothing = {"host": "h2", "domains": []}
    assert starting.start(source, source.store, at_home._replace(evidence=Evidence(snapshots=[nothing])))["changed"]


def test_a_guest_that_has_written_since_is_kept(source, tmp_path):
    (tmp_path / "db1.kvmops-1.qcow2").write_bytes(b"later")
    with pytest.raises(CapsuleError, match=r"db1 has written to .* since capsule 1 stopped it"):
        release(source, source.store, started=source.started)
    assert source.defined


def test_a_guest_that_runs_is_kept(source):
    source.live = source.persistent
    with pytest.raises(CapsuleError, match="db1 runs on h1"):
        release(source, source.store, started=source.started)


def test_a_guest_that_something_else_has_stopped_is_kept(source):
    source.store.remove_run(f"save-{UUID}")
    with pytest.raises(CapsuleError, match="it was not capsule_save that stopped it last"):
        release(source, source.store, started=source.started)
