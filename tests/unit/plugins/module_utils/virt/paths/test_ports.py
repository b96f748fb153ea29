# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.ports import connect_ports


def test_a_connection_tells_an_open_a_closed_and_an_unknown_address():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert connect_ports("127.0.0.1", [port], 1) == {port: None}
    assert connect_ports("127.0.0.1", [port], 1) == {port: None}
