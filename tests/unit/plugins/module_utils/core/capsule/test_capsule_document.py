# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import capsule_document
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.canonical_json import canonical
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.capsules import (
    CAPSULE,
    capsule,
    image,
    sha,
)

NAMES = ("two words", "dots.in.it", "größe-データ-🐧", 'it\'s "quoted" $(reboot) `x`', "n" * 200)


def refused(document):
    with pytest.raises(CapsuleError) as error:
        capsule_document.parsed(document if isinstance(document, bytes) else canonical(document), "/var/x.json")
    return error.value.refusal


def edited(path, value):
    """The capsule with another value in one place; C(...) removes it."""
    made = copy.deepcopy(CAPSULE)
    at = made
    for key in path[:-1]:
        at = at[key]
    if value is ...:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return made


@pytest.mark.parametrize("name", NAMES)
def test_what_is_written_is_read_again(name):
    made = capsule(guest={**CAPSULE["guest"], "name": name})
    assert capsule_document.parsed(canonical(made), "x") == made


@pytest.mark.parametrize(
    "changes",
    [
        {"parent": None},
        {"consistency": "crash", "memory": None},
        {"consistency": "frozen", "memory": None, "nvram": None, "tpm": {"size_bytes": 9, "digest": sha(9)}},
        {"disks": []},
        {"disks": [{"target": "sda", "size_bytes": 1, "image": image(1), "base": image(1), "layers": []}]},
        {
            "disks": [
                {
                    "target": "sda",
                    "size_bytes": 1,
                    "image": image(1),
                    "base": None,
                    "layers": [{"number": 1, "image": image(1)}],
                }
            ]
        },
    ],
)
def test_other_capsules_that_there_may_be(changes):
    made = capsule(**changes)
    assert capsule_document.parsed(canonical(made), "x") == made


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (("guest", "uuid"), "../../etc", "guest.uuid is '../../etc'"),
        (("guest", "name"), "a\nb", "guest.name is 'a\\nb'"),
        (("guest", "name"), "", "guest.name is ''"),
        (("guest", "name"), "x" * 300, "guest.name is '" + "x" * 59 + "…"),
        (("guest",), [], "guest is no object"),
        (("number",), 0, "number is 0"),
        (("number",), True, "number is True"),
        (("number",), ..., "number is missing"),
        (("parent", "number"), 7, "parent.number is 7"),
        (("parent", "digest"), "md5:0", "parent.digest is 'md5:0'"),
        (("made_at",), "yesterday", "made_at is 'yesterday'"),
        (("trust_domain",), "a/b", "trust_domain is 'a/b'"),
        (("consistency",), "snapshot", "consistency is 'snapshot'"),
        (("consistency",), "crash", "memory is there in a capsule that is crash"),
        (("memory",), None, "memory is missing in a capsule that is memory"),
        (("memory", "format"), "zstd", "memory.format is 'zstd'"),
        (("versions", "qemu"), "10", "versions.qemu is '10'"),
        (("machine",), "none -device x", "machine is 'none -device x'"),
        (("definition", "size_bytes"), 64 * 1024**2 + 1, "definition.size_bytes is 67108865"),
        (("nvram", "file"), "/etc/shadow", "nvram.'file' is not known here"),
        (("command",), "x", "'command' is not known here"),
        (("disks",), {}, "disks is a dict"),
        (("disks",), CAPSULE["disks"] * 65, "disks has 65 entries, and 64 is the most"),
        (("disks",), CAPSULE["disks"] * 2, "the disk vda is there twice"),
        (("disks", 0, "target"), "../vda", "disks[0].target is '../vda'"),
        (("disks", 0, "size_bytes"), 2**50, f"disks[0].size_bytes is {2**50}"),
        (("disks", 0, "base"), "blocks:" + "A" * 64, "disks[0].base is 'blocks:" + "A" * 52 + "…"),
        (("disks", 0, "image"), image(9), "the layers of the disk vda do not end with its image"),
        (("disks", 0, "layers"), [], "the layers of the disk vda do not end with its image"),
        (
            ("disks", 0, "layers"),
            [{"number": 1, "image": image(5)}] * 17,
            "disks[0].layers has 17 entries, and 16 is the most",
        ),
    ],
)
def test_a_part_that_is_not_possible_is_named(path, value, why):
    assert refused(edited(path, value)) == {
        "code": "capsule_damaged",
        "reason": f"the capsule in /var/x.json cannot be used: {why}",
        "remedy": "send it again from its source; capsule_verify says there whether that one is right",
    }


def test_every_key_is_needed_and_none_may_be_more():
    def places(value, path=()):
        if isinstance(value, dict):
            yield path
            for key, one in value.items():
                yield from places(one, (*path, key))
        elif isinstance(value, list):
            for number, one in enumerate(value):
                yield from places(one, (*path, number))

    for path in places(CAPSULE):
        at = CAPSULE
        for key in path:
            at = at[key]
        for key in at:
            assert refused(edited((*path, key), ...))["code"] in {"capsule_damaged", "capsule_version"}, (path, key)
        assert refused(edited((*path, "more"), 1))["reason"].endswith("is not known here")


def test_a_later_version_is_told_from_a_damaged_one():
    assert refused(capsule(schema="kvmops.capsule/2")) == {
        "code": "capsule_version",
        "reason": "the capsule in /var/x.json is of version 'kvmops.capsule/2', and this host reads kvmops.capsule/1",
        "remedy": "use the same version of kvmops.cluster on both hosts",
    }
    assert refused(capsule(schema="kvmops.plan/1"))["reason"].endswith("schema is 'kvmops.plan/1'")
    assert refused(b"[]")["reason"].endswith("the document is no object")
    assert refused(b"{")["code"] == "capsule_damaged"


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_bytes_lead_to_anything_but_a_capsule_or_a_refusal(data):
    body = bytearray(canonical(CAPSULE))
    for _time in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        read = capsule_document.parsed(bytes(body), "x")
    except CapsuleError:
        return
    assert canonical(read) == bytes(body)


def test_what_a_capsule_is_made_of():
    assert capsule_document.images_of(CAPSULE) == {"disk vda": image(5), "memory": image(3)}
    assert capsule_document.bases_of(CAPSULE) == {image(4), image("a"), image(5)}
