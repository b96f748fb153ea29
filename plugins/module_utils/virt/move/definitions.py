# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the persistent definition of a guest that moves: one at its destination, none left behind.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, definition_faults, quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import MoveContext


def persistent_definition(domain: t.Any) -> str | None:
    """The persistent definition of a guest, which a move must carry along, or None when there is none."""
    if not domain.isPersistent():
        return None
    libvirt = virt.libvirt
    return t.cast(str, domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))


def repair_definitions(
    context: MoveContext, step: Step, here: Side, there: Side, definition: str | None
) -> tuple[list[str], str | None]:
    """Put the definitions right after a move that both sides confirm.

    Args:
        context: with writable connections.
        step: of the plan.
        here, there: the guest at its source and at its destination, after the move.
        definition: the persistent XML that the source had before, or None for a transient guest.

    Returns: what was done, in words; and what could not be done, or None.
    """
    guest = step["guest"]
    faults = definition_faults(guest["name"], here, there, persistent_before=definition is not None)
    if not faults:
        return [], None
    source, target = context.hosts.endpoints(step)
    try:
        return define_only_at_destination(context.connections, source, target, guest["uuid"], definition), None
    except (virt.libvirt.libvirtError, virt.VirtError) as error:
        # The guest runs where it should. The move counts as done all the same.
        fault = f"it has moved, but {' and '.join(faults)}, and that could not be corrected: {error}"
        if here.persistent and (there.persistent or definition is None):
            by_hand = f"virsh undefine --keep-nvram {quoted(guest['name'])}"
            fault += f"; remove it there before {source.host} is rebooted, which might start it again: {by_hand}"
        return [], fault


def define_only_at_destination(
    connections: Connections, source: Endpoint, destination: Endpoint, uuid: str, definition: str | None
) -> list[str]:
    """Define a guest at its destination first, and undefine it at its source then.

    Args:
        connections: writable ones.
        source, destination: the hosts.
        uuid: the guest, which runs at the destination.
        definition: the persistent XML that the source had before, or None for a transient guest.

    Returns: what was done, in words; empty when all was right.

    Raises: libvirtError or VirtError for what could not be done.
    """
    done = []
    if definition is not None:
        there = connections.get(destination.uri).connection
        domain = there.lookupByUUIDString(uuid)
        if domain.isActive() and not domain.isPersistent():
            there.defineXML(definition)
            done.append(f"defined it on {destination.host}")
    try:
        domain = connections.get(source.uri).connection.lookupByUUIDString(uuid)
        # Only a definition without a guest behind it may go.
        if not domain.isActive() and domain.isPersistent():
            domain.undefineFlags(virt.libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
            done.append(f"removed its definition on {source.host}")
    except virt.libvirt.libvirtError as error:
        # A definition that is gone need not be removed. After any other error the host could still start the guest.
        if error.get_error_code() != virt.libvirt.VIR_ERR_NO_DOMAIN:
            raise
    return done
