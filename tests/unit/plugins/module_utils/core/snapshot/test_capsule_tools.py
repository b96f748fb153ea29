# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.capsule_tools import lacking, tool_refusal
from ansible_collections.kvmops.cluster.tests.unit.builders import snapshot

ALL = dict.fromkeys(("qemu-img", "qemu-nbd", "ssh", "ssh-keygen", "nbd", "zstandard"), True)
NEW = {"libvirt": "11.3.0", "qemu": "10.0.13"}


def host(libvirt="11.3.0", **missing):
    return snapshot("h1", versions={**NEW, "libvirt": libvirt}, capsule_tools={**ALL, **missing})


def test_a_host_that_has_everything_lacks_nothing():
    assert lacking(host()) == []
    assert tool_refusal(host()) is None


def test_what_is_missing_is_named_with_its_package():
    bare = host(nbd=False, zstandard=False, **{"qemu-nbd": False, "qemu-img": False})
    images, library, compression = (sentence(one) for one in lacking(bare))
    assert images == (
        "qemu-img and qemu-nbd are missing, needed for capsules: images of disks are read with it:"
        " apt install qemu-utils (dnf install qemu-img)"
    )
    assert library == (
        "the Python library nbd is missing, needed for capsules: images of disks are read with it:"
        " apt install python3-libnbd"
    )
    assert compression == (
        "the Python library zstandard is missing, optional for capsules: with it capsules are compressed better than"
        " with zlib: apt install python3-zstandard"
    )


def test_an_old_libvirt_is_told_what_it_cannot_do():
    old, middle = ([one["code"] for one in lacking(host(libvirt=version))] for version in ("9.0.0", "10.0.0"))
    assert (old, middle) == (["lazy_libvirt", "sparse_libvirt"], ["sparse_libvirt"])


def test_only_what_is_needed_keeps_a_host_from_capsules():
    assert tool_refusal(host(zstandard=False)) is None
    refused = tool_refusal(host(nbd=False))
    assert refused["reason"].startswith("h1: the Python library nbd is missing")
    assert refused["remedy"] == "apt install python3-libnbd"


def test_a_host_that_does_not_tell_lacks_nothing():
    silent = {**host(), "capsule_tools": None, "versions": {}}
    assert (lacking(silent), tool_refusal(silent)) == ([], None)
