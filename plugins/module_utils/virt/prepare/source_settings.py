# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a host keeps of a guest and libvirt does not take along: the mark that it starts with
# its host, and its checkpoints. Read before a move, kept on record, and set at the destination after it.

from __future__ import annotations

import contextlib
import dataclasses
import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import Corrections
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.lost_settings import lost_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.module_utils.run import maintenance
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import kept_settings
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    UnansweredError,
    within,
)

#: The codes of faults that the next run may put right from the record. A bitmap that is gone is gone.
NOT_SET = ("autostart_not_set", "autostart_not_removed")


@dataclasses.dataclass(frozen=True)
class SourceSettings:
    """What the source keeps of a guest.

    Attributes:
        definition: the persistent XML, or None for a guest without one, or where it is not known.
        autostart: whether it starts with its host; None where that is not known, or it has no definition.
        checkpoints: their descriptions, each after the one that it builds upon.
        live: the description of the running guest, or None where it is not known.
    """

    definition: str | None = None
    autostart: bool | None = None
    checkpoints: tuple[str, ...] = ()
    live: str | None = None


def source_settings(domain: t.Any, state_dir: str) -> SourceSettings:
    """What this host keeps of a guest.

    Args:
        domain: the guest.
        state_dir: where this host keeps its records.

    Raises: libvirtError when the guest cannot be asked.
    """
    lib = virt.libvirt
    checkpoints = _checkpoints(domain)
    live = domain.XMLDesc(0) if domain.isActive() else None
    if not domain.isPersistent():
        return SourceSettings(checkpoints=checkpoints, live=live)
    definition = _with_passwords(
        lib.VIR_DOMAIN_XML_SECURE, lambda flag: domain.XMLDesc(lib.VIR_DOMAIN_XML_INACTIVE | flag)
    )
    return SourceSettings(definition, _starts_with_host(domain, state_dir), checkpoints, live)


def _starts_with_host(domain: t.Any, state_dir: str) -> bool:
    """Whether it would start with its host. Of a guest that was off when its host was closed, the host's maintenance
    record has the mark; the guest may have been started since.
    """
    if domain.autostart():
        return True
    with contextlib.suppress(maintenance.RecordError, OSError):
        marks = maintenance.load(Path(state_dir)).get(maintenance.AUTOSTART) or []
        return domain.UUIDString() in [guest["uuid"] for guest in marks]
    return False


def _with_passwords(flag: int, ask: t.Callable[[int], str]) -> str:
    """A description with what is secret in it; without that where this user may not see it, such as the one of the role
    secure_hosts. libvirt itself takes all of it along in a move.
    """
    try:
        return ask(flag)
    except virt.libvirt.libvirtError as error:
        if error.get_error_code() != virt.libvirt.VIR_ERR_ACCESS_DENIED:
            raise
        return ask(0)


def _checkpoints(domain: t.Any) -> tuple[str, ...]:
    lib = virt.libvirt
    try:
        found = domain.listAllCheckpoints(lib.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL)
    except lib.libvirtError as error:
        if error.get_error_code() == lib.VIR_ERR_NO_SUPPORT:
            return ()
        raise
    return tuple(_with_passwords(lib.VIR_DOMAIN_CHECKPOINT_XML_SECURE, one.getXMLDesc) for one in found)


def on_record(state_dir: str, step: Step) -> SourceSettings | None:
    """What a run that died had on record of a guest that it sent to the same destination, or None."""
    kept = kept_settings.read(state_dir, step["guest"]["uuid"])
    if kept is None or kept["destination"] != step["destination"]:
        return None
    return SourceSettings(autostart=kept["autostart"], checkpoints=tuple(kept["checkpoints"]))


def keep(state_dir: str, step: Step, settings: SourceSettings) -> None:
    """Put on record what the source is about to forget. On disk before the guest is sent.

    Raises: VirtError when that cannot be; the guest must not be sent then.
    """
    guest = step["guest"]
    if not settings.autostart and not settings.checkpoints:
        # An earlier record would be of a move that never was, or of a guest that came back.
        kept_settings.remove(state_dir, guest["uuid"])
        return
    try:
        kept_settings.store(
            state_dir,
            {
                "schema": kept_settings.SCHEMA,
                "name": guest["name"],
                "uuid": guest["uuid"],
                "source": step["source"],
                "destination": step["destination"],
                "autostart": bool(settings.autostart),
                "checkpoints": list(settings.checkpoints),
            },
        )
    except OSError as error:
        what = "autostart mark" if settings.autostart else "checkpoints"
        raise virt.VirtError(
            refusal(
                "settings_not_kept",
                f"the {what} of {guest['name']}, which libvirt does not take along, cannot be put on record in"
                f" {state_dir} ({error.strerror or error}), so nothing was started",
                "make room there, or give another state_dir, then run it again",
            )
        ) from error


