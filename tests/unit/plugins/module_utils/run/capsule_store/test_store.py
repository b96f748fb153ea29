# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import canonical_json
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import sha256_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts

UUID = "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"
OTHER = "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a11"
AT = "2026-11-24T02:00:00Z"
XML = b"<domain/>"


@pytest.fixture
def store(tmp_path):
    made = CapsuleStore(str(tmp_path / "capsules"))
    made.prepare()
    return made


def add_image(store, content, backing=None, form="raw", base=True):
    """An image of the store with this content; returns its name."""
    manifest = manifest_of([content])
    fresh = Path(store.directory, "images", "fresh")
    fresh.write_bytes(content)
    path = store.take_image(str(fresh), manifest.name, form)
    record = image_record.record_of(
        manifest.name,
        kind="disk",
        path=path,
        form=form,
        size_bytes=len(content),
        facts=file_facts(path),
        sealed_at=AT,
        trust_domain="default",
        backing=backing,
        base=base,
    )
    store.add_image(record, manifest)
    return manifest.name


def capsule(image, number=1, uuid=UUID, name="db1", **more):
    document = {
        "schema": "kvmops.capsule/1",
        "guest": {"name": name, "uuid": uuid},
        "number": number,
        "parent": None,
        "made_at": AT,
        "made_on": "h1",
        "trust_domain": "default",
        "consistency": "crash",
        "versions": {"libvirt": "11.3.0", "qemu": "10.0.13"},
        "arch": "x86_64",
        "machine": "pc-q35-10.0",
        "definition": {"size_bytes": len(XML), "digest": sha256_of([XML])},
        "nvram": None,
        "tpm": None,
        "memory": None,
        "disks": [{"target": "vda", "size_bytes": 8192, "image": image, "base": image, "layers": []}],
        **more,
    }
    return canonical_json.canonical(document)


@pytest.fixture
def definition(tmp_path):
    path = tmp_path / "definition"
    path.write_bytes(XML)
    return {"definition": str(path)}


def refused(call, *arguments, **options):
    with pytest.raises(CapsuleError) as caught:
        call(*arguments, **options)
    return caught.value.refusal


def modes(directory):
    found = Path(directory).rglob("*")
    return {str(path.relative_to(directory)): oct(stat.S_IMODE(path.lstat().st_mode)) for path in found}


def test_only_images_can_be_passed_by_others_and_nothing_can_be_read(store, definition):
    old = os.umask(0)
    try:
        name = add_image(store, b"x" * 8192)
        store.add_capsule(capsule(name), b"signed", definition)
        store.remember(UUID, Known(1, "sha256:" + "a" * 64, True))
        with store.using([name], "it is sent"), store.guest_lock(UUID):
            found = modes(store.directory)
    finally:
        os.umask(old)
    digits = name[len("blocks:") :]
    use = next(path for path in found if path.startswith("uses/"))
    assert oct(stat.S_IMODE(Path(store.directory).stat().st_mode)) == "0o711"
    assert found == {
        "images": "0o711",
        "index": "0o700",
        "manifests": "0o700",
        "guests": "0o700",
        "receiving": "0o700",
        "runs": "0o700",
        "uses": "0o700",
        "lock": "0o600",
        use: "0o600",
        f"images/{digits}.raw": "0o400",
        f"index/{digits}.json": "0o600",
        f"manifests/{digits}": "0o600",
        f"guests/{UUID}": "0o700",
        f"guests/{UUID}/lock": "0o600",
        f"guests/{UUID}/known.json": "0o600",
        f"guests/{UUID}/1": "0o700",
        f"guests/{UUID}/1/capsule.json": "0o600",
        f"guests/{UUID}/1/capsule.json.sig": "0o600",
        f"guests/{UUID}/1/definition.xml": "0o600",
    }


def test_an_image_is_found_again_with_its_manifest(store):
    name = add_image(store, b"x" * 8192)
    assert store.manifest(name).name == name
    record = store.images()[name]
    assert (record["path"], record["format"]) == (store.image_path(name, "raw"), "raw")
    assert store.owns(record)
    assert store.changed(record) is None


def test_a_capsule_is_found_again(store, definition):
    name = add_image(store, b"x" * 8192)
    data = capsule(name)
    store.add_capsule(data, b"signed", definition)
    found = store.capsule(UUID, 1)
    assert (found.data, found.signature, found.digest) == (data, b"signed", sha256_of([data]))
    assert Path(found.part("definition")).read_bytes() == XML
    assert found.part("nvram") is None
    assert [one.digest for one in store.capsules()] == [found.digest]
    assert store.capsule(UUID, 2) is None
    assert store.find_capsule("db1").digest == store.find_capsule(UUID, 1).digest == found.digest


