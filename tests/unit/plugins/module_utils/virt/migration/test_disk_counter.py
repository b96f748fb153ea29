# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections of this very process stand for those of a QEMU: the kernel is the real one."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import termios
import time
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import FIRST_PORT, LAST_PORT
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration import disk_counter, qemu_connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.disk_counter import DiskCounter

MIB = 1 << 20
#: An image of 256 MiB with 50 MiB of data.
SIZES = {"data_bytes": 50 * MIB, "capacity_bytes": 256 * MIB}


class Link:
    """A connection of QEMU's, and the end at the destination."""

    def __init__(self, ports):
        self.listener = self._listener(ports)
        self.near = socket.create_connection(self.listener.getsockname())
        self.far, _address = self.listener.accept()

    @staticmethod
    def _listener(ports):
        for port in ports:
            listener = socket.socket()
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                listener.close()
                continue
            listener.listen()
            return listener
        return pytest.fail("no port is free")

    @property
    def port(self):
        return self.listener.getsockname()[1]

    def carry(self, count):
        # No more than the socket buffers hold: nobody reads meanwhile.
        while count:
            piece = self.near.send(bytes(min(count, 32768)))
            count -= piece
            while piece:
                piece -= len(self.far.recv(piece))
        # What has come counts once the far end has said so, which it may put off.
        end = time.monotonic() + 10
        while struct.unpack("=i", fcntl.ioctl(self.near, termios.TIOCOUTQ, bytes(4)))[0]:
            assert time.monotonic() < end

    def close(self):
        for one in (self.near, self.far, self.listener):
            one.close()


@pytest.fixture
def links():
    """Opens connections to ever higher migration ports."""
    opened = []

    def link(ports=None):
        after = opened[-1].port + 1 if opened else FIRST_PORT
        opened.append(Link(ports or range(after, LAST_PORT + 1)))
        return opened[-1]

    yield link
    for one in opened:
        one.close()


@pytest.fixture
def counter(monkeypatch, tmp_path):
    monkeypatch.setattr(qemu_connections, "PID_FILES", tmp_path)
    (tmp_path / "web1.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
    with DiskCounter("web1", **SIZES) as made:
        yield made


def able_to_borrow():
    """Some containers keep even a process's own descriptors from it."""
    try:
        with qemu_connections.QemuConnections(os.getpid()) as connections:
            list(connections.each())
    except (OSError, AttributeError):
        return False
    return True


needs_kernel = pytest.mark.skipif(not able_to_borrow(), reason="the kernel does not permit pidfd_getfd here")


def mirror(processed_mib, total_mib=256, memory=0):
    return {"disk_processed": processed_mib * MIB, "disk_total": total_mib * MIB, "memory_processed": memory}


@needs_kernel
def test_what_the_connection_of_the_disks_has_carried_is_what_was_sent(counter, links):
    disks = links()
    disks.carry(300_000)
    links([0]).carry(9_000_000)
    assert counter.look(mirror(100)) == pytest.approx(300_000, abs=2)
    disks.carry(700_000)
    assert counter.look(mirror(256)) == pytest.approx(1_000_000, abs=2)


@needs_kernel
def test_memory_does_not_count_as_disks(counter, links):
    disks = links()
    disks.carry(300_000)
    counter.look(mirror(256))
    links().carry(5_000_000)
    assert counter.look(mirror(256, memory=5_000_000)) == pytest.approx(300_000, abs=2)


@needs_kernel
def test_where_both_began_at_once_the_lower_port_is_that_of_memory(counter, links):
    links().carry(5_000_000)
    links().carry(300_000)
    assert counter.look(mirror(256, memory=5_000_000)) == pytest.approx(300_000, abs=2)


@needs_kernel
def test_a_connection_from_before_is_no_part_of_the_migration(monkeypatch, counter, links):
    links(range(LAST_PORT, FIRST_PORT, -1)).carry(9_000_000)
    with DiskCounter("web1", **SIZES) as later:
        disks = links(range(FIRST_PORT, LAST_PORT))
        disks.carry(300_000)
        assert later.look(mirror(100)) == pytest.approx(300_000, abs=2)


@needs_kernel
def test_what_a_closed_connection_has_carried_still_counts(counter, links):
    disks = links()
    disks.carry(300_000)
    counter.look(mirror(256))
    disks.close()
    assert counter.look(mirror(256, memory=1)) == pytest.approx(300_000, abs=2)


@needs_kernel
def test_a_look_leaves_no_descriptor_behind(links, counter):
    links().carry(1000)
    counter.look(mirror(1))
    before = len(list(Path("/proc/self/fd").iterdir()))
    counter.look(mirror(2))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_move_without_disks_looks_at_no_connection(monkeypatch):
    monkeypatch.setattr(disk_counter, "QemuConnections", lambda pid: pytest.fail("a connection was looked at"))
    with DiskCounter("web1", 0, 0) as counter:
        assert counter.look({"memory_processed": 5}) == 0


class Library:
    """A C library that may borrow nothing."""

    @staticmethod
    def syscall(*dummy):
        qemu_connections.ctypes.set_errno(errno.EPERM)
        return -1


@pytest.mark.parametrize("way", ["gone", "not permitted"])
def test_where_connections_cannot_be_seen_the_progress_tells_it(links, monkeypatch, tmp_path, way):
    links()
    monkeypatch.setattr(qemu_connections, "PID_FILES", tmp_path)
    if way == "not permitted":
        (tmp_path / "web1.pid").write_text(f"{os.getpid()}\n", encoding="ascii")
        monkeypatch.setattr(qemu_connections.ctypes, "CDLL", lambda *dummy, **also: Library)
    with DiskCounter("web1", **SIZES) as counter:
        assert counter.look(mirror(128)) == 25 * MIB
        assert counter.look(mirror(276, 276)) == 70 * MIB
        # libvirt's figures are gone with the job.
        assert counter.look({}) == 70 * MIB
