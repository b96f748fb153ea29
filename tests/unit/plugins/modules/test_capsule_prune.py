# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import run_records
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.modules import capsule_prune
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.run.capsule_store.test_store import (
    AT,
    UUID,
    XML,
    add_image,
    capsule,
)


class Host:
    """A host with three capsules of db1, each with a disk and a memory of its own."""

    def __init__(self, run_module, cluster, tmp_path):
        self._run_module = run_module
        cluster.add_host("h1")
        self.store = CapsuleStore(str(tmp_path / "capsules"))
        self.store.prepare()
        (tmp_path / "definition").write_bytes(XML)
        self.images, self.memories, self.digests = [], [], []
        for number in (1, 2, 3):
            self.images.append(add_image(self.store, bytes([number]) * 8192, base=False))
            self.memories.append(self._memory(number))
            memory = {"format": "sparse", "size_bytes": 4096, "image": self.memories[-1]}
            disk = {"target": "vda", "size_bytes": 8192, "image": self.images[-1], "base": None}
            disk["layers"] = [{"number": number, "image": self.images[-1]}]
            data = capsule("", number, consistency="memory", memory=memory, disks=[disk])
            added = self.store.add_capsule(data, None, {"definition": str(tmp_path / "definition")})
            self.digests.append(added.digest)

    def _memory(self, number):
        content = b"secret" + bytes([number]) * 4090
        manifest = manifest_of([content])
        fresh = Path(self.store.directory, "images", "fresh")
        fresh.write_bytes(content)
        path = self.store.take_image(str(fresh), manifest.name, "raw")
        record = image_record.record_of(
            manifest.name,
            kind="memory",
            path=path,
            form="raw",
            size_bytes=4096,
            facts=file_facts(path),
            sealed_at=AT,
            trust_domain="default",
        )
        self.store.add_image(record, manifest)
        return manifest.name

    def prune(self, **given):
        given.setdefault("delay_s", 0)
        return self._run_module(capsule_prune, name="h1", capsule_dir=self.store.directory, **given)

    def removed(self, **given):
        return [row["name"] for row in self.prune(**given)["removed"]]


@pytest.fixture
def host(run_module, cluster, tmp_path):
    return Host(run_module, cluster, tmp_path)


def test_what_nobody_needs_is_marked_first_and_removed_by_a_later_run(host):
    first = host.prune(keep_last=2)
    assert (first["changed"], first["removed"]) == (False, [])
    gone = [host.digests[0], *sorted([host.images[0], host.memories[0]])]
    assert [row["name"] for row in first["marked"]] == gone
    assert host.store.capsule(UUID, 1) is not None
    second = host.prune(keep_last=2)
    assert second["changed"] is True
    assert [row["name"] for row in second["removed"]] == gone
    assert [one.document["number"] for one in host.store.capsules()] == [2, 3]
    assert set(host.store.images()) == {*host.images[1:], *host.memories[1:]}
    assert {path.name for path in Path(host.store.directory, "images").iterdir()} == {
        name[len("blocks:") :] + ".raw" for name in (*host.images[1:], *host.memories[1:])
    }
    assert host.prune(keep_last=2)["changed"] is False


def test_check_mode_says_what_would_go_and_changes_nothing(host):
    host.prune(keep_last=1)
    before = sorted(str(path) for path in Path(host.store.directory).rglob("*"))
    result = host.prune(keep_last=1, check=True)
    assert (result["changed"], len(result["removed"])) == (True, 6)
    assert sorted(str(path) for path in Path(host.store.directory).rglob("*")) == before


def test_the_delay_counts_from_the_mark(host):
    assert host.removed(keep_last=1, delay_s=3600) == []
    assert host.removed(keep_last=1, delay_s=3600) == []
    assert len(host.removed(keep_last=1)) == 6


def test_what_is_sent_started_or_filled_stays(host):
    record = run_records.record_of("fill", {"name": "db1", "uuid": UUID}, [host.images[0]], at=AT)
    host.store.write_run("fill-db1", record)
    with host.store.using([host.digests[1], host.images[1], host.memories[1]], "it is sent to h3"):
        host.prune(keep_last=1)
        result = host.prune(keep_last=1)
    assert [row["name"] for row in result["removed"]] == [host.digests[0], host.memories[0]]
    assert result["kept"][host.images[0]] == "fill of db1 needs it"
    assert result["kept"][host.digests[1]] == "it is sent to h3"


def test_with_a_guest_named_others_keep_theirs(host):
    host.prune(keep_last=1, guest="web1")
    assert host.removed(keep_last=1, guest="web1") == []


def test_a_file_in_a_guests_own_place_is_forgotten_and_stays(host, tmp_path):
    record = host.store.image(host.images[0])
    own = tmp_path / "db1.qcow2"
    Path(record["path"]).rename(own)
    manifest = host.store.manifest(host.images[0])
    host.store.add_image({**record, "path": str(own), "facts": file_facts(str(own))}, manifest)
    host.prune(keep_last=1)
    rows = {row["name"]: row["file_stays"] for row in host.prune(keep_last=1)["removed"]}
    assert rows[host.images[0]] is True
    assert own.exists()
    assert host.images[0] not in host.store.images()


