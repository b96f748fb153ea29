# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: guests that are shut off and would start when their host boots. While the host is in
# maintenance they do not: their marks are in its record, and are set again when it is opened.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import RECOVER, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError

Record = dict[str, t.Any]
Guests = list[dict[str, str]]


class Marked(t.NamedTuple):
    """Guests that are shut off and would start at boot, by name.

    Attributes:
        here: those that belong here.
        left: those that a migration has taken elsewhere, and whose definition was left behind. Their marks are not set
            again: the guest would run twice.
    """

    here: Guests
    left: Guests


def marked(connection: t.Any) -> Marked:
    """The guests that are shut off on a host and would start at boot."""
    lib = virt.libvirt
    found = connection.listAllDomains(
        lib.VIR_CONNECT_LIST_DOMAINS_INACTIVE
        | lib.VIR_CONNECT_LIST_DOMAINS_PERSISTENT
        | lib.VIR_CONNECT_LIST_DOMAINS_AUTOSTART
    )
    gone = [lib.VIR_DOMAIN_SHUTOFF, lib.VIR_DOMAIN_SHUTOFF_MIGRATED]
    here, left = (
        sorted(
            (
                {"name": domain.name(), "uuid": domain.UUIDString()}
                for domain in found
                if (domain.state() == gone) is away
            ),
            key=lambda guest: (guest["name"], guest["uuid"]),
        )
        for away in (False, True)
    )
    return Marked(here, left)


def with_marks(record: Record, guests: Guests) -> Record:
    """The record with these guests among those whose marks are to be set again."""
    known: Guests = record.get("autostart") or []
    uuids = {guest["uuid"] for guest in known}
    added = [guest for guest in guests if guest["uuid"] not in uuids]
    return {**record, "autostart": [*known, *added]} if added else record


def remove(connection: t.Any, host: str, guests: Guests) -> None:
    """Let guests that are shut off no longer start at boot. The record must have them before.

    Raises: VirtError for one that would start all the same.
    """
    for guest in guests:
        domain = _find(connection, guest["uuid"])
        try:
            if domain is not None and not domain.isActive() and domain.autostart():
                domain.setAutostart(0)
        except virt.libvirt.libvirtError as error:
            raise VirtError(
                refusal(
                    "autostart_not_removed",
                    f"{guest['name']}, which is shut off, would start when {host} boots, and that could not be changed:"
                    f" {error}",
                    f"virsh autostart --disable {quoted(guest['name'])} on {host}, then run it again; it is set again"
                    f" when {host} is opened",
                )
            ) from error


def left_behind(host: str, guest: t.Mapping[str, str]) -> str:
    """What is told of a definition that no longer starts its guest, for good."""
    return (
        f"{guest['name']} was sent away from {host} by a migration, and the definition that stayed does not start it"
        f" any more (autostart); once it runs elsewhere, that definition is removed by: {RECOVER}"
    )


def set_again(connection: t.Any, host: str, guests: Guests) -> list[str]:
    """Let guests start at boot again.

    Returns: sentences about those that are not defined here any more.

    Raises: VirtError for one that could not be set; the record must keep them all.
    """
    gone = []
    for guest in guests:
        name = guest["name"]
        domain = _find(connection, guest["uuid"])
        try:
            if domain is None or not domain.isPersistent():
                gone.append(f"{name}, which started with {host} (autostart), is not defined there any more")
            elif not domain.autostart():
                domain.setAutostart(1)
        except virt.libvirt.libvirtError as error:
            raise VirtError(
                refusal(
                    "autostart_not_set",
                    f"{name} started with {host} (autostart), and that could not be set again: {error}",
                    f"virsh autostart {quoted(name)} on {host}, then open it again",
                )
            ) from error
    return gone


def _find(connection: t.Any, uuid: str) -> t.Any:
    """The guest, or None where this host has no such guest."""
    try:
        return connection.lookupByUUIDString(uuid)
    except virt.libvirt.libvirtError as error:
        if error.get_error_code() != virt.libvirt.VIR_ERR_NO_DOMAIN:
            raise
        return None