def test_adding_a_capsule_again_changes_nothing(store, definition):
    data = capsule(add_image(store, b"x" * 8192))
    first = store.add_capsule(data, None, definition)
    assert store.add_capsule(data, None, definition) == first
    assert refused(store.add_capsule, capsule(add_image(store, b"y" * 8192)), None, definition)["reason"].startswith(
        f"another capsule 1 of db1 is here: {first.digest}, and sha256:"
    )


def test_a_store_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "capsules").mkdir()
    (tmp_path / "capsules").chmod(0o777)
    assert refused(CapsuleStore(str(tmp_path / "capsules")).prepare) == {
        "code": "store_open",
        "reason": f"{tmp_path}/capsules belongs to another user, or others may write into it: whoever that is could put"
        " images of their own in place of those that a guest starts from",
        "remedy": f"chown root:root {tmp_path}/capsules && chmod 0711 {tmp_path}/capsules",
    }


@pytest.mark.parametrize("name", ["", "blocks:", "../../etc/passwd", "blocks:" + "A" * 64, "blocks:" + "/" * 64, None])
def test_what_is_no_name_of_an_image_leads_nowhere(store, name):
    for call in (store.image, store.manifest, store.receiving, store.remove_image):
        assert refused(call, name)["code"] == "bad_image_name"


@pytest.mark.parametrize("uuid", ["", "..", "../../x", UUID.upper(), UUID + "/..", None])
def test_what_is_no_uuid_leads_nowhere(store, uuid):
    for call in (store.known, store.next_number):
        assert refused(call, uuid)["code"] == "bad_uuid"
    assert refused(store.capsule, uuid, 1)["code"] == "bad_uuid"


def test_numbers_only_grow(store, definition):
    assert store.next_number(UUID) == 1
    store.add_capsule(capsule(add_image(store, b"x" * 8192), 7), None, definition)
    assert store.next_number(UUID) == 8
    store.remember(UUID, Known(9, "sha256:" + "a" * 64, True))
    store.remember(UUID, Known(3, "sha256:" + "b" * 64, False))
    assert store.known(UUID) == Known(9, "sha256:" + "a" * 64, True)
    assert store.next_number(UUID) == 10


def test_a_flipped_bit_in_a_manifest_is_found(store):
    name = add_image(store, b"x" * 8192)
    path = Path(store.directory, "manifests", name[len("blocks:") :])
    data = bytearray(path.read_bytes())
    data[70] ^= 1
    path.write_bytes(data)
    assert refused(store.manifest, name)["reason"] == (
        f"the block manifest of {path} cannot be used: its checksum does not match"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("{", "is damaged: it is no JSON"),
        ("[]", "does not say what image it is of: the document is no object"),
        (
            '{"schema": "kvmops.capsule_image/2"}',
            "does not say what image it is of: schema is 'kvmops.capsule_image/2'",
        ),
    ],
)
def test_a_damaged_record_is_named_and_hides_no_other(store, content, why):
    good, bad = add_image(store, b"x" * 8192), add_image(store, b"y" * 8192)
    path = Path(store.directory, "index", bad[len("blocks:") :] + ".json")
    path.write_text(content, encoding="utf-8")
    assert set(store.images()) == {good}
    assert [(one.folder, one.why["reason"].startswith(f"{path} {why}")) for one in store.damaged_records()] == [
        (str(path), True)
    ]


def test_a_record_of_another_image_is_damaged(store):
    first, second = add_image(store, b"x" * 8192), add_image(store, b"y" * 8192)
    paths = [Path(store.directory, "index", name[len("blocks:") :] + ".json") for name in (first, second)]
    paths[1].write_bytes(paths[0].read_bytes())
    assert refused(store.image, second)["reason"] == f"{paths[1]} does not say what image it is of: it is of {first}"


def test_an_image_that_changed_is_not_added(store, tmp_path):
    name = add_image(store, b"x" * 8192)
    record = store.image(name)
    path = Path(record["path"])
    path.chmod(0o600)
    path.write_bytes(b"y" * 8192)
    os.utime(record["path"], ns=(1, 1))
    assert store.changed(record) == f"{record['path']} was written to after it was sealed"
    assert refused(store.add_image, record, store.manifest(name))["code"] == "image_changed"
    path.unlink()
    assert store.changed(record) == f"{record['path']} is not there any more"


