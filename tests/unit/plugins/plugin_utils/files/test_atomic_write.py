# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import stat

import pytest
from ansible.errors import AnsibleError

from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import atomic_write
from ansible_collections.kvmops.cluster.tests.unit import hostile


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_new_file_has_what_the_umask_leaves(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        atomic_write.save("dest", tmp_path / "plan.json", {"a": 1}, write=True)
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "plan.json") == mode


def test_a_file_keeps_its_permissions(tmp_path):
    file = tmp_path / "plan.json"
    file.write_text("old")
    file.chmod(0o640)
    assert atomic_write.save("dest", file, {"a": 1}, write=True) == ("old", '{\n  "a": 1\n}\n')
    assert mode_of(file) == 0o640
    assert json.loads(file.read_text()) == {"a": 1}


def test_a_link_is_replaced_and_never_followed(tmp_path):
    (tmp_path / "precious").write_text("precious")
    link = tmp_path / "plan.json"
    link.symlink_to(tmp_path / "precious")
    assert atomic_write.save("dest", link, {"a": 1}, write=True).before == ""
    assert (tmp_path / "precious").read_text() == "precious"
    assert not link.is_symlink()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("kind", ["a link to nothing", "a link to itself", "a link to a device", "a pipe", "a socket"])
def test_what_is_no_file_is_replaced_without_a_look_into_it(tmp_path, kind):
    path = tmp_path / "plan.json"
    hostile.IN_THE_PLACE_OF_A_FILE[kind](path)
    assert atomic_write.content(path) is None
    assert atomic_write.save("dest", path, {"a": 1}, write=True).before == ""
    assert path.is_file()
    assert not path.is_symlink()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    file = tmp_path / "plan.json"
    file.write_text("old")

    def full(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AnsibleError, match=r"dest: .*plan\.json cannot be written: No space left on device"):
        atomic_write.save("dest", file, {"a": 1}, write=True)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("plan.json", "old")]


def test_check_mode_writes_nothing(tmp_path):
    assert atomic_write.save("dest", tmp_path / "plan.json", {"a": 1}, write=False).before == ""
    assert list(tmp_path.iterdir()) == []


def test_half_a_character_is_written_as_json_has_it(tmp_path):
    file = tmp_path / "plan.json"
    atomic_write.save("dest", file, {"name": "größe \ud800"}, write=True)
    assert json.loads(file.read_text(encoding="utf-8")) == {"name": "größe \ud800"}
    assert "größe" in file.read_text(encoding="utf-8")
