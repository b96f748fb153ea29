# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of the database, against a server that speaks as PostgreSQL does."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

import pytest

from lab.common.errors import LabError
from lab.guest import database

READY = b"Z" + struct.pack("!I", 5) + b"I"


def message(kind, content):
    return kind + struct.pack("!I", len(content) + 4) + content


def row(*fields):
    return message(b"D", struct.pack("!H", len(fields)) + b"".join(struct.pack("!i", len(f)) + f for f in fields))


@pytest.fixture
def server(monkeypatch):
    """A server that gives each connection the next of its answers; the first one is to the greeting."""
    listener = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(database, "PORT", listener.getsockname()[1])
    answers, asked = [], []

    def serve():
        client, dummy = listener.accept()
        with client:
            for answer in answers:
                asked.append(client.recv(4096))
                client.sendall(answer)

    thread = threading.Thread(target=serve, daemon=True)

    def start(*what):
        answers.extend(what)
        thread.start()
        return asked

    yield start
    listener.close()


def test_rows_come_back_and_the_user_is_named(server):
    asked = server(message(b"R", struct.pack("!I", 0)) + READY, row(b"7", b"") + row(b"8", b"x") + READY)
    with contextlib.closing(database.Connection("127.0.0.1")) as connection:
        assert connection.query("SELECT id FROM journal") == [["7", ""], ["8", "x"]]
    assert b"user\0postgres\0database\0bench\0" in asked[0]
    assert asked[1] == b"Q" + struct.pack("!I", 27) + b"SELECT id FROM journal\0"


def test_an_error_of_the_server_is_told(server):
    server(READY, message(b"E", b'SERROR\0C42P01\0Mrelation "journal" does not exist\0\0') + READY)
    with (
        contextlib.closing(database.Connection("127.0.0.1")) as connection,
        pytest.raises(LabError, match='the database says: ERROR: relation "journal" does not exist'),
    ):
        connection.query("SELECT 1")


def test_a_connection_that_breaks_is_no_commit(server):
    server(READY)
    with contextlib.closing(database.Connection("127.0.0.1")) as connection, pytest.raises(ConnectionError):
        connection.query("INSERT INTO journal DEFAULT VALUES RETURNING id")


def test_the_longest_wait_is_between_two_commits():
    client = database.Client("198.19.0.101", commits=[(1.0, 1), (1.25, 2), (3.0, 3)])
    assert client.longest_wait_ms == 1750
