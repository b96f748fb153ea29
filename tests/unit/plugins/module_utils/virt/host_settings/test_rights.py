# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_settings import qemu_settings, rights


def written(root, name, text):
    file = root / "etc/libvirt" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize(
    ("name", "text", "asks"),
    [
        ("libvirtd.conf", 'access_drivers = [ "polkit" ]\n', True),
        ("virtqemud.conf", 'access_drivers = ["polkit"]\n', True),
        ("libvirtd.conf", '#access_drivers = [ "polkit" ]\n', False),
        ("libvirtd.conf", 'access_drivers = [ "none" ]\n', False),
    ],
)
def test_whether_libvirt_asks_about_each_call_is_in_its_settings(tmp_path, name, text, asks):
    written(tmp_path, name, text)
    assert rights.of_this_process(tmp_path)["checks_calls"] is asks


def test_the_user_is_told_by_name_or_by_number(tmp_path, monkeypatch):
    monkeypatch.setattr(rights.os, "geteuid", lambda: 0)
    assert rights.of_this_process(tmp_path) == {"user": "root", "root": True, "checks_calls": False}
    monkeypatch.setattr(rights.os, "geteuid", lambda: 4711000)
    assert rights.of_this_process(tmp_path) == {"user": "4711000", "root": False, "checks_calls": False}


def test_settings_that_may_not_be_read_are_not_taken_for_none(tmp_path, monkeypatch):
    def refused(self, **_options):
        raise PermissionError(13, "Permission denied")

    assert qemu_settings.text(tmp_path) == ""
    written(tmp_path, "qemu.conf", "user = 'root'\n")
    monkeypatch.setattr(qemu_settings.Path, "read_text", refused)
    with pytest.raises(VirtError) as error:
        qemu_settings.text(tmp_path)
    assert error.value.refusal == {
        "code": "settings_unreadable",
        "reason": "/etc/libvirt/qemu.conf cannot be read, and what it says of shared storage, ports and certificates "
        "counts: Permission denied",
        "remedy": "run as root (become: true), or let kvmops.cluster.secure_hosts give this user the right to read it",
    }
