# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the persistent definition of a guest that moves: one at its destination, none left behind,
# and with it what else libvirt does not bring along.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import Corrections
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import (
    Side,
    definition_faults,
    quoted,
    undefine_command,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import kept_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records.kept_settings import KeptSettings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.context import MoveContext
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.hosts import Hosts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import guest_clock, saved_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.source_settings import (
    NOT_SET,
    SourceSettings,
    hand_over,
    on_record,
)

#: The code of a fault: the destination could not be asked any more.
NOT_ASKED = "settings_not_handed_over"
#: After one of these the record is kept, and the next run tries it again.
NOT_HANDED_OVER = (NOT_ASKED, *NOT_SET)


def complete(
    context: MoveContext,
    step: Step,
    here: Side,
    there: Side,
    settings: SourceSettings,
    stopped_ms: int | None = None,
) -> Corrections:
    """Put right what libvirt did not bring along, after a move that both sides confirm.

    Args:
        context: with writable connections.
        step: of the plan.
        here, there: the guest at its source and at its destination, after the move.
        settings: that the source had before.
        stopped_ms: how long the guest stood still; None where nobody saw that.
    """
    found = repair_definitions(context, step, here, there, settings.definition)
    uuid = step["guest"]["uuid"]
    try:
        domain = context.hosts.domain_at(step["destination"], uuid)
        found.add(guest_clock.correct(domain, step, stopped_ms))
        handed_over = hand_over(domain, step, settings)
        handed_over.faults += saved_memory.refusals(domain.connect(), step["destination"], uuid)
    except (virt.libvirt.libvirtError, virt.VirtError) as error:
        handed_over = Corrections(faults=_not_handed_over(step, settings, error))
    if not {fault["code"] for fault in handed_over.faults}.intersection(NOT_HANDED_OVER):
        kept_settings.remove(context.settings.state_dir, uuid)
    found.add(handed_over)
    return found


def hand_over_left(hosts: Hosts, state_dir: str, kept: KeptSettings) -> Corrections | None:
    """Set at the destination what a run that died had on record of a guest that it sent.

    Returns: None where the guest does not run there, or still is here: then nothing is set.
    """
    guest = {"name": kept["name"], "uuid": kept["uuid"]}
    step: Step = {"guest": guest, "source": kept["source"], "destination": kept["destination"]}
    settings = on_record(state_dir, step)
    try:
        here = hosts.source_side(step)
        domain = hosts.domain_at(kept["destination"], kept["uuid"])
        is_there = domain.state()[0] == virt.libvirt.VIR_DOMAIN_RUNNING
    except (virt.libvirt.libvirtError, virt.VirtError):
        return None
    if settings is None or not here.reachable or here.active or not is_there:
        return None
    found = hand_over(domain, step, settings)
    if not {fault["code"] for fault in found.faults}.intersection(NOT_HANDED_OVER):
        kept_settings.remove(state_dir, kept["uuid"])
    return found


def stays_transient(step: Step) -> str:
    """What to say of a guest without a definition that has moved. Its owner may have removed that while it waited."""
    name, target = step["guest"]["name"], step["destination"]
    return (
        f"{name} had no definition on {step['source']} when it was sent, and has none on {target}: it is gone once it"
        " is shut down"
    )


def transient_there(step: Step) -> str:
    """What to say of a guest that somebody has moved without a definition. It may have been meant so."""
    name, target = step["guest"]["name"], step["destination"]
    return (
        f"somebody else has moved {name}, and {target} has no definition of it: it is gone once it is shut down. If it"
        f" is to stay, define it on {target}: virsh dumpxml --inactive --security-info {quoted(name)} > guest.xml &&"
        " virsh define guest.xml"
    )


def _not_handed_over(step: Step, settings: SourceSettings, error: Exception) -> list[Refusal]:
    """What a destination that does not answer any more may lack."""
    if not settings.autostart and not settings.checkpoints:
        return []
    name, target = step["guest"]["name"], step["destination"]
    return [
        refusal(
            NOT_ASKED,
            f"{target} could not be asked whether {name} starts with it (autostart) and has its checkpoints: {error}",
            f"run it again once {target} answers"
            + (f", or set it: virsh autostart {quoted(name)} on {target}" if settings.autostart else ""),
        )
    ]


def repair_definitions(
    context: MoveContext, step: Step, here: Side, there: Side, definition: str | None
) -> Corrections:
    """Put the definitions right after a move that both sides confirm.

    Args:
        context: with writable connections.
        step: of the plan.
        here, there: the guest at its source and at its destination, after the move.
        definition: the persistent XML that the source had before, or None for a transient guest.
    """
    guest = step["guest"]
    faults = definition_faults(guest["name"], here, there, persistent_before=definition is not None)
    if not faults:
        return Corrections()
    source, target = context.hosts.endpoints(step)
    try:
        return Corrections(
            done=define_only_at_destination(context.connections, source, target, guest["uuid"], definition)
        )
    except (virt.libvirt.libvirtError, virt.VirtError) as error:
        # The guest runs where it should. The move counts as done all the same.
        why = f"{' and '.join(faults)}, and that could not be corrected: {error}"
        if here.persistent and (there.persistent or definition is None):
            by_hand = undefine_command(guest["name"], tpm=definition is not None and _has_tpm(definition))
            remedy = f"remove it there before {source.host} is rebooted, which might start it again: {by_hand}"
        else:
            remedy = f"run it again; until then {guest['name']} is gone once it is shut down on {target.host}"
        return Corrections(faults=[refusal("definition", why, remedy)])


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
            domain.undefineFlags(_what_to_keep(domain))
            done.append(f"removed its definition on {source.host}")
    except virt.libvirt.libvirtError as error:
        # A definition that is gone need not be removed. After any other error the host could still start the guest.
        if error.get_error_code() != virt.libvirt.VIR_ERR_NO_DOMAIN:
            raise
    return done


def _what_to_keep(domain: t.Any) -> int:
    """The flags with which a left definition is removed. What the guest needs where it runs may be on shared disks."""
    lib = virt.libvirt
    keep = int(lib.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM)
    if _has_tpm(domain.XMLDesc(lib.VIR_DOMAIN_XML_INACTIVE)):
        keep |= int(lib.VIR_DOMAIN_UNDEFINE_KEEP_TPM)
    return keep


def _has_tpm(xml: str) -> bool:
    """Whether libvirt keeps the state of a TPM for the guest."""
    return guest_xml.parse(xml).find("devices/tpm/backend[@type='emulator']") is not None
