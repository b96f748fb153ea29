# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the far end would refuse at the start is refused while the guest runs, in the words of the start."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import signature
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move import far_check, needed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move.start_on_arrival import request_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import host_place
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.capsule_save.fake_host import (
    LIBVIRT,
    UUID,
    FakeHost,
)

GIB = 1024**3
H2 = {"host": "h2", "versions": {"libvirt": "11.3.0", "qemu": "10.0.13"}, "emulators": []}
GUEST = {
    "name": "db1",
    "uuid": UUID,
    "type": "qemu",
    "arch": "x86_64",
    "machine": "pc-q35-10.0",
    "state": "running",
    "memory_bytes": GIB,
    "vcpus": 1,
    "cpu": {"mode": "custom", "model": "qemu64", "xml": "<cpu/>"},
}


class Ends:
    """The guest's host, and the one that it is to go to."""

    def __init__(self, folder: Path) -> None:
        for name in ("h1", "h2", "images"):
            (folder / name).mkdir()
        self.folder = folder
        self.here, self.there = FakeHost(folder / "h1"), FakeHost(folder / "h2")
        self.there.defined, self.there.live = False, None
        self.source, self.far = CapsuleStore(str(folder / "store1")), CapsuleStore(str(folder / "store2"))
        for store in (self.source, self.far):
            store.prepare()
        self.guest = dict(GUEST)
        self.far_host = {"emulators": None, "domains": [], "capacity": {}, "maintenance": {"state": "active"}}
        self.cpu_error: str | None = None
        self.keys: tuple[str, ...] = ()
        self.start: dict[str, object] = {"image_dir": str(folder / "images")}
        self.changes: dict[str, object] = {}

    def snapshot(self, connection, *, name, state_dir, only=None):
        """What each of them says of itself."""
        seen = {"host": name, "host_uuid": name, "versions": H2["versions"], "cpu": {}, "domains": [self.guest]}
        return seen if connection is self.here else {**seen, **self.far_host}

    def check(self, key: str | None = None) -> list[str]:
        """Ask the far end."""
        needs = needed.needs(self.here, self.here, self.source, "h1", str(self.folder))
        told = needed.encoded({**needs, **self.changes})
        ticket = Ticket(
            "t", "", "h1", "id", "h2", self.far.directory, self.keys, False, H2, 2**40, guest=UUID, start=self.start
        )
        far = far_check.FarHost(self.there, self.far, ticket, str(self.folder))
        signed = signature.signed(told, key) if key else b""
        return far_check.check(far, needed.parsed(told), told, signed, request_of(ticket, UUID, needs["number"]))

    def refusal(self, key: str | None = None) -> dict[str, str]:
        """Why it would not take the guest."""
        with pytest.raises(CapsuleError) as error:
            self.check(key)
        return dict(error.value.refusal)


@pytest.fixture
def ends(tmp_path, monkeypatch):
    found = Ends(tmp_path)
    monkeypatch.setattr(virt, "libvirt", LIBVIRT)
    monkeypatch.setattr(needed.hosts, "snapshot", found.snapshot)
    monkeypatch.setattr(host_place, "place", lambda _connection, wanted: wanted)
    return found


def compares(ends, outcome):
    """What the libvirtd of the far end says of the guest's CPU."""
    LIBVIRT.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE, LIBVIRT.VIR_CPU_COMPARE_INCOMPATIBLE = 1, 0
    ends.there.compareHypervisorCPU = lambda *_all: outcome


def key_of(folder, name):
    path = str(folder / name)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path, Path(path + ".pub").read_text(encoding="ascii")


def test_a_guest_that_could_be_started_is_not_refused(ends):
    compares(ends, 1)
    assert ends.check() == []
    # Nothing was made there.
    assert not any((ends.folder / "images").iterdir())
    assert ends.there.calls == []


def test_a_kernel_that_is_not_permitted_there(ends):
    compares(ends, 1)
    ends.here.live = ends.here.persistent = ends.here.persistent.replace("</os>", "<kernel>/boot/k</kernel></os>")
    assert ends.refusal() == {
        "code": "file_not_permitted",
        "reason": "the definition of db1 has the file /boot/k of its old host as its kernel",
        "remedy": "put the right file there on h2, and permit it: allow_files: [/boot/k]"
        " (kvmops_cluster_capsule_files of h2)",
    }
    ends.start["allow_files"] = ["/boot/*"]
    assert ends.refusal() == {
        "code": "file_missing",
        "reason": "the definition of db1 names /boot/k, which h2 does not have",
        "remedy": "put the same file there on h2",
    }


def test_another_cpu(ends):
    compares(ends, 0)
    why = ends.refusal()
    assert (why["code"], why["reason"]) == (
        "cpu",
        "the CPU of db1 cannot run on h2: some of its features are missing",
    )
    assert why["remedy"].startswith("choose a host with the missing features, or restart db1 with a CPU model")


def test_a_cpu_that_is_passed_through(ends):
    ends.guest.update(type="kvm", cpu={"mode": "host-passthrough", "model": None, "xml": None})
    ends.far_host["cpu"] = {"model": "EPYC", "vendor": "AMD"}
    why = ends.refusal()
    assert why["code"] == "cpu_host_differs"
    assert why["reason"] == ("db1 has exactly the CPU of h1 (host-passthrough, unknown), but h2 has another (EPYC)")