def test_an_image_below_one_that_is_needed_stays(host):
    record = {**host.store.image(host.images[2]), "format": "qcow2", "backing": host.images[0]}
    host.store.add_image(record, host.store.manifest(host.images[2]))
    host.prune(keep_last=1)
    result = host.prune(keep_last=1)
    assert result["kept"][host.images[0]] == "an image stands on it: capsule 3 of db1 needs it"
    assert host.images[1] in [row["name"] for row in result["removed"]]


def test_nothing_is_removed_where_something_cannot_be_read(host):
    host.prune(keep_last=1)
    Path(host.store.directory, "guests", UUID, "3", "capsule.json").write_text("{", encoding="utf-8")
    result = host.prune(keep_last=1)
    assert result["refusal"]["code"] == "capsule_unreadable"
    assert "so nobody knows which images it needs" in result["msg"]
    assert len(host.store.images()) == 6


def test_the_last_capsule_is_never_asked_for(host):
    assert host.prune(keep_last=0)["msg"].startswith("keep_last is 0, keep_daily 0 and delay_s 0")


def test_memory_is_written_over_before_it_goes(host, monkeypatch):
    seen = []
    unlink = os.unlink

    def look(path, *arguments, **options):
        if str(path).endswith(".memory"):
            seen.append(Path(path).read_bytes())
        unlink(path, *arguments, **options)

    monkeypatch.setattr(os, "unlink", look)
    host.prune(keep_last=1)
    host.prune(keep_last=1)
    assert seen == [bytes(4096), bytes(4096)]


@pytest.fixture
def last_contents(monkeypatch):
    """What each file held when it was removed, by its name."""
    seen = {}
    unlink = os.unlink

    def look(path, *arguments, dir_fd=None, **options):
        place = f"/proc/self/fd/{dir_fd}/{path}" if dir_fd is not None else path
        if Path(place).is_file():
            seen[Path(path).name] = Path(place).read_bytes()
        unlink(path, *arguments, dir_fd=dir_fd, **options)

    monkeypatch.setattr(os, "unlink", look)
    return seen


def test_what_a_capsule_has_beside_its_images_is_written_over(host, last_contents):
    host.prune(keep_last=1)
    host.prune(keep_last=1)
    assert last_contents["definition.xml"] == bytes(len(XML))


def half_received(host, content=b"secret" * 1000):
    """Memory that has come in part, and of which nothing came for eight days."""
    receiving = host.store.receiving("blocks:" + "e" * 64)
    receiving.prepare()
    data = Path(receiving.data_path("raw"))
    data.write_bytes(content)
    os.utime(data, (0, time.time() - 8 * 86400))
    os.utime(receiving.folder, (0, time.time() - 8 * 86400))
    return receiving


def test_memory_that_came_in_part_and_never_went_on_is_written_over_and_goes(host, last_contents):
    receiving = half_received(host)
    checked = host.prune(keep_last=3, check=True)
    assert Path(receiving.folder).exists()
    result = host.prune(keep_last=3)
    assert [row["what"] for row in checked["removed"]] == ["an image that came in part only"]
    assert [row["path"] for row in result["removed"]] == [receiving.folder]
    assert result["freed_bytes"] > 0
    assert last_contents["data.raw"] == bytes(6000)
    assert list(Path(host.store.directory, "receiving").iterdir()) == []


def test_what_still_comes_stays(host):
    receiving = half_received(host)
    with host.store.using([receiving.name], "it comes here"):
        assert host.prune(keep_last=3)["removed"] == []
    Path(receiving.folder, "state.json").write_text("{}", encoding="utf-8")
    assert host.prune(keep_last=3)["removed"] == []
    assert Path(receiving.data_path("raw")).read_bytes() == b"secret" * 1000


def test_wiping_follows_no_link_and_spoils_no_file_with_another_name(host, tmp_path):
    receiving = half_received(host)
    for make in (os.symlink, os.link):
        other = tmp_path / make.__name__
        other.write_bytes(b"precious")
        make(other, Path(receiving.folder, f"{make.__name__}.raw"))
    receiving.remove()
    assert (tmp_path / "symlink").read_bytes() == (tmp_path / "link").read_bytes() == b"precious"


def test_what_a_run_that_died_has_set_aside_goes_with_the_next_one(host):
    left = Path(host.store.set_aside(host.store.image(host.memories[0])))
    assert left.exists()
    host.prune(keep_last=3)
    assert not left.exists()


def test_a_host_without_a_store_has_nothing_to_prune(host, tmp_path, run_module):
    result = run_module(capsule_prune, name="h1", capsule_dir=str(tmp_path / "none"))
    assert (result["changed"], result["removed"], result["merged"]) == (False, [], [])
