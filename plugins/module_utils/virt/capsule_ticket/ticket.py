# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the permission to send one capsule to this host, as this host has written it down.

from __future__ import annotations

import json
import os
import shutil
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket_line import RUN_DIR

SCHEMA = "kvmops.capsule_ticket/1"
FOLDER = "receive"
FILE, CODE = "ticket.json", "code.zip"


class Ticket(t.NamedTuple):
    """What is permitted. The controller has said it, so it is trusted.

    Attributes:
        ticket: its id.
        capsule: digest of the only capsule that may come; empty: the next one of the guest, which is not made yet.
        sender: name of the host that sends.
        sender_id: what tells that host from all others.
        name: of this host, for messages.
        capsule_dir: where the store is.
        keys: public keys that may have signed it; with any, it must be signed.
        allow_older: whether an older capsule than the last one may come.
        host: what capsules need to know of this host: C(host), C(versions) and C(emulators) of its snapshot.
        expires_at: seconds since 1970.
        guest: UUID of the guest whose next capsule may come.
        start: how the guest is started when its capsule is here; None: the sender may not have it started.
        require_encrypted: whether the memory of a guest may come only if the store is encrypted.
        disks: C(now); C(later): the images of its disks do not come with it.
    """

    ticket: str
    capsule: str
    sender: str
    sender_id: str
    name: str
    capsule_dir: str
    keys: tuple[str, ...]
    allow_older: bool
    host: dict[str, t.Any]
    expires_at: int
    guest: str = ""
    start: dict[str, t.Any] | None = None
    require_encrypted: bool = False
    disks: str = "now"


_SHAPE = shape.mapping(
    {
        "schema": shape.one_of(SCHEMA),
        **dict.fromkeys(("ticket", "capsule", "sender", "sender_id", "name", "capsule_dir"), shape.text()),
        "keys": shape.list_of(shape.text()),
        "allow_older": shape.truth,
        "host": shape.mapping({}, others=True),
        "expires_at": shape.whole(0),
    },
    {
        "guest": shape.text(),
        "start": shape.or_null(shape.mapping({}, others=True)),
        "require_encrypted": shape.truth,
        "disks": shape.one_of("now", "later"),
    },
)


def folder_of(ticket: str, run_dir: str = RUN_DIR) -> str:
    """Where the files of a ticket are."""
    return os.path.join(run_dir, FOLDER, ticket)


def write(ticket: Ticket, run_dir: str = RUN_DIR) -> str:
    """Write a ticket down; returns its folder, in which nothing else is."""
    folder = folder_of(ticket.ticket, run_dir)
    os.makedirs(run_dir, mode=0o711, exist_ok=True)
    os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder, 0o700)
    path = os.path.join(folder, FILE)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w", encoding="utf-8") as file:
        json.dump({"schema": SCHEMA, **ticket._asdict()}, file)
    return folder


def read(folder: str) -> Ticket:
    """The ticket in a folder.

    Raises:
        CapsuleError: it is not there, as it was ended or the host has started anew.
    """
    try:
        with open(os.path.join(folder, FILE), "rb") as file:
            document = json_text.parsed(file.read(json_text.MOST_BYTES + 1))
        _SHAPE(document, "")
    except (OSError, ValueError) as error:
        raise gone() from error
    del document["schema"]
    return Ticket(**{**document, "keys": tuple(document["keys"])})


def gone() -> CapsuleError:
    """The error of a permission that has ended."""
    return CapsuleError(
        "ticket_gone", "the permission to send this capsule has ended", "run capsule_send again: it goes on from there"
    )


def left_by(wanted: Ticket, run_dir: str = RUN_DIR) -> list[str]:
    """Ids of the tickets that earlier runs of the same sender have left, for the same capsule of the same guest."""
    found = []
    for name in _names(run_dir):
        try:
            ticket = read(os.path.join(run_dir, FOLDER, name))
        except CapsuleError:
            continue
        # One without a capsule is for the next one of its guest.
        same = (ticket.capsule, ticket.guest, ticket.sender_id) == (wanted.capsule, wanted.guest, wanted.sender_id)
        if same:
            found.append(name)
    return found


def _names(run_dir: str) -> list[str]:
    try:
        return os.listdir(os.path.join(run_dir, FOLDER))
    except FileNotFoundError:
        return []


def sweep(now: float, run_dir: str = RUN_DIR) -> None:
    """Remove the tickets whose time is over."""
    for name in _names(run_dir):
        folder = os.path.join(run_dir, FOLDER, name)
        try:
            over = read(folder).expires_at <= now
        except (CapsuleError, TypeError, KeyError):
            over = True
        if over:
            shutil.rmtree(folder, ignore_errors=True)