def settings_of_sent(state_dir: str, step: Step, domain: t.Any) -> SourceSettings:
    """What the source keeps of a guest that another run, or somebody else, has sent. Puts it on record.

    What is on record counts: the source may be about to forget it.

    Raises: libvirtError when the source cannot be asked.
    """
    recorded, found = on_record(state_dir, step), source_settings(domain, state_dir)
    if recorded is not None:
        return dataclasses.replace(recorded, definition=found.definition, live=found.live)
    # The guest is on its way already, with or without a record.
    with contextlib.suppress(virt.VirtError):
        keep(state_dir, step, found)
    return found


def forget(state_dir: str, step: Step) -> None:
    """Remove the record of a guest that has not left, whose source forgets nothing."""
    kept_settings.remove(state_dir, step["guest"]["uuid"])


def hand_over(domain: t.Any, step: Step, settings: SourceSettings) -> Corrections:
    """Set at the destination what the source kept of a guest.

    Args:
        domain: the guest, which runs at its destination, on a writable connection.
        step: of the plan.
        settings: that the source had before the move.
    """
    found = Corrections()
    _set_autostart(domain, step, settings.autostart, found)
    _define_checkpoints(domain, step, settings.checkpoints, found)
    if settings.live is not None:
        with contextlib.suppress(virt.libvirt.libvirtError):
            before, after = guest_xml.parse(settings.live), _running(domain)
            found.faults += lost_settings(before, after, step["source"], step["destination"])
    return found


def _running(domain: t.Any) -> ET.Element:
    """The description of a guest that has just arrived, with the size of its balloon as QEMU has it.

    libvirt's own figure may be from before QEMU knew the size.
    """
    root = guest_xml.parse(domain.XMLDesc(0))
    size = root.find("currentMemory")
    try:
        actual_kib = within(ANSWER_TIMEOUT_S, domain.memoryStats).get("actual")
    except (virt.libvirt.libvirtError, UnansweredError):
        actual_kib = None
    if size is not None and actual_kib is not None:
        size.text = str(actual_kib)
        size.set("unit", "KiB")
    elif size is not None:
        root.remove(size)
    return root


def _set_autostart(domain: t.Any, step: Step, wanted: bool | None, found: Corrections) -> None:
    if wanted is None:
        return
    name, target = step["guest"]["name"], step["destination"]
    try:
        if not domain.isPersistent():
            if wanted:
                found.faults.append(_no_autostart(step, "it has no definition there"))
            return
        if bool(domain.autostart()) == wanted:
            return
        domain.setAutostart(int(wanted))
        found.done.append(f"set autostart on {target}" if wanted else f"removed autostart on {target}")
    except virt.libvirt.libvirtError as error:
        if wanted:
            found.faults.append(_no_autostart(step, str(error)))
            return
        found.faults.append(
            refusal(
                "autostart_not_removed",
                f"{name} starts with {target} (autostart), which it did not with {step['source']}, and that could not"
                f" be corrected: {error}",
                f"virsh autostart --disable {quoted(name)} on {target}",
            )
        )


def _no_autostart(step: Step, why: str) -> t.Any:
    name, target = step["guest"]["name"], step["destination"]
    return refusal(
        "autostart_not_set",
        f"{name} does not start with {target} (autostart), as it did with {step['source']}, and that could not be"
        f" corrected: {why}",
        f"virsh autostart {quoted(name)} on {target}",
    )


def _define_checkpoints(domain: t.Any, step: Step, checkpoints: t.Sequence[str], found: Corrections) -> None:
    """Define the checkpoints anew. libvirt checks that each disk has its bitmap, and refuses it otherwise."""
    lib = virt.libvirt
    flags = lib.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE | lib.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
    left = {_name_of(xml): xml for xml in checkpoints}
    defined = 0
    try:
        for one in domain.listAllCheckpoints(0) if left else ():
            left.pop(one.getName(), None)
        for name, xml in list(left.items()):
            domain.checkpointCreateXML(xml, flags)
            del left[name]
            defined += 1
    except lib.libvirtError as error:
        guest, target = step["guest"]["name"], step["destination"]
        found.faults.append(
            refusal(
                "checkpoints_not_carried",
                f"{target} does not have {listed(list(left))}, checkpoints that {guest} had on {step['source']}:"
                f" {error}",
                f"make the next backup of {guest} a full one",
            )
        )
    if defined:
        found.done.append(f"defined {defined} of its checkpoints on {step['destination']}")


def _name_of(checkpoint: str) -> str:
    """The name of a checkpoint by its description. One that is damaged has none, and libvirt will refuse it."""
    try:
        return guest_xml.parse(checkpoint).findtext("name") or ""
    except xml_text.XmlTextError:
        return ""
