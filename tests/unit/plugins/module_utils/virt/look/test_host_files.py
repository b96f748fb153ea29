# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is learned from a host's files: where disks are, whether encryption can work, and calls that never return."""

from __future__ import annotations

import datetime
import threading
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.certificate import Validity
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    NotAskedError,
    UnansweredError,
    each,
    within,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import certificates, daemon_environment
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.storage import Storage

NOW = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)


def disk(source, kind="file", backing=()):
    return {"type": kind, "source": source, "backing": list(backing), "shared": None, "shared_why": None}


@pytest.fixture
def storage(tmp_path):
    mounts = [
        {"path": "/", "type": "ext4", "source": "/dev/sda1", "shared": False},
        {"path": str(tmp_path / "nfs"), "type": "nfs4", "source": "nas:/guests", "shared": True},
    ]
    block = tmp_path / "sys/class/block"
    block.mkdir(parents=True)
    devices = tmp_path / "sys/devices"
    for name, where in {
        "sda": "pci0000:00/ata1/host0/target0:0:0/0:0:0:0/block/sda",
        "sdb": "platform/host3/session1/target3:0:0/3:0:0:0/block/sdb",
        "sdc": "pci0000:00/host4/rport-4:0-1/target4:0:0/4:0:0:0/block/sdc",
        "rbd0": "rbd/0/block/rbd0",
        "dm-0": "virtual/block/dm-0",
        "dm-1": "virtual/block/dm-1",
    }.items():
        (devices / where / "slaves").mkdir(parents=True)
        (block / name).symlink_to(devices / where)
    for name, slaves in {"dm-0": ["sdb", "sdc"], "dm-1": ["dm-0", "sda"]}.items():
        for slave in slaves:
            (block / name / "slaves" / slave).symlink_to(block / slave)
    return Storage(None, mounts, tmp_path / "sys")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sda", (False, "local block device sda")),
        ("sdb", (True, "iSCSI (sdb)")),
        ("sdc", (True, "Fibre Channel (sdc)")),
        ("rbd0", (True, "block device rbd0")),
        # A stack is shared only if all of it is.
        ("dm-0", (True, "iSCSI (sdb)")),
        ("dm-1", (False, "local block device sda")),
        ("sdz", (None, None)),
    ],
)
def test_block_devices(storage, name, expected):
    described = disk(f"/dev/{name}", "block")
    storage.describe(described)
    assert (described["shared"], described["shared_why"]) == expected


def test_files_and_what_they_rest_on(storage, tmp_path):
    shared, local = str(tmp_path / "nfs/a.qcow2"), "/var/lib/b.qcow2"
    for given, expected in (
        (disk(shared), (True, "nfs4 (nas:/guests)")),
        (disk(local), (False, "ext4")),
        (disk(shared, backing=[local]), (False, "ext4")),
        (disk(shared, backing=[shared]), (True, "nfs4 (nas:/guests)")),
        (disk("rbd:pool/image", "network"), (True, "rbd:pool/image")),
        (disk("nbd+unix:x", "network"), (False, "nbd+unix on this host")),
        (disk(None), (None, None)),
    ):
        storage.describe(given)
        assert (given["shared"], given["shared_why"]) == expected


def test_symbolic_links_are_followed_up_to_where_a_server_would_have_to_answer(storage, tmp_path):
    (tmp_path / "images").symlink_to("nfs")
    (tmp_path / "loop").symlink_to("loop")
    assert storage.resolve(str(tmp_path / "images/a/../b.qcow2")) == str(tmp_path / "nfs/b.qcow2")
    # A link to itself has no end, but this has.
    storage.resolve(str(tmp_path / "loop/x"))


def test_a_volume_is_looked_up_once(tmp_path):
    class Pools:
        asked = 0

        def storagePoolLookupByName(self, name):  # noqa: N802
            self.asked += 1
            return self

        def storageVolLookupByName(self, name):  # noqa: N802
            return self

        def path(self):
            return "/images/web1"

    pools = Pools()
    mounts = [{"path": "/images", "type": "ceph", "source": "mon:/", "shared": True}]
    storage = Storage(pools, mounts, tmp_path)
    for _again in range(2):
        described = disk("images/web1", "volume")
        storage.describe(described)
        assert (described["shared"], described["shared_why"]) == (True, "ceph (mon:/)")
    assert pools.asked == 1


