# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_owner import give_to_owner

USER = 4711


@pytest.fixture
def state_dir(tmp_path):
    """A folder with what a run of root has left in it, and with a link to a file of root's."""
    folder = tmp_path / "state"
    (folder / "runs").mkdir(parents=True)
    (folder / "runs/journal").write_text("", encoding="utf-8")
    (tmp_path / "secret").write_text("", encoding="utf-8")
    (folder / "link").symlink_to(tmp_path / "secret")
    os.link(tmp_path / "secret", folder / "same")
    return folder


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_has_made_goes_to_the_owner_of_the_folder_and_nothing_else_does(state_dir):
    os.chown(state_dir, USER, USER)
    give_to_owner(str(state_dir))
    owners = {name: os.lstat(state_dir / name).st_uid for name in ("runs", "runs/journal", "link", "same")}
    assert owners == {"runs": USER, "runs/journal": USER, "link": USER, "same": 0}
    assert (state_dir.parent / "secret").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_folder_of_root_stays_with_root(state_dir):
    give_to_owner(str(state_dir))
    assert os.lstat(state_dir / "runs/journal").st_uid == 0


def test_a_folder_that_is_not_there_is_no_trouble(tmp_path):
    give_to_owner(str(tmp_path / "missing"))
