# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of this very process stand for those of a QEMU: the kernel is the real one."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import FIRST_PORT, LAST_PORT
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import qemu_connections, send_buffer

LIMIT = 65536
UNTOUCHED = 0


class Guest:
    """A guest whose QEMU is this process."""

    def __init__(self):
        self._opened = []

    def connect(self, ports):
        """A connection to the first of these ports that is free."""
        for port in ports:
            listener = socket.socket()
            self._opened.append(listener)
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
            listener.listen()
            made = socket.create_connection(listener.getsockname())
            self._opened.append(made)
            return made
        return pytest.fail("no port is free")

    def close(self):
        for one in self._opened:
            one.close()


@pytest.fixture
def guest(monkeypatch, tmp_path):
    monkeypatch.setattr(qemu_connections, "PID_FILES", tmp_path)
    monkeypatch.setattr(send_buffer, "POLL_S", 0.01)
    (tmp_path / "web1.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    made = Guest()
    yield made
    made.close()


def limit_of(connection):
    return connection.getsockopt(socket.IPPROTO_TCP, send_buffer.TCP_NOTSENT_LOWAT)


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def wait_for(truth):
    end = time.monotonic() + 60
    while not truth():
        assert time.monotonic() < end
        time.sleep(0.01)


def able_to_borrow():
    """Some containers keep even a process's own descriptors from it."""
    try:
        with qemu_connections.QemuConnections(os.getpid()) as connections:
            send_buffer.limit(connections, LIMIT, set())
    except (OSError, AttributeError):
        return False
    return True


needs_kernel = pytest.mark.skipif(not able_to_borrow(), reason="the kernel does not permit pidfd_getfd here")


@needs_kernel
def test_migration_connections_are_limited_also_late_ones_and_no_others(guest):
    told = []
    first, other = guest.connect(range(FIRST_PORT, LAST_PORT + 1)), guest.connect([0])

    with send_buffer.limited_send_buffer("web1", LIMIT, told.append):
        wait_for(lambda: limit_of(first) == LIMIT)
        late = guest.connect(range(FIRST_PORT, LAST_PORT + 1))
        wait_for(lambda: limit_of(late) == LIMIT)

    assert limit_of(other) == UNTOUCHED
    assert told == ["at most 64 KiB are unsent in its connection, for a shorter downtime"]


@needs_kernel
def test_what_was_borrowed_is_given_back_at_once(guest):
    connection = guest.connect(range(FIRST_PORT, LAST_PORT + 1))
    before = descriptors()

    with send_buffer.limited_send_buffer("web1", LIMIT, lambda words: None):
        wait_for(lambda: limit_of(connection) == LIMIT)

    assert descriptors() == before
    assert "unsent-web1" not in [thread.name for thread in threading.enumerate()]


def test_without_a_limit_nothing_is_touched(guest):
    told = []
    connection = guest.connect(range(FIRST_PORT, LAST_PORT + 1))

    with send_buffer.limited_send_buffer("web1", None, told.append):
        time.sleep(0.05)

    assert (limit_of(connection), told) == (UNTOUCHED, [])


def refused(number):
    def syscall(*dummy):
        qemu_connections.ctypes.set_errno(number)
        return -1

    return syscall


class Library:
    """A C library whose system calls fail."""

    def __init__(self, number):
        self.syscall = refused(number)


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EPERM, "root of this host may not access QEMU"), (errno.ENOSYS, "not implemented")]
)
def test_a_host_that_does_not_permit_it_is_told_once_and_the_move_goes_on(guest, monkeypatch, number, words):
    told = []
    guest.connect(range(FIRST_PORT, LAST_PORT + 1))
    monkeypatch.setattr(qemu_connections.ctypes, "CDLL", lambda *dummy, **also: Library(number))

    with send_buffer.limited_send_buffer("web1", LIMIT, told.append):
        wait_for(lambda: told)

    [sentence] = told
    assert sentence.startswith("the unsent bytes in its connection cannot be limited")
    assert words in sentence


def test_a_descriptor_that_is_closed_meanwhile_is_passed_over(guest, monkeypatch):
    told = []
    connection = guest.connect(range(FIRST_PORT, LAST_PORT + 1))
    monkeypatch.setattr(qemu_connections.ctypes, "CDLL", lambda *dummy, **also: Library(errno.EBADF))

    with send_buffer.limited_send_buffer("web1", LIMIT, told.append):
        time.sleep(0.05)

    assert (limit_of(connection), told) == (UNTOUCHED, [])


def test_a_guest_without_a_process_is_told(guest):
    told = []

    with send_buffer.limited_send_buffer("gone", LIMIT, told.append):
        wait_for(lambda: told)

    assert "gone.pid" in told[0]
