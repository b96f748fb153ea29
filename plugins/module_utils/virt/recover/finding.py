# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: finds the guests of this host whose moves broke off, and what all hosts say of each.

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.broken_move import (
    Diagnosis,
    diagnose,
    is_suspect,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side
from ansible_collections.kvmops.cluster.plugins.module_utils.run import past_runs
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import kept_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_instance import is_same_instance
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings

#: A diagnosis after which a guest goes on, or is given up, must be the same twice, so long apart.
SETTLED_AFTER_S = guest_state.SETTLED_AFTER_S
SETTLING = ("lost", "resume_source")


@dataclasses.dataclass(frozen=True)
class Found:
    """A guest whose move broke off.

    Attributes:
        guest: its name and UUID.
        diagnosis: what can be done about it.
        sides: what each host says of it, this host first.
        record: what this host's journal says of the start of the move, if it is about the QEMU that holds the guest
            now; None where it says nothing.
    """

    guest: dict[str, str]
    diagnosis: Diagnosis
    sides: tuple[Side, ...]
    record: dict[str, t.Any] | None = None


class Finder:
    """Looks for broken moves of one host.

    Args:
        connections: read-only ones are enough.
        settings: of the run: this host, and how to reach the others.
        clock, sleep: of the run.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._connections = connections
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        others = {**settings.witnesses, **settings.destinations}
        self._others = {
            name: str(known.get("connect_uri") or "")
            for name, known in sorted(others.items())
            if name != settings.source.host
        }

    def find(self, only: t.Collection[str] = ()) -> list[Found]:
        """All guests of this host whose moves broke off.

        Args:
            only: names or UUIDs of the guests to look at; none: all.

        Raises: libvirtError or VirtError when this host cannot be asked.
        """
        silent: dict[str, str] = {}
        found = []
        for guest, here in self._suspects():
            if only and guest["name"] not in only and guest["uuid"] not in only:
                continue
            one = self._found(guest, here, silent)
            if one and one.diagnosis.kind in SETTLING:
                one = self._settled(one, silent)
            found += [one] if one else []
        return found

    def look_again(self, guest: dict[str, str]) -> Found | None:
        """A guest that was found, as all hosts see it now; None where nothing is to be done about it any more."""
        here = guest_state.ask_host(self._connections, self._settings.source, guest["uuid"])
        one = self._found(guest, here, {}) if here.reachable else None
        return self._settled(one, {}) if one and one.diagnosis.kind in SETTLING else one

    def _settled(self, one: Found, silent: dict[str, str]) -> Found | None:
        self._sleep(SETTLED_AFTER_S)
        here = guest_state.ask_host(self._connections, self._settings.source, one.guest["uuid"])
        again = self._found(one.guest, here, silent) if here.reachable else None
        if again is None or again.diagnosis.kind == one.diagnosis.kind:
            return again
        changes = f"{again.diagnosis.reason}; a moment ago: {one.diagnosis.reason}"
        return dataclasses.replace(
            again, diagnosis=dataclasses.replace(again.diagnosis, kind="under_way", reason=changes, remedy="")
        )

    def _suspects(self) -> t.Iterator[tuple[dict[str, str], Side]]:
        """The guests of this host that look as if their moves had broken off."""
        lib, host = virt.libvirt, self._settings.source.host
        connection = self._connections.get(self._settings.source.uri).connection
        kept = set(kept_settings.guests(self._settings.state_dir))
        for domain in sorted(connection.listAllDomains(0), key=lambda one: str(one.name())):
            guest = {"name": str(domain.name()), "uuid": str(domain.UUIDString())}
            side = guest_state.ask(connection, host, guest["uuid"])
            if is_suspect(side):
                yield guest, side
            elif side.state == "shutoff" and side.persistent:
                # A definition that somebody has left on purpose is off for another reason.
                with contextlib.suppress(lib.libvirtError):
                    sent = side.state_reason == "migrated" or guest["uuid"] in kept
                    if sent or past_runs.last_migration(self._settings.state_dir, guest["uuid"]):
                        yield guest, side

    def _found(self, guest: dict[str, str], here: Side, silent: dict[str, str]) -> Found | None:
        others = [self._ask(name, uri, guest["uuid"], silent) for name, uri in self._others.items()]
        record = self._record(guest["uuid"], here)
        sent_to, kept = self._sent_to(guest["uuid"], here, record)
        diagnosis = diagnose(guest["name"], here, others, sent_to=sent_to, kept=kept)
        return Found(guest, diagnosis, (here, *others), record) if diagnosis else None

    def _ask(self, name: str, uri: str, uuid: str, silent: dict[str, str]) -> Side:
        if not uri:
            return Side(name, reachable=False, error="nobody says how to reach it")
        if name in silent:
            # To wait for it once for each guest would take for ever.
            return Side(name, reachable=False, error=silent[name])
        side = guest_state.ask_host(self._connections, Endpoint(name, uri), uuid)
        if not side.reachable:
            silent[name] = side.error
        return side

    def _record(self, uuid: str, here: Side) -> dict[str, t.Any] | None:
        """What is on record of the very QEMU that holds the guest here."""
        if not here.active:
            return None
        record = past_runs.last_migration(self._settings.state_dir, uuid)
        try:
            domain = self._connections.get(self._settings.source.uri).connection.lookupByUUIDString(uuid)
            return record if record and is_same_instance(record, domain, self._settings.boot_id) else None
        except (virt.libvirt.libvirtError, virt.VirtError):
            return None

    def _sent_to(self, uuid: str, here: Side, record: dict[str, t.Any] | None) -> tuple[str | None, bool]:
        """Where this host has sent a guest, and whether a record of its settings says so."""
        kept = None if here.active else kept_settings.read(self._settings.state_dir, uuid)
        if kept:
            return kept["destination"], True
        if not here.active:
            record = past_runs.last_migration(self._settings.state_dir, uuid)
        told = (record or {}).get("destination")
        return (told if isinstance(told, str) else None), False
