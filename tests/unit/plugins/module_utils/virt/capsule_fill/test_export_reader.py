# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill import export_reader
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.export_reader import (
    AHEAD_BYTES,
    TRIES,
    ExportReader,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.nbd_client import NbdEndedError

MIB = 1024**2
SIZE = 32 * MIB


class Server:
    """An NBD server. Its connections end after so many answers, the first ones first."""

    def __init__(self, ends_after=(), size_bytes=SIZE):
        self.ends_after = list(ends_after)
        self.size_bytes = size_bytes
        self.asked = []
        self.closed = 0
        self.under_way = 0
        self.most_under_way = 0

    def connect(self, socket, export):
        assert (socket, export) == ("/run/kvmops/fill/fill-0123abcd/0", "disk")
        return Client(self, self.ends_after.pop(0) if self.ends_after else None)


class Client:
    def __init__(self, server, ends_after):
        self.server = server
        self.size_bytes = server.size_bytes
        self.left = ends_after
        self.requests = {}

    def ask(self, offset, length):
        self.server.asked.append((offset, length))
        self.server.under_way += length
        self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        self.requests[len(self.server.asked)] = (offset, length)
        return len(self.server.asked)

    def answer(self, number, wait_ms):
        if self.left == 0:
            raise NbdEndedError("server disconnected")
        if self.left is not None:
            self.left -= 1
        offset, length = self.requests.pop(number)
        self.server.under_way -= length
        return content(offset, length)

    def close(self):
        self.server.under_way -= sum(length for dummy, length in self.requests.values())
        self.server.closed += 1


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def content(offset, length):
    return (offset // 4096).to_bytes(8, "big") * (length // 8)


def pieces(count, length=MIB):
    return [(number * length, length) for number in range(count)]


def reader(server, rate=None, reach=lambda: None, clock=None):
    clock = clock or Clock()
    socket = "/run/kvmops/fill/fill-0123abcd/0"
    return ExportReader(socket, SIZE, rate, reach, lambda: None, server.connect, clock, clock.sleep)


def test_pieces_are_asked_for_ahead_and_come_in_order():
    server = Server()
    with reader(server) as disk:
        disk.expect(pieces(20))
        assert [disk.read(*piece) for piece in pieces(20)] == [content(*piece) for piece in pieces(20)]
        assert disk.read_bytes == 20 * MIB
    assert server.asked == pieces(20)
    assert server.most_under_way == AHEAD_BYTES
    assert server.closed == 1


def test_another_piece_than_was_expected_is_read_all_the_same():
    server = Server()
    with reader(server) as disk:
        disk.expect(pieces(12))
        for piece in [(0, MIB), (4096, 4096), (5 * MIB, MIB), (6 * MIB, MIB)]:
            assert disk.read(*piece) == content(*piece)


def test_after_a_cut_it_goes_on_where_it_was_once_the_source_is_reached():
    server, reached = Server(ends_after=[3, 2]), []
    with reader(server, reach=lambda: reached.append(len(server.asked))) as disk:
        disk.expect(pieces(10))
        assert [disk.read(*piece) for piece in pieces(10)] == [content(*piece) for piece in pieces(10)]
    assert len(reached) == 2
    assert server.closed == 3


def test_a_source_that_ends_each_connection_is_given_up():
    reached = []
    disk = reader(Server(ends_after=[0] * 20), reach=lambda: reached.append(1))
    with pytest.raises(CapsuleError, match=r"the source answers, but ends each connection to the disk \(server"):
        disk.read(0, MIB)
    assert len(reached) == TRIES


def test_a_disk_of_another_size_is_not_read():
    with reader(Server(size_bytes=SIZE + 512)) as disk, pytest.raises(CapsuleError) as error:
        disk.read(0, MIB)
    assert (
        error.value.refusal["reason"] == f"the disk at the source has {SIZE + 512} bytes, and the capsule says {SIZE}"
    )


def test_it_keeps_to_its_rate():
    clock, rate = Clock(), 1_000_000
    with reader(Server(), rate=rate, clock=clock) as disk:
        disk.expect(pieces(100, 65536))
        for piece in pieces(100, 65536):
            disk.read(*piece)
    expected = 100 * 65536 * export_reader.OVERHEAD / rate
    assert expected - 0.5 < clock.now <= expected