def test_removing_an_image_that_is_in_a_guests_place_leaves_the_file(store, tmp_path):
    content = b"z" * 4096
    manifest = manifest_of([content])
    path = tmp_path / "db1.raw"
    path.write_bytes(content)
    record = image_record.record_of(
        manifest.name,
        kind="disk",
        path=str(path),
        form="raw",
        size_bytes=len(content),
        facts=file_facts(str(path)),
        sealed_at=AT,
        trust_domain="default",
    )
    store.add_image(record, manifest)
    own = add_image(store, b"x" * 8192)
    for name in (manifest.name, own):
        store.remove_image(name)
    assert path.exists()
    assert not Path(store.image_path(own, "raw")).exists()
    assert store.images() == {}
    assert refused(store.manifest, own)["code"] == "manifest_missing"


def test_a_part_that_is_not_as_its_capsule_says_is_refused_and_nothing_is_left(store, tmp_path):
    name = add_image(store, b"x" * 8192)
    (tmp_path / "other").write_bytes(b"<domain />")
    assert refused(store.add_capsule, capsule(name), None, {})["reason"] == (
        "the definition of db1 did not come with its capsule"
    )
    why = refused(store.add_capsule, capsule(name), None, {"definition": str(tmp_path / "other")})
    assert why["code"] == "part_damaged"
    assert list(Path(store.directory, "guests", UUID).iterdir()) == []


def test_a_capsule_in_the_directory_of_another_is_damaged(store, definition):
    name = add_image(store, b"x" * 8192)
    store.add_capsule(capsule(name), None, definition)
    Path(store.directory, "guests", UUID, "1").rename(Path(store.directory, "guests", UUID, "2"))
    assert store.capsules() == []
    assert [one.why["reason"] for one in store.unreadable()] == [
        f"{store.directory}/guests/{UUID}/2/capsule.json is damaged: it is capsule 1 of {UUID}"
    ]


def test_two_guests_of_one_name_must_be_told_apart(store, definition):
    name = add_image(store, b"x" * 8192)
    for uuid in (UUID, OTHER):
        store.add_capsule(capsule(name, uuid=uuid), None, definition)
    assert refused(store.find_capsule, "db1")["remedy"] == "name the guest by its UUID"
    assert store.find_capsule(OTHER).document["guest"]["uuid"] == OTHER
    assert refused(store.find_capsule, "db2")["reason"] == f"there is no capsule of db2 in {store.directory}"
    assert refused(store.find_capsule, UUID, 3)["reason"] == f"there is no capsule 3 of {UUID} in {store.directory}"


def test_what_a_living_run_uses_is_in_use_and_what_a_dead_one_used_is_not(store):
    name = add_image(store, b"x" * 8192)
    with store.using([name], "it is sent to h3"):
        assert store.in_use() == {name: "it is sent to h3"}
        store.sweep()
        assert store.in_use() == {name: "it is sent to h3"}
    assert store.in_use() == {}
    left = Path(store.directory, "uses", "left.json")
    note = {"schema": "kvmops.capsule_use/1", "names": [name], "why": "it is sent", "since": 1}
    left.write_text(json.dumps(note), encoding="utf-8")
    assert store.in_use() == {}
    store.sweep()
    assert not left.exists()


def test_a_prune_and_others_keep_each_other_away(store):
    with store.locked(), store.locked():
        assert refused(store.locked(exclusive=True, wait_s=0).__enter__) == {
            "code": "store_busy",
            "reason": f"the store {store.directory} is in use by another task",
            "remedy": "wait until that has ended, or see what it does"
            f" (fuser -v {store.directory}/lock); then run the task again",
        }
    with store.locked(exclusive=True, wait_s=0):
        assert refused(store.locked(wait_s=0).__enter__)["code"] == "store_busy"


def test_a_link_in_the_store_is_not_followed(store, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("{}")
    name = "blocks:" + "a" * 64
    Path(store.directory, "index", "a" * 64 + ".json").symlink_to(secret)
    assert refused(store.image, name)["code"] == "store_file"
    store.receiving(name).prepare()
    Path(store.directory, "receiving", "a" * 64, "state.json").symlink_to(secret)
    assert refused(store.receiving(name).state)["code"] == "store_file"
