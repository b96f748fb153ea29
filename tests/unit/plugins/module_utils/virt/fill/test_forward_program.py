# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import os
import socket
import stat
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import forward_program


@pytest.fixture
def folder(tmp_path, monkeypatch):
    # Paths of sockets are short.
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_socket_takes_the_place_of_one_that_was_left_and_only_its_owner_may_open_it(folder, monkeypatch):
    owners = []
    monkeypatch.setattr(os, "chown", lambda path, owner, group: owners.append((path, owner, group)))
    with socket.socket(socket.AF_UNIX) as left:
        left.bind("0")
    before = Path("0").stat().st_ino
    Path("0.new").touch()
    with forward_program.listen("0", 64055) as listener, socket.socket(socket.AF_UNIX) as client:
        assert Path("0").stat().st_ino != before
        assert stat.S_IMODE(Path("0").stat().st_mode) == 0o600
        client.connect("0")
        listener.accept()[0].close()
    # It has its owner before it has its name: nobody finds it without.
    assert owners == [("0.new", 64055, -1)]
    assert [path.name for path in folder.iterdir()] == ["0"]


def test_ssh_trusts_nothing_but_the_ticket(tmp_path):
    ticket = {"ticket": "fill-0123abcd", "address": "10.0.0.1", "port": 22, "user": "root"}
    words = forward_program.ssh_command(ticket, str(tmp_path), "export 3")
    assert words[:4] == ["ssh", "-F", "none", "-T"]
    assert words[-3:] == ["--", "10.0.0.1", "export 3"]
    for option in ("StrictHostKeyChecking=yes", "IdentitiesOnly=yes", f"IdentityFile={tmp_path}/key", "BatchMode=yes"):
        assert option in words
