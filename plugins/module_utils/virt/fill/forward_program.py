# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PRIVATE to the collection: unix sockets on which QEMU finds the disks that guests have left at their source.

For each connection it starts one ssh, and gives it the connection as standard input and output. So it carries no data
itself. It runs by itself from a copy of this file, as a service of systemd's, and imports nothing but Python's own
library.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
import typing as t

#: A cut that nobody reports is noticed after 15 seconds: two questions without an answer.
ALIVE_INTERVAL_S = 5
ALIVE_COUNT = 2
CONNECT_TIMEOUT_S = 10
#: The least time between two connections, so that a source that refuses is not flooded.
PAUSE_S = 0.1


#: What is read of a ticket. The program runs alone, so it cannot use core/shape.py.
TEXTS = ("ticket", "address", "user", "sockets")
NUMBERS = ("port", "slots", "owner")


def ticket_in(folder: str) -> dict[str, t.Any]:
    """The ticket in a folder.

    Raises: SystemExit with what is wrong with it.
    """
    path = os.path.join(folder, "ticket.json")
    try:
        with open(path, encoding="utf-8") as file:
            ticket = json.load(file)
    except OSError as error:
        raise SystemExit(f"kvmops: {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SystemExit(f"kvmops: {path} is no JSON: {error}") from error
    for name in (*TEXTS, *NUMBERS):
        value = ticket.get(name) if isinstance(ticket, dict) else None
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not (is_number if name in NUMBERS else isinstance(value, str)):
            raise SystemExit(f"kvmops: {path} is damaged: its {name} is missing, or of the wrong type")
    return t.cast("dict[str, t.Any]", ticket)


def ssh_command(ticket: t.Mapping[str, t.Any], folder: str, request: str) -> list[str]:
    """The ssh that asks the source for something.

    Args:
        ticket: C(ticket), and the C(address), C(port) and C(user) of the source.
        folder: has the key and the known host.
        request: what the forced command there knows.
    """
    options = {
        "BatchMode": "yes",
        "IdentityFile": os.path.join(folder, "key"),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "PreferredAuthentications": "publickey",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": ticket["ticket"],
        "UserKnownHostsFile": os.path.join(folder, "known_hosts"),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        "ControlPath": "none",
        "ClearAllForwardings": "yes",
        "Compression": "no",
        "ConnectTimeout": CONNECT_TIMEOUT_S,
        "ServerAliveInterval": ALIVE_INTERVAL_S,
        "ServerAliveCountMax": ALIVE_COUNT,
        "LogLevel": "ERROR",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    where = ["-p", str(ticket["port"]), "-l", ticket["user"]]
    return ["ssh", "-F", "none", "-T", "-a", "-x", *where, *words, "--", ticket["address"], request]


def listen(path: str, owner: int) -> socket.socket:
    """A socket in the place of one that a process before this one has left; only its owner may open it."""
    listener = socket.socket(socket.AF_UNIX)
    # QEMU may come at any moment: the socket gets its name when it is ready.
    beside = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(beside)
    before = os.umask(0o177)
    try:
        listener.bind(beside)
    finally:
        os.umask(before)
    os.chown(beside, owner, -1)
    listener.listen(16)
    os.rename(beside, path)
    return listener


def forward(folder: str) -> t.NoReturn:
    """Forward for ever.

    Args:
        folder: of the ticket.
    """
    ticket = ticket_in(folder)
    # Children that end are of no interest; the kernel removes them.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.makedirs(ticket["sockets"], mode=0o711, exist_ok=True)
    selector = selectors.DefaultSelector()
    for slot in range(ticket["slots"]):
        listener = listen(os.path.join(ticket["sockets"], str(slot)), ticket["owner"])
        selector.register(listener, selectors.EVENT_READ, slot)
    last = 0.0
    while True:
        for key, dummy in selector.select():
            time.sleep(max(0.0, last + PAUSE_S - time.monotonic()))
            last = time.monotonic()
            connection = t.cast(socket.socket, key.fileobj).accept()[0]
            with connection:
                command = ssh_command(ticket, folder, f"export {key.data}")
                subprocess.Popen(command, stdin=connection.fileno(), stdout=connection.fileno())


if __name__ == "__main__":
    forward(sys.argv[1])
