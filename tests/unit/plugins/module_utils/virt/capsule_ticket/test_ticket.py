# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import getpass
import stat
import time
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ssh_client import FarEnd, SendKey
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket_line import (
    Line,
    add_line,
    remove_line,
)

KEY = "ssh-ed25519 " + "A" * 68
ME = getpass.getuser()
OTHERS = "# mine\nssh-rsa AAAAB3 alice@desk\nssh-ed25519 AAAAC3 kvmops-capsule by-hand\n"


@pytest.fixture
def keys(tmp_path):
    path = tmp_path / "ssh" / "authorized_keys"
    path.parent.mkdir(mode=0o700)
    path.write_text(OTHERS)
    path.chmod(0o644)
    return path


def line(ticket="ticket-1", after_s=3600, command=("/usr/bin/python3", "-I", "/run/kvmops/x.zip")):
    return Line(ticket, KEY, command, int(time.time()) + after_s)


def add(keys, tmp_path, one):
    add_line(str(keys), ME, one, str(tmp_path / "run"))


def test_a_permission_starts_one_command_and_has_an_end(keys, tmp_path):
    one = line()
    add(keys, tmp_path, one)
    kept, added = keys.read_text()[: len(OTHERS)], keys.read_text()[len(OTHERS) :]
    until = time.strftime("%Y%m%d%H%M", time.localtime(one.expires_at))
    assert kept == OTHERS
    assert added == (
        f'restrict,expiry-time="{until}",command="/usr/bin/python3 -I /run/kvmops/x.zip" {KEY}'
        f" kvmops-capsule ticket-1 expires={one.expires_at}\n"
    )
    assert stat.S_IMODE(keys.stat().st_mode) == 0o644


def test_it_is_removed_and_all_others_stay(keys, tmp_path):
    add(keys, tmp_path, line("ticket-1"))
    add(keys, tmp_path, line("ticket-2"))
    assert remove_line(str(keys), ME, "ticket-1", str(tmp_path / "run"))
    assert "ticket-2" in keys.read_text()
    assert remove_line(str(keys), ME, "ticket-2", str(tmp_path / "run"))
    assert keys.read_text() == OTHERS
    assert not remove_line(str(keys), ME, "ticket-2", str(tmp_path / "run"))


def test_the_next_one_removes_those_whose_time_is_over(keys, tmp_path):
    add(keys, tmp_path, line("ticket-1", after_s=-1))
    add(keys, tmp_path, line("ticket-2"))
    assert "ticket-1" not in keys.read_text()


def test_the_same_one_is_there_once(keys, tmp_path):
    add(keys, tmp_path, line())
    add(keys, tmp_path, line())
    assert keys.read_text().count("ticket-1") == 1


def test_without_a_file_one_is_made_for_the_user_only(tmp_path):
    path = tmp_path / "home" / ".ssh" / "authorized_keys"
    path.parent.parent.mkdir()
    add(path, tmp_path, line())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_nothing_is_left_beside_the_file(keys, tmp_path):
    add(keys, tmp_path, line())
    assert list(keys.parent.iterdir()) == [keys]


@pytest.mark.parametrize(
    "one",
    [
        line(command=("/bin/sh", "-c", 'x" ssh-rsa AAAA')),
        line(command=("/bin/$HOME",)),
        line(ticket='a"b-ticket'),
        line(ticket="ticket\nssh-rsa"),
        line()._replace(public_key="ssh-ed25519 AAAA\nssh-rsa BBBB"),
    ],
    ids=range(5),
)
def test_what_would_mean_something_else_in_that_file_is_not_written(keys, tmp_path, one):
    with pytest.raises(ValueError, match=r"^the (ticket or its key is not possible|command .* cannot stand in)"):
        add(keys, tmp_path, one)
    assert keys.read_text() == OTHERS


def test_the_connection_trusts_nothing_but_what_it_was_told(tmp_path):
    key = SendKey("ticket-1", str(tmp_path))
    public = key.make()
    end = FarEnd("h2", "198.18.0.12", 2222, "root", (KEY, "ssh-rsa AAAA\n* ssh-rsa BBBB"), "ticket-1")
    words = key.command(end)
    assert public.startswith("ssh-ed25519 AAAA")
    assert stat.S_IMODE(Path(key.path).stat().st_mode) == 0o600
    assert words[:3] == ["ssh", "-F", "none"]
    assert words[-3:] == ["--", "198.18.0.12", "capsule"]
    for option in ("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes", "IdentityAgent=none"):
        assert option in words
    (known,) = (word.partition("=")[2] for word in words if word.startswith("UserKnownHostsFile="))
    assert Path(known).read_text() == f"ticket-1 {KEY}\n"
    key.command(end._replace(name="h3", host_keys=()))
    assert Path(known).read_text() == f"ticket-1 {KEY}\n"
    key.remove()
    assert not key.exists()


@pytest.mark.parametrize(("address", "user"), [("-oProxyCommand=x", "root"), ("h2", "-oX"), ("h2 h3", "root")])
def test_an_address_that_is_an_option_is_refused(tmp_path, address, user):
    key = SendKey("ticket-1", str(tmp_path))
    with pytest.raises(CapsuleError, match="of h2 is not possible; see kvmops_cluster_migration_address"):
        key.command(FarEnd("h2", address, 22, user, (KEY,), "ticket-1"))
