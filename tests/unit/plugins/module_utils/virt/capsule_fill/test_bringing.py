# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from types import SimpleNamespace

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import LazyDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import run_records
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill import bringing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.bringing import Bringing, Means, tidy
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.disk_progress import DiskProgress
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import start_record

UUID = "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"
GUEST = {"name": "db1", "uuid": UUID}
AT = "2026-11-24T02:00:00Z"
AWAY = CapsuleError("export_unreachable", "h1 does not give the disks", "see that h1 is up")


class Tickets:
    def __init__(self, answers):
        self.answers = answers
        self.asked = []

    def read(self, ticket):
        return {"source": "h1"}

    def fetch(self, ticket, request):
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, CapsuleError):
            raise answer
        return answer


class Fetch:
    """An image that comes as a whole at once; C(here) has the names of those that came."""

    here = False
    size_bytes = 4096

    def __init__(self, store, host, source, capsule, target, bytes_per_s, told):
        self.made = (host, source, capsule, target, bytes_per_s)

    def is_here(self):
        return Fetch.here

    def checked_manifest(self, data):
        return data.decode()

    def run(self, manifest, reader):
        assert manifest == "digests"
        reader.read_bytes = 4096
        Fetch.here = True


@pytest.fixture
def store(tmp_path, monkeypatch):
    found = CapsuleStore(str(tmp_path / "capsules"))
    found.prepare()
    own = tmp_path / "own.qcow2"
    own.touch()
    entry = {**LazyDisk("vda", str(own), "fill-0123abcd", 0)._asdict(), "image": "blocks:" + "a" * 64}
    details = {"disks": [entry], "number": 7}
    found.write_run(f"fill-{UUID}", run_records.record_of("fill", GUEST, [], at=AT, details=details))
    monkeypatch.setattr(Fetch, "here", False)
    monkeypatch.setattr(bringing, "Fetch", Fetch)
    monkeypatch.setattr(bringing.image_layers, "below", lambda *_all: {"vda": ("the image",)})
    monkeypatch.setattr(bringing, "unused", lambda _connection, paths: frozenset(paths))
    capsule = SimpleNamespace(document={"number": 7})
    monkeypatch.setattr(CapsuleStore, "find_capsule", lambda _self, uuid, number: capsule)
    return found


def bring(store, monkeypatch, answers, dies=False):
    placed, reached, tickets = [], [], Tickets(answers)

    class Placing:
        def __init__(self, domain, disk, below, size_bytes, keep, look, sleep):
            placed.append((disk.target, below, size_bytes))
            self.keep = keep

        def run(self, number):
            self.keep(store.directory + "/new.qcow2")
            if dies:
                raise KeyboardInterrupt

    monkeypatch.setattr(bringing, "Placing", Placing)
    domain = SimpleNamespace(UUIDString=lambda: UUID, connect=lambda: None)
    means = Means(
        lambda: domain,
        store,
        "h2",
        tickets,
        tell=lambda *_all, **_figures: None,
        check=lambda: None,
        reach=lambda: reached.append(1),
        wake=lambda: None,
        clock=lambda: 0.0,
        sleep=lambda _seconds: None,
    )
    disk = LazyDisk("vda", store.run(f"fill-{UUID}")["details"]["disks"][0]["path"], "fill-0123abcd", 0)
    row = Bringing(means, disk, DiskProgress(disk, 0.0)).run(None)
    return row, placed, reached, tickets.asked


def test_the_image_comes_and_the_guest_is_put_on_it(store, monkeypatch):
    row, placed, reached, asked = bring(store, monkeypatch, [AWAY, b"digests"])
    assert (row["pulled_bytes"], row["checked"]) == (4096, True)
    assert placed == [("vda", ("the image",), 4096)]
    assert (reached, asked) == ([1], ["manifest 0", "manifest 0"])


def test_after_a_death_the_image_is_not_read_again(store, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        bring(store, monkeypatch, [b"digests"], dies=True)
    row, placed, _reached, asked = bring(store, monkeypatch, [])
    assert (row["pulled_bytes"], len(placed), asked) == (0, 1, [])
    assert len(store.run(f"fill-{UUID}")["details"]["disks"][0]["placed"]) == 2


def test_a_source_that_refuses_is_not_waited_for(store, monkeypatch):
    refuses = CapsuleError("export_refused", "h1 does not give that: nobody has hashed disk vda", "…")
    with pytest.raises(CapsuleError, match="nobody has hashed disk vda"):
        bring(store, monkeypatch, [refuses])


def test_layers_that_the_guest_has_left_go_and_the_start_knows_the_new_one(store, tmp_path):
    record = store.run(f"fill-{UUID}")
    new, dead = tmp_path / "new.qcow2", tmp_path / "dead.qcow2"
    new.touch()
    dead.touch()
    record["details"]["disks"][0]["placed"] = [str(dead), str(new)]
    store.write_run(f"fill-{UUID}", record)
    details = {"stage": "started", "digest": "sha256:1", "replaced": "", "moved": [], "made": [], "number": 7}
    layers = {"vda": str(tmp_path / "own.qcow2"), "vdb": "/other"}
    start_record.StartRecord(store, f"start-{UUID}", GUEST, {**details, "layers": layers}, [], AT).write()
    domain = SimpleNamespace(UUIDString=lambda: UUID, connect=lambda: None)
    tidy(domain, store, {"vda": str(new)})
    assert [path.name for path in sorted(tmp_path.glob("*.qcow2"))] == ["new.qcow2"]
    assert start_record.read(store, UUID, None).layers == {"vda": str(new), "vdb": "/other"}
