# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: permits one sender to send one capsule to this host, and ends that.

from __future__ import annotations

import os
import pwd
import shutil
import sys
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run import loaded_code
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.nbd_server import require_nbd
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket import ticket as tickets
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket import ticket_line
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.sshd_settings import read_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import receive_command
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.arrival import Arrival
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.reservation import free_bytes


def check_host() -> None:
    """Say what is missing on this host to receive capsules.

    Raises:
        CapsuleError: a program or a package is missing.
    """
    require_nbd()


def looked(store: CapsuleStore, ticket: Ticket, document: bytes, signature: bytes) -> dict[str, t.Any]:
    """What this host lacks of a capsule. Changes nothing.

    Returns:
        C(there): whether it has all of it. C(wanted): the images that are to come, each with C(image), C(kind),
        C(size_bytes), C(candidates) (names of what it can be made from) and C(state) (how far it has come, or null).
        C(free_bytes): what may still be written to the store.

    Raises:
        CapsuleError: the capsule may not come.
    """
    require_nbd()
    arrival = Arrival(store, ticket, document, signature)
    wanted = []
    for image in arrival.wanted():
        state = None
        try:
            found = store.receiving(image.name).state()
            state = found.document() if found is not None else None
        except CapsuleError:
            # Then it is received from its begin.
            pass
        wanted.append(
            {
                "image": image.name,
                "kind": image.kind,
                "size_bytes": image.size_bytes,
                "candidates": arrival.candidates(image.kind),
                "state": state,
            }
        )
    return {"there": arrival.there(), "wanted": wanted, "free_bytes": _free(store.directory)}


def _free(folder: str) -> int:
    while not os.path.isdir(folder) and folder != "/":
        folder = os.path.dirname(folder)
    return free_bytes(folder)


def opened(
    ticket: Ticket,
    public_key: str,
    user: str,
    run_dir: str = ticket_line.RUN_DIR,
    entry: str = receive_command.__name__,
) -> dict[str, t.Any]:
    """Permit it.

    Args:
        ticket: what is permitted.
        public_key: C(ssh-ed25519 base64) of the sender's key for this send.
        user: who the sender logs in as.
        run_dir: where the ticket is kept.
        entry: name of the module, which is loaded, whose C(main) the key starts.

    Returns:
        C(port), C(host_keys) and C(user) of this host's sshd.

    Raises:
        CapsuleError: nobody can log in that way.
    """
    settings = read_settings(user)
    tickets.sweep(time.time(), run_dir)
    # The sender has no other run for this capsule: it would have refused this one.
    for left in tickets.left_by(ticket, run_dir):
        ticket_line.remove_line(settings.keys_file, user, left, run_dir)
        shutil.rmtree(tickets.folder_of(left, run_dir), ignore_errors=True)
    folder = tickets.write(ticket, run_dir)
    _copy_code(os.path.join(folder, tickets.CODE), entry)
    command = [sys.executable or "/usr/bin/python3", "-I", os.path.join(folder, tickets.CODE)]
    if pwd.getpwnam(user).pw_uid != 0:
        command = ["sudo", "-n", *command]
    line = ticket_line.Line(ticket.ticket, public_key, tuple(command), ticket.expires_at)
    ticket_line.add_line(settings.keys_file, user, line, run_dir)
    return {"port": settings.port, "host_keys": list(settings.host_keys), "user": user}


def closed(ticket: str, user: str, run_dir: str = ticket_line.RUN_DIR) -> bool:
    """Permit it no longer; true if it was permitted."""
    folder = tickets.folder_of(ticket, run_dir)
    there = os.path.isdir(folder)
    removed = ticket_line.remove_line(read_settings(user).keys_file, user, ticket, run_dir)
    shutil.rmtree(folder, ignore_errors=True)
    return removed or there


def _copy_code(path: str, entry: str = receive_command.__name__) -> None:
    """Write the code that this process has loaded as one file that Python runs."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        file.write(loaded_code.program(entry))
