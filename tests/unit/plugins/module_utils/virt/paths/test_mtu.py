# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import mtu


def can_send_raw():
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()
    except OSError:
        return False
    return True


def test_the_mtu_of_a_route():
    # The loopback has one of 64 KiB.
    assert mtu.mtu_towards(socket.AF_INET, "127.0.0.1") >= 1280


@pytest.mark.skipif(not can_send_raw(), reason="needs the right to send ICMP")
def test_packets_are_answered_by_the_kernel():
    assert mtu.arrives(socket.AF_INET, "127.0.0.1", 1500) is True
    # Larger than the interface takes: the kernel does not send it.
    assert mtu.arrives(socket.AF_INET, "127.0.0.1", mtu.mtu_towards(socket.AF_INET, "127.0.0.1") + 4) is False


def test_a_request_has_the_right_checksum():
    request = mtu._request(socket.AF_INET, 1, 1480)
    assert len(request) == 1480
    # The sum over a packet with its checksum is 0 (RFC 1071).
    assert mtu._checksum(request) == 0
