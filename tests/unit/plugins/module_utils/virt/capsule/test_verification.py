# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receive_state import ReceiveState
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.segment import SEGMENT_BYTES
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import store_info
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import LiveLines
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.verification import Verifier
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.run.capsule_store.test_store import (
    UUID,
    XML,
    add_image,
    capsule,
)

CONTENT = bytes(range(256)) * 16 * 300


@pytest.fixture
def store(tmp_path):
    made = CapsuleStore(str(tmp_path / "capsules"))
    made.prepare()
    (tmp_path / "definition").write_bytes(XML)
    name = add_image(made, CONTENT)
    made.add_capsule(capsule(name), None, {"definition": str(tmp_path / "definition")})
    return made


def verified(store, keys=(), dry=False):
    verifier = Verifier(store, LiveLines(Progress(None)), dry)
    return verifier, verifier.capsule(store.capsule(UUID, 1), keys)


def flip(path, at):
    """Change one bit, and leave the time of the content as it was."""
    before = path.stat()
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def image_of(store):
    return next(iter(store.images().values()))


def test_what_is_right_is_good(store):
    verifier, found = verified(store)
    assert (found["status"], found["signature"], found["faults"]) == ("good", "none", [])
    # The disk and its base are one image, which is read once.
    assert [(one["part"], one["status"]) for one in found["images"]] == [("disk vda", "good"), ("base of vda", "good")]
    assert verifier.refreshed == []


def test_one_bit_is_named_with_the_disk_and_its_place(store):
    record = image_of(store)
    flip(Path(record["path"]), 3 * 4096 + 17)
    assert store.changed(record) is None
    dummy, found = verified(store)
    assert found["status"] == "damaged"
    fault = found["faults"][0]
    assert fault["code"] == "image_damaged"
    assert fault["reason"] == (
        f"disk vda of capsule 1 of db1 is damaged: {Path(record['path']).name} differs in bytes 12288 to 16383"
        f" ({record['path']})"
    )
    assert fault["remedy"] == (
        f"check the disk of this host (dmesg, smartctl); mv {record['path']} /root/, then send it again from a host"
        " that has it (capsule_send)"
    )
    assert found["images"][0]["places"] == [[12288, 4096]]


def test_a_part_that_is_damaged_or_missing_is_named(store):
    definition = Path(store.capsule(UUID, 1).part("definition"))
    flip(definition, 1)
    dummy, found = verified(store)
    assert found["faults"][0]["reason"].startswith(
        f"the definition of capsule 1 of db1 is damaged: {definition} has the digest sha256:"
    )
    definition.unlink()
    dummy, found = verified(store)
    assert found["faults"][0]["reason"] == f"the definition of capsule 1 of db1 is missing: {definition}"


def test_an_image_that_is_gone_is_missing(store):
    store.remove_image(image_of(store)["image"])
    dummy, found = verified(store)
    assert [one["status"] for one in found["images"]] == ["missing", "missing"]
    assert found["faults"][0]["code"] == "image_missing"


def test_a_damaged_manifest_is_damage_and_not_a_crash(store):
    name = image_of(store)["image"]
    flip(Path(store.directory, "manifests", name[len("blocks:") :]), 70)
    dummy, found = verified(store)
    assert found["faults"][0]["code"] == "manifest_damaged"


def test_a_capsule_without_a_signature_is_refused_where_keys_are_named(store):
    store.remember(UUID, Known(1, None, True))
    dummy, found = verified(store, keys=["ssh-ed25519 " + "A" * 68])
    assert found["faults"][0]["reason"] == (
        "capsule 1 of db1 is not signed, and keys that may sign are named, and its guest's last capsule was signed"
    )


@pytest.mark.parametrize("dry", [True, False])
def test_a_file_that_was_only_touched_is_known_again(store, dry):
    record = image_of(store)
    os.utime(record["path"], ns=(1, 1))
    assert store.changed(record) is not None
    verifier, found = verified(store, dry=dry)
    assert found["status"] == "good"
    assert verifier.refreshed == [record["image"]]
    assert (store.changed(image_of(store)) is None) == (not dry)


def test_what_is_missing_is_listed_for_each_host(store):
    name = image_of(store)["image"]
    lacking = [{"part": "disk vda", "image": name}, {"part": "base of vda", "image": name}]
    damaged = {"images": [{"image": name, "why": "it was written to"}]}
    found = store_info.look(store, "db1", {"h2": {"images": [{"image": name, "why": None}]}, "h3": {}, "h4": damaged})
    (only,) = found["capsules"]
    assert (only["number"], only["missing"], only["signed"]) == (1, [], False)
    assert only["missing_at"] == {"h2": [], "h3": lacking, "h4": lacking}
    os.utime(image_of(store)["path"], ns=(1, 1))
    (only,) = store_info.look(store, None, {})["capsules"]
    assert [one["why"] for one in only["missing"]] == [
        f"{image_of(store)['path']} was written to after it was sealed"
    ] * 2
    assert store_info.look(store, "web1", {})["capsules"] == []


def test_what_is_left_to_send_is_told_to_the_byte(store):
    record = image_of(store)
    state = ReceiveState(record["image"], None, record["size_bytes"])
    state.segment_verified(0)
    state.blocks_arrived(256, 4)
    far = {"receiving": [{"image": record["image"], "state": state.document()}]}
    (row,) = store_info.look(store, None, {"h3": far})["to_send"]
    assert (row["host"], row["total_bytes"]) == ("h3", len(CONTENT))
    assert row["left_bytes"] == len(CONTENT) - SEGMENT_BYTES - 4 * 4096


def test_an_image_that_has_begun_to_come_is_listed(store):
    name = "blocks:" + "a" * 64
    receiving = store.receiving(name)
    receiving.prepare()
    state = ReceiveState(name, None, 3 * SEGMENT_BYTES)
    state.segment_verified(1)
    receiving.write_state(state.document())
    (row,) = store_info.look(store, None, {})["receiving"]
    assert (row["image"], row["size_bytes"], row["verified_bytes"]) == (name, 3 * SEGMENT_BYTES, SEGMENT_BYTES)
    Path(receiving.folder, "state.json").write_text("{", encoding="utf-8")
    (row,) = store_info.look(store, None, {})["receiving"]
    assert row["why"]["code"] == "store_damaged"
