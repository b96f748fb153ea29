# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the source's side: what it offers, which of its disks a far end may read, and until when.

from __future__ import annotations

import datetime
import os
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import run_records
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket import sshd_settings, ticket_line
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import export_program, programs

#: A key that nobody removed is not taken any more after this. A large disk over a slow link takes weeks.
KEEP_S = 90 * 24 * 3600


class FrozenDisk(t.NamedTuple):
    """A disk of a guest that is written to no more.

    Attributes:
        target: its name in the guest.
        path, format: the file.
        size_bytes: what the guest sees.
        image: what it is, as the name of an image; None: nobody has hashed it.
    """

    target: str
    path: str
    format: str
    size_bytes: int
    image: str | None = None


def offer(name: str, address: str, user: str) -> dict[str, t.Any]:
    """How this host is reached as a source.

    Raises: CapsuleError when nobody can log in as this user with a key.
    """
    settings = sshd_settings.read_settings(user)
    return {
        "name": name,
        "address": address,
        "port": settings.port,
        "user": user,
        "host_keys": list(settings.host_keys),
    }


class Exports:
    """What far ends may read of this host's disks.

    Args:
        store: the host's.
        now: the time of now.
    """

    def __init__(
        self,
        store: CapsuleStore,
        now: t.Callable[[], datetime.datetime] = lambda: datetime.datetime.now(datetime.timezone.utc),
    ) -> None:
        self._store = store
        self._now = now

    def begin(
        self, guest: t.Mapping[str, str], disks: t.Sequence[FrozenDisk], ticket: t.Mapping[str, t.Any]
    ) -> dict[str, int]:
        """Let a far end read disks of a guest; returns the number of each there, by target.

        Args:
            guest: name and UUID.
            disks: written to no more.
            ticket: the far end's.

        Raises: CapsuleError when the ticket has no room for them, or when they cannot be exported.
        """
        self._store.prepare()
        with self._store.locked():
            slots = self.slots(guest["uuid"], [disk.target for disk in disks], ticket)
            entries = [{**disk._asdict(), "slot": slots[disk.target], "facts": _facts(disk.path)} for disk in disks]
            record = run_records.record_of(
                "export",
                guest,
                [disk.image for disk in disks if disk.image],
                at=self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                details={
                    "ticket": ticket["ticket"],
                    "far_end": ticket["far_end"],
                    "user": ticket["user"],
                    "disks": entries,
                },
            )
            self._store.write_run(_name(guest["uuid"]), record)
            self._permit(ticket)
        return slots

    def slots(self, uuid: str, targets: t.Sequence[str], ticket: t.Mapping[str, t.Any]) -> dict[str, int]:
        """Numbers for disks that no other guest of the ticket has.

        Raises: CapsuleError when there are not enough.
        """
        taken = {
            disk["slot"]
            for record in self._store.runs("export").values()
            if record["details"]["ticket"] == ticket["ticket"] and record["guest"]["uuid"] != uuid
            for disk in record["details"]["disks"]
        }
        free = [slot for slot in range(int(ticket["slots"])) if slot not in taken]
        if len(free) < len(targets):
            raise CapsuleError(
                "no_slot",
                f"the ticket of {ticket['far_end']} has room for {ticket['slots']} disks, and all are in use",
                f"fill the guests that are there (capsule_fill on {ticket['far_end']}), or get a new ticket",
            )
        return dict(zip(targets, free))

    def _permit(self, ticket: t.Mapping[str, t.Any]) -> None:
        program = programs.installed(self._store, export_program)
        user = str(ticket["user"])
        keys_file = sshd_settings.read_settings(user).keys_file
        words = ["/usr/bin/python3", "-I", program, os.path.join(self._store.directory, "runs"), ticket["ticket"]]
        until = int(time.time()) + KEEP_S
        line = ticket_line.Line(str(ticket["ticket"]), str(ticket["public_key"]), (*words, keys_file), until)
        try:
            ticket_line.add_line(keys_file, user, line)
        except ValueError as error:
            raise CapsuleError("bad_ticket", f"the ticket makes no sense: {error}", "get a new one") from error

    def end(self, uuid: str) -> None:
        """End the export of a guest's disks, if there is one; the last one of a ticket takes the key along."""
        record = self._store.run(_name(uuid))
        if record is None or record["ended"]:
            return
        self._store.write_run(_name(uuid), {**record, "ended": True})
        ticket = record["details"]["ticket"]
        others = [one for one in self._store.runs("export").values() if not one["ended"]]
        if not any(one["details"]["ticket"] == ticket for one in others):
            user = str(record["details"]["user"])
            ticket_line.remove_line(sshd_settings.read_settings(user).keys_file, user, ticket)


def _name(uuid: str) -> str:
    return f"export-{uuid}"


def _facts(path: str) -> dict[str, int]:
    facts = file_facts(path)
    if facts is None:
        raise CapsuleError(
            "disk_missing", f"{path} is gone, so nobody can read it", "see who removed it; nothing was started"
        )
    return facts
