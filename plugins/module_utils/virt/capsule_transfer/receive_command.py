# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the key of a sender starts on this host: it receives one capsule.

from __future__ import annotations

import contextlib
import os
import signal
import sys
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receiver import Receiver
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket import ticket as tickets
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.link_socket import watch_ancestor
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.receive_session import (
    ReceiveSession,
    SenderLeftError,
    Start,
)

#: Exit statuses. ssh itself has 255.
DONE, REFUSED, INTERRUPTED = 0, 3, 4


def main(folder: str, start_of: t.Callable[[Ticket, CapsuleStore], Start] | None = None) -> int:
    """Receive the capsule of the ticket in a folder, over standard input and output.

    Args:
        folder: of the ticket.
        start_of: gives what starts the guest, for tickets that have it.
    """
    os.umask(0o077)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _ended)
    # Whoever prints to standard output by mistake must not do that into the connection.
    back = os.dup(1)
    os.dup2(2, 1)
    watch_ancestor()
    try:
        ticket = tickets.read(folder)
    except CapsuleError as error:
        _write(back, frames.START + Receiver.refused(error))
        return REFUSED
    store = CapsuleStore(ticket.capsule_dir, ticket.require_encrypted)
    try:
        store.prepare()
        start = start_of(ticket, store) if start_of and ticket.start is not None else None
        ReceiveSession(ticket, store, lambda most: os.read(0, most), lambda data: _write(back, data), start).run()
    except CapsuleError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    except (SenderLeftError, BrokenPipeError):
        return INTERRUPTED
    # The sender closes the connection when it has read the last word.
    with contextlib.suppress(OSError):
        os.close(back)
    return DONE


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _ended(_number: int, _frame: t.Any) -> t.NoReturn:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    raise SenderLeftError