@pytest.fixture
def pki(tmp_path, monkeypatch):
    folder = tmp_path / "etc/pki/qemu"
    folder.mkdir(parents=True)
    for name in (*certificates.CERTIFICATES, *certificates.KEYS):
        (folder / name).write_text(name)
        (folder / name).chmod(0o600)
    dates = {}
    valid = Validity(NOW - datetime.timedelta(1), NOW + datetime.timedelta(1))

    def validity(text):
        return dates.get(text, valid)

    monkeypatch.setattr(certificates, "validity", validity)
    return folder, dates


def test_certificates_in_order(pki, tmp_path):
    assert certificates.verdict({}, "root", NOW, tmp_path) == {"usable": True, "reason": None, "remedy": None}


def test_a_missing_file_is_named(pki, tmp_path):
    (pki[0] / "client-key.pem").unlink()
    verdict = certificates.verdict({}, "root", NOW, tmp_path)
    assert verdict["reason"] == "/etc/pki/qemu has no client-key.pem"
    elsewhere = certificates.verdict({"migrate_tls_x509_cert_dir": "/etc/tls"}, "root", NOW, tmp_path)
    assert elsewhere["reason"] == "/etc/tls has no ca-cert.pem and no server-cert.pem"


def test_dates(pki, tmp_path):
    _folder, dates = pki
    day = datetime.timedelta(1)
    dates["server-cert.pem"] = Validity(NOW - 9 * day, NOW - day)
    verdict = certificates.verdict({}, "root", NOW, tmp_path)
    assert (verdict["usable"], verdict["reason"]) == (False, "/etc/pki/qemu/server-cert.pem expired on 2026-11-23")
    assert verdict["remedy"] == "renew /etc/pki/qemu/server-cert.pem"
    dates["server-cert.pem"] = Validity(NOW + day, NOW + 9 * day)
    reason = certificates.verdict({}, "root", NOW, tmp_path)["reason"]
    assert reason.startswith("/etc/pki/qemu/server-cert.pem is valid only from 2026-11-25 00:00 UTC on")
    dates["server-cert.pem"] = None
    assert (
        certificates.verdict({}, "root", NOW, tmp_path)["reason"] == "/etc/pki/qemu/server-cert.pem is no certificate"
    )


def test_a_key_that_qemu_may_not_read(pki, tmp_path, monkeypatch):
    class Nobody:
        pw_uid = 64055

    monkeypatch.setattr(certificates.pwd, "getpwnam", lambda name: Nobody)
    verdict = certificates.verdict({}, "libvirt-qemu", NOW, tmp_path)
    assert verdict["reason"] == "QEMU runs as libvirt-qemu, who may not read /etc/pki/qemu/server-key.pem"
    for key in certificates.KEYS:
        (pki[0] / key).chmod(0o640)
    assert certificates.verdict({}, "libvirt-qemu", NOW, tmp_path)["usable"]


def test_the_environment_of_the_daemon(tmp_path):
    assert daemon_environment.environment(tmp_path) == daemon_environment.PLAIN
    for pid, name, environ in ((7, "bash", b"HOME=/home/eve\0"), (42, "libvirtd", b"PATH=/usr/bin\0A=b=c\0broken\0")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(name + "\n")
        (tmp_path / str(pid) / "environ").write_bytes(environ)
    assert daemon_environment.environment(tmp_path) == {"PATH": "/usr/bin", "A": "b=c"}


def test_a_call_that_hangs_is_left_behind():
    never = threading.Event()

    def call(item):
        if item in (1, 3):
            never.wait(300)
        if item == 4:
            raise ValueError(item)
        return item * 10

    started = time.monotonic()
    answers = each(range(6), call, timeout_s=0.1)
    assert time.monotonic() - started < 300
    assert [type(answer).__name__ for answer in answers] == [
        "int",
        "UnansweredError",
        "int",
        "UnansweredError",
        "ValueError",
        "int",
    ]
    assert [type(answer) for answer in each([1, 3, 1, 2], call, timeout_s=0.1, max_hanging=2)] == [
        UnansweredError,
        UnansweredError,
        NotAskedError,
        NotAskedError,
    ]
    never.set()


def test_one_call_with_an_end():
    assert within(1, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        within(1, lambda: 1 / 0)
    with pytest.raises(UnansweredError):
        within(0.05, lambda: time.sleep(1))
