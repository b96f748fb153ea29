# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import os
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import image_writers
from ansible_collections.kvmops.cluster.plugins.modules import capsule_base
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule_image.qcow2_files import header
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.run.capsule_store.test_store import (
    XML,
    add_image,
    capsule,
)

CONTENT = b"base" * 4096
OTHER = "blocks:" + "0" * 64


class Host:
    """A host with an image."""

    def __init__(self, run_module, cluster, tmp_path):
        self._run_module = run_module
        self.libvirt = cluster.add_host("h1")
        self.store = CapsuleStore(str(tmp_path / "capsules"))
        self.image = tmp_path / "base.raw"
        self.image.write_bytes(CONTENT)
        self.name = manifest_of([CONTENT]).name

    def run(self, **given):
        return self._run_module(capsule_base, name="h1", capsule_dir=self.store.directory, **given)

    def seal(self, **given):
        return self.run(path=str(self.image), **given)


@pytest.fixture
def host(run_module, cluster, tmp_path):
    return Host(run_module, cluster, tmp_path)


def test_an_image_is_sealed_where_it_is_and_read_once(host):
    found = host.seal()
    assert (found["changed"], found["copied_because"], found["read_bytes"]) == (True, None, len(CONTENT))
    assert (found["base"]["image"], found["base"]["path"]) == (host.name, str(host.image))
    assert stat.S_IMODE(host.image.stat().st_mode) & 0o222 == 0
    assert host.store.image(host.name)["base"] is True
    again = host.seal()
    assert (again["changed"], again["read_bytes"]) == (False, 0)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"KVM")])
def test_a_manifest_that_was_lost_is_made_anew(host, damage):
    host.seal()
    damage(Path(host.store.directory, "manifests", host.name.partition(":")[2]))
    assert (host.seal(check=True)["changed"], host.store.has_manifest(host.name)) == (True, False)
    assert host.seal()["changed"] is True
    assert host.store.has_manifest(host.name)
    assert host.seal()["changed"] is False


def test_check_mode_finds_the_digest_and_changes_nothing(host):
    found = host.seal(check=True)
    assert (found["changed"], found["base"]["image"]) == (True, host.name)
    assert not Path(host.store.directory).exists()
    assert stat.S_IMODE(host.image.stat().st_mode) & 0o200


def test_another_image_than_the_one_that_was_wanted_is_refused(host):
    found = host.seal(image=OTHER)
    assert found["msg"] == (
        f"{host.image} is {host.name}, and {OTHER} was wanted; on another base a disk would be silently corrupt: find"
        " the image with that digest (capsule_info on the other host says its path), and put it here"
    )


def test_an_image_that_is_here_already_becomes_a_base_where_it_is(host):
    host.store.prepare()
    add_image(host.store, CONTENT, base=False)
    found = host.seal()
    assert (found["changed"], found["base"]["path"]) == (True, host.store.image_path(host.name, "raw"))
    assert host.seal()["changed"] is False


def test_another_trust_domain_does_not_share_it(host):
    host.seal()
    assert host.seal(trust_domain="customer-b")["refusal"]["code"] == "trust_domain"


def test_an_image_that_was_written_to_since_is_read_again(host):
    host.seal()
    host.image.chmod(0o600)
    host.image.write_bytes(b"else" * 4096)
    os.utime(host.image, ns=(1, 1))
    found = host.seal()
    assert (found["changed"], found["base"]["image"]) == (True, manifest_of([b"else" * 4096]).name)


@pytest.mark.parametrize("size", [0, 1000])
def test_what_a_guest_would_see_otherwise_is_refused(host, size):
    host.image.write_bytes(bytes(size))
    assert host.seal()["refusal"]["reason"] == (
        f"{host.image} has {size} bytes, and a guest sees whole sectors of 512 bytes"
    )


def test_a_header_that_names_a_file_is_not_believed_without_a_word(host):
    host.image.write_bytes(header(backing="/etc/shadow", backing_format="raw"))
    assert host.seal()["refusal"]["code"] == "format_unknown"
    assert host.seal(format="raw")["base"]["format"] == "raw"


def test_a_missing_image_is_named(host):
    host.image.unlink()
    assert host.seal()["msg"].startswith(f"{host.image} is not there")


HOLD = """
import fcntl, struct, sys, time
file = open(sys.argv[1], "r+b")
fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, int(sys.argv[2]), 1, 0))
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(("byte", "written"), [(101, True), (100, False)])
def test_a_qemu_that_writes_is_known_by_its_lock(tmp_path, byte, written):
    path = tmp_path / "image"
    path.write_bytes(b"x")
    command = [sys.executable, "-c", HOLD, str(path), str(byte)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert image_writers.is_written_by_qemu(str(path)) is written
        holder.kill()
    assert struct.calcsize("hhqqi4x") == 32
    assert hasattr(fcntl, "F_OFD_GETLK")


def test_an_image_that_qemu_writes_is_refused(host, monkeypatch):
    monkeypatch.setattr(
        "ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.sealing.is_written_by_qemu",
        lambda _path: True,
    )
    assert host.seal()["refusal"] == {
        "code": "base_written",
        "reason": f"a QEMU process has {host.image} open to write to it, and a base never changes",
        "remedy": f"see which: fuser -v {host.image}; end it, or seal a copy",
    }


def test_a_base_that_nothing_needs_is_removed_and_its_file_may_be_written_again(host):
    host.seal()
    assert host.run(path=str(host.image), state="absent", check=True)["changed"] is True
    assert host.run(path=str(host.image), state="absent")["changed"] is True
    assert host.run(path=str(host.image), state="absent")["changed"] is False
    assert host.image.read_bytes() == CONTENT
    assert stat.S_IMODE(host.image.stat().st_mode) & 0o200
    assert host.store.images() == {}


def test_a_base_that_a_capsule_needs_stays(host, tmp_path):
    host.seal()
    (tmp_path / "definition").write_bytes(XML)
    host.store.add_capsule(capsule(host.name), None, {"definition": str(tmp_path / "definition")})
    found = host.run(image=host.name, state="absent")
    assert found["refusal"] == {
        "code": "base_needed",
        "reason": f"{host.name} ({host.image}) is not removed: capsule 1 of db1 needs it",
        "remedy": "remove what needs it first (capsule_prune removes capsules), or keep it",
    }
    assert host.name in host.store.images()


def test_a_base_that_is_sent_stays(host):
    host.seal()
    with host.store.using([host.name], "it is sent to h3"):
        assert host.run(image=host.name, state="absent")["refusal"]["reason"].endswith("it is sent to h3")
