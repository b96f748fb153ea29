# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.at_rest import (
    is_encrypted,
    memory_refusal,
)


@pytest.fixture
def device(tmp_path):
    """Makes the device of the file system of tmp_path in a sysfs of its own: names and what is below."""
    found = tmp_path.stat().st_dev
    entry = tmp_path / "sys/dev/block" / f"{os.major(found)}:{os.minor(found)}"

    def make(uuid=None, below=()):
        devices = tmp_path / "sys/devices"
        (devices / "top/slaves").mkdir(parents=True)
        if uuid:
            (devices / "top/dm").mkdir()
            (devices / "top/dm/uuid").write_text(uuid)
        for number, one in enumerate(below):
            (devices / f"below{number}/dm").mkdir(parents=True)
            (devices / f"below{number}/slaves").mkdir()
            (devices / f"below{number}/dm/uuid").write_text(one)
            (devices / f"top/slaves/below{number}").symlink_to(devices / f"below{number}")
        entry.parent.mkdir(parents=True)
        entry.symlink_to(devices / "top")
        return is_encrypted(str(tmp_path), tmp_path / "sys")

    return make


@pytest.mark.parametrize(
    ("uuid", "below", "answer"),
    [
        ("CRYPT-LUKS2-0123-root\n", (), True),
        (None, (), False),
        ("LVM-abc\n", ("CRYPT-LUKS2-x",), True),
        ("LVM-abc\n", ("CRYPT-LUKS2-x", "LVM-y"), False),
        ("LVM-abc\n", ("LVM-y",), False),
    ],
)
def test_the_devices_below_decide(device, uuid, below, answer):
    assert device(uuid, below) is answer


def test_what_is_on_no_device_is_not_known(tmp_path):
    assert is_encrypted(str(tmp_path), tmp_path / "sys") is None
    assert is_encrypted(str(tmp_path / "none")) is None


def test_memory_is_refused_where_it_would_be_in_the_clear(device, tmp_path):
    device("LVM-abc\n", ("LVM-y",))
    found = memory_refusal(str(tmp_path / "not/there/yet"), "db1", "h2", tmp_path / "sys")
    assert found == {
        "code": "not_encrypted",
        "reason": f"the memory of db1 has its secrets, and {tmp_path}/not/there/yet on h2 is not encrypted"
        " (require_encrypted)",
        "remedy": "open the LUKS device and mount it there (cryptsetup open DEVICE NAME && mount /dev/mapper/NAME"
        f" {tmp_path}/not/there/yet), or set capsule_dir to a directory on one",
    }


def test_memory_is_refused_where_nobody_can_tell(tmp_path):
    found = memory_refusal(str(tmp_path), "db1", "h2", tmp_path / "sys")
    assert found["code"] == "encryption_unknown"
    assert "nobody can tell whether" in found["reason"]
    assert found["remedy"].endswith("if that file system encrypts by itself, set require_encrypted: false for h2")


def test_memory_may_come_onto_a_luks_device(device, tmp_path):
    device("CRYPT-LUKS2-0123-root\n")
    assert memory_refusal(str(tmp_path), "db1", "h2", tmp_path / "sys") is None
