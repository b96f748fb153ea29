# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.at_rest import is_encrypted


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
