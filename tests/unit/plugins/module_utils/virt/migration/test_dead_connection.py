# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of this very process stand for those of a QEMU: the kernel is the real one.

A peer that reads nothing closes its window. To the sender that is as near to a dead link as one machine comes: what it
has sent is not acknowledged.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import dead_connection, qemu_connections

from .test_send_buffer import FIRST_PORT, LAST_PORT, Guest, needs_kernel, wait_for

PATIENCE_S = 60


@pytest.fixture
def guest(monkeypatch, tmp_path):
    monkeypatch.setattr(qemu_connections, "PID_FILES", tmp_path)
    monkeypatch.setattr(dead_connection, "POLL_S", 0.01)
    monkeypatch.setattr(dead_connection, "SILENT_S", 0.2)
    (tmp_path / "web1.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    made = Guest()
    yield made
    made.close()


class Sender:
    """Sends until nobody takes any more, as QEMU's blocked writer does."""

    def __init__(self, connection):
        self.error = None
        self._connection = connection
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self):
        try:
            while True:
                self._connection.sendall(bytes(1 << 16))
        except OSError as error:
            self.error = error

    def wait(self):
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@needs_kernel
def test_a_writer_that_waits_for_a_dead_link_is_let_go(guest):
    told = []
    sender = Sender(guest.connect(range(FIRST_PORT, LAST_PORT + 1)))
    other = guest.connect(range(LAST_PORT + 1, LAST_PORT + 2000))
    with dead_connection.ended_when_dead("web1", lambda: True, told.append):
        sender.wait()
    assert isinstance(sender.error, BrokenPipeError)
    assert len(told) == 1
    assert told[0].endswith("the connection was ended: the guest goes on where it was")
    # A connection of its storage is none of a migration.
    other.sendall(b"x")


@needs_kernel
def test_a_guest_that_runs_or_is_in_postcopy_keeps_its_connection(guest):
    told, asked = [], []

    def runs():
        asked.append(1)
        return False

    connection = guest.connect(range(FIRST_PORT, LAST_PORT + 1))
    sender = Sender(connection)
    wait_for(lambda: dead_connection.silence(connection) > dead_connection.SILENT_S)
    with dead_connection.ended_when_dead("web1", runs, told.append):
        wait_for(lambda: len(asked) > 5)
    assert (told, sender.error) == ([], None)


@needs_kernel
def test_what_is_acknowledged_is_not_dead_however_long_nothing_was_sent(guest, monkeypatch):
    monkeypatch.setattr(dead_connection, "SILENT_S", 0.05)
    told = []
    connection = guest.connect(range(FIRST_PORT, LAST_PORT + 1))
    connection.sendall(b"x")
    wait_for(lambda: dead_connection.silence(connection) == 0.0)
    time.sleep(0.2)
    with dead_connection.ended_when_dead("web1", lambda: True, told.append):
        time.sleep(0.2)
    assert told == []
    connection.sendall(b"x")


def test_where_connections_cannot_be_borrowed_the_move_goes_on(guest, monkeypatch):
    def refuse(_pid):
        raise PermissionError

    monkeypatch.setattr(dead_connection, "QemuConnections", refuse)
    told = []
    with dead_connection.ended_when_dead("web1", lambda: True, told.append):
        pass
    with dead_connection.ended_when_dead("gone", lambda: True, told.append):
        pass
    assert told == []


def test_silence_is_read_from_where_the_kernel_has_it():
    """The figures of a real connection whose peer was cut off: 11 segments not acknowledged, 278 s since the last."""

    class Connection:
        def getsockopt(self, level, option, length):
            assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
            numbers = [120_000_000, 40_000, 1448, 536, 11, 0, 11, 1, 0, 58_268, 0, 291_876, 277_912]
            head = bytes([1, 4, 10, 0, 10, 7, 0xAA, 0])
            return (head + b"".join(number.to_bytes(4, sys.byteorder) for number in numbers)).ljust(length, b"\0")

    assert dead_connection.silence(Connection()) == pytest.approx(277.912)
