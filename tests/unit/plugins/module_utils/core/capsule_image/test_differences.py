# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.differences import missing, needed_where

BASE, LAYER, DISK, MEMORY = ("blocks:" + letter * 64 for letter in "abcd")
CAPSULE = {
    "memory": {"image": MEMORY},
    "disks": [{"target": "vda", "image": DISK, "base": BASE, "layers": [LAYER]}],
}
ALL = {"disk vda": DISK, "memory": MEMORY, "base of vda": BASE}


@pytest.mark.parametrize(
    ("backing", "parts"),
    [
        # The host that made it.
        ({BASE: None, LAYER: BASE, DISK: LAYER, MEMORY: None}, ["disk vda", "memory", "base of vda"]),
        # A host that has the base, and got the disk as what is not as in it.
        ({BASE: None, DISK: BASE}, ["disk vda", "memory", "base of vda"]),
        # A host that has no base got the disk in full.
        ({DISK: None}, ["disk vda", "memory"]),
        ({DISK: None, BASE: None}, ["disk vda", "memory"]),
        # Of a host that has no disk yet, nobody knows how it will get it.
        ({}, ["disk vda", "memory", "base of vda"]),
        # A layer below it is lost, or records name each other: then nobody can say that the base is not needed.
        ({DISK: LAYER}, ["disk vda", "memory", "base of vda"]),
        ({DISK: LAYER, LAYER: DISK}, ["disk vda", "memory", "base of vda"]),
    ],
)
def test_what_a_host_needs_of_a_capsule(backing, parts):
    assert needed_where(CAPSULE, backing) == {part: ALL[part] for part in parts}


def test_a_host_with_the_whole_disk_lacks_no_base():
    assert missing(CAPSULE, {DISK: None, MEMORY: None}) == []
    assert missing(CAPSULE, {DISK: BASE, MEMORY: None}) == [{"part": "base of vda", "image": BASE}]
    assert [one["part"] for one in missing(CAPSULE, {BASE: None})] == ["disk vda", "memory"]


def test_a_disk_that_is_as_its_base_needs_it():
    same = {**CAPSULE, "disks": [{"target": "vda", "image": BASE, "base": BASE, "layers": []}]}
    assert needed_where(same, {BASE: None})["base of vda"] == BASE