def test_an_older_qemu(ends):
    ends.changes["versions"] = {"libvirt": "11.3.0", "qemu": "11.1.3"}
    assert ends.refusal() == {
        "code": "qemu_older",
        "reason": "the memory of db1 was saved by QEMU 11.1.3, and h2 has 10.0.13, which may not read it",
        "remedy": "upgrade QEMU on h2, or save without memory (consistency: frozen)",
    }


def test_a_machine_type_that_is_not_known_there(ends):
    ends.far_host["emulators"] = [{"type": "qemu", "arch": "x86_64", "machines": ["pc-q35-9.2"]}]
    why = ends.refusal()
    assert why["code"] == "machine_type"
    assert why["reason"] == (
        "h2 (QEMU 10.0.13) does not know the machine type pc-q35-10.0 of db1, which runs on QEMU 10.0.13"
    )


def test_a_host_that_is_closed(ends):
    ends.far_host["maintenance"] = {"state": "cordoned", "owner": "ann", "reason": "new disks", "since": None}
    assert ends.refusal()["reason"] == "h2 is cordoned (ann, new disks)"


def test_no_memory_for_it(ends):
    compares(ends, 1)
    ends.far_host["capacity"] = {"memory_bytes": GIB, "available_bytes": GIB // 2, "cells": []}
    why = ends.refusal()
    assert why["code"] == "memory"
    assert "h2" in why["reason"]


def test_no_space_for_its_capsule(ends, monkeypatch):
    compares(ends, 1)
    monkeypatch.setattr(far_check, "free_bytes", lambda _folder: 10 * 1024**2)
    why = ends.refusal()
    assert why["code"] == "no_space"
    assert why["reason"].startswith("the memory of db1 and what was written to its disks may need ")
    assert why["reason"].endswith(f" in {ends.far.directory} on h2, and 10 MiB are free there")


def test_no_directory_for_its_disks(ends):
    compares(ends, 1)
    ends.start["image_dir"] = "/nowhere/images"
    assert ends.refusal() == {
        "code": "no_image_dir",
        "reason": "h2 has no directory /nowhere/images for the disks of db1",
        "remedy": "make it there, or name another one: kvmops_cluster_capsule_image_dir of h2",
    }


def test_a_signature_that_is_demanded_there(ends):
    dummy, public = key_of(ends.folder, "right")
    ends.keys = (public,)
    why = ends.refusal()
    assert why["code"] == "signature_missing"
    assert why["reason"] == "capsule 1 of db1 is not signed, and keys that may sign are named"
    assert why["remedy"] == (
        "sign it where it is made: sign_with of the module (move_capsule_sign_with of a role) names the file of a key"
    )


def test_a_key_that_is_not_accepted_there(ends):
    compares(ends, 1)
    right, public = key_of(ends.folder, "right")
    wrong, dummy = key_of(ends.folder, "wrong")
    ends.keys = (public,)
    assert ends.check(right) == []
    why = ends.refusal(wrong)
    assert why["code"] == "signature_bad"
    assert why["reason"].startswith("h1 signs with a key that h2 does not accept (")
    assert why["remedy"] == (
        "add its public key (ssh-keygen -y -f FILE on h1) to kvmops_cluster_capsule_signers of h2, or name the file of"
        " a key that is there with sign_with"
    )


def test_a_guest_of_which_the_far_end_knows_a_later_capsule(ends):
    ends.far.remember(UUID, Known(7, "sha256:" + "7" * 64, False))
    why = ends.refusal()
    assert why["code"] == "capsule_older"
    assert why["reason"].startswith("capsule 1 of db1 is older than 7, which this host has seen")


def test_a_guest_of_this_name_that_is_there_already(ends):
    compares(ends, 1)
    ends.there.defined, ends.there.uuid = True, UUID.replace("0", "1")
    assert ends.refusal()["reason"] == f"another guest is called db1 on h2 ({ends.there.uuid})"


def test_a_guest_that_is_off_there(ends):
    compares(ends, 1)
    ends.there.defined = True
    assert ends.refusal()["reason"] == (
        "db1 is defined on h2 and off, and may have written to its disks since capsule 1"
    )


@pytest.mark.parametrize(
    "told",
    [b"", b"[]", b"\xff", b"{}", b'{"schema": "kvmops.capsule_needs/2"}', b"[" * 10**5, b" " * (needed.MOST_BYTES + 1)],
    ids=["nothing", "a list", "no text", "no schema", "a later version", "deep", "long"],
)
def test_what_is_not_told_as_it_must_be(told):
    with pytest.raises(CapsuleError) as error:
        needed.parsed(told)
    assert error.value.refusal["code"] == "needs_damaged"
    assert error.value.refusal["reason"].startswith("what the guest needs is not told as this host knows it: ")


def test_what_makes_no_sense_is_refused_and_not_a_crash(ends):
    ends.changes["domain"] = {"name": "db1"}
    why = ends.refusal()
    assert why["code"] == "needs_damaged"
    assert why["reason"].startswith("what h1 tells of the guest makes no sense (KeyError: ")


def test_a_definition_that_is_none(ends):
    compares(ends, 1)
    ends.changes["definition"] = json.dumps({})
    why = ends.refusal()
    assert (why["code"], why["remedy"]) == ("definition_damaged", "see what h1 has: virsh dumpxml")
