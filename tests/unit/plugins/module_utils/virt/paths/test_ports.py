# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import ports
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.ports import closed_to_disks, connect_ports


def test_a_connection_tells_an_open_a_closed_and_an_unknown_address():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert connect_ports("127.0.0.1", [port], 1) == {port: None}
    assert connect_ports("127.0.0.1", [port], 1) == {port: None}


@pytest.mark.parametrize(
    ("answer", "code"), [(None, None), ("no answer", "ports_filtered"), ("no route to host", "address_unreachable")]
)
def test_ports_are_tried_before_disks_are_copied(monkeypatch, answer, code):
    monkeypatch.setattr(ports, "connect_ports", lambda address, tried, timeout_s: dict.fromkeys(tried, answer))
    found = closed_to_disks("h1", "h2", "198.18.0.12", (49152, 49215))
    assert found == (
        None
        if code is None
        else {
            "code": code,
            "reason": f"{answer} from h2 (198.18.0.12) port 49215, and the guest would stand still while QEMU tries "
            "to reach the port for its disks",
            "remedy": "open TCP 49152-49215 from h1 to h2; if its qemu.conf names other ports, say so "
            "(migration_ports)",
        }
    )


def test_an_address_that_is_not_known_here_is_left_to_libvirt():
    assert closed_to_disks("h1", "h2", "no such host", (49152, 49215)) is None
