# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the key of a sender starts on this host where the sender may have the guest started:
# it receives the capsule, and then starts the guest from it.

from __future__ import annotations

import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.whereabouts import Evidence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import start_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.start_checks import StartRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.starting import start
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import receive_command
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.arrival import Arrival
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.receive_session import Start
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.explanation import explained
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.local_connection import connected

IMAGE_DIR = "/var/lib/libvirt/images"


def main(folder: str) -> int:
    """Receive the capsule of the ticket in a folder and start its guest, over standard input and output."""
    return receive_command.main(folder, starter_of)


def starter_of(ticket: Ticket, store: CapsuleStore) -> Start:
    """What starts the guest of a ticket when its capsule is here."""

    def started(arrival: Arrival, word: frames.Start) -> frames.Started:
        began = time.monotonic()
        uri = str((ticket.start or {}).get("uri") or "qemu:///system")
        try:
            with connected(uri, read_only=False) as connection:
                try:
                    found = start(connection, store, _request(ticket, arrival, word))
                except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
                    return _after_error(connection, store, arrival, ticket.name, error)
        except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
            return _unclear(arrival, ticket.name, error)
        if found["state"] != "running":
            return _ran_here(arrival, ticket.name)
        whole_ms = round((time.monotonic() - began) * 1000)
        times = [
            None if found[key] is None else round(found[key] * 1000) for key in ("running_after_s", "useful_after_s")
        ]
        notes = tuple(str(note) for note in found["notes"])
        running_ms = whole_ms if times[0] is None else times[0]
        return frames.Started(frames.RUNNING, running_ms, times[1], found["useful_by"] or "", notes, None)

    return started


def _request(ticket: Ticket, arrival: Arrival, word: frames.Start) -> StartRequest:
    guest, number = arrival.capsule["guest"], arrival.capsule["number"]
    stopped = {"guest": guest, "host": word.host, "number": number, "digest": arrival.digest, "at": word.at}
    return request_of(ticket, guest["uuid"], number)._replace(evidence=Evidence(stopped), wait_s=word.wait_s)


def request_of(ticket: Ticket, uuid: str, number: int) -> StartRequest:
    """With what a guest is started here, as the ticket says; without any word of its old host.

    Args:
        ticket: what is permitted.
        uuid: of the guest.
        number: of its capsule.
    """
    how = ticket.start or {}
    return StartRequest(
        guest=uuid,
        number=number,
        host=ticket.name,
        as_new=None,
        discard_memory=False,
        evidence=Evidence(),
        allow_older=ticket.allow_older,
        signers=ticket.keys,
        networks={str(there): str(here) for there, here in (how.get("networks") or {}).items()},
        allow_files=[str(one) for one in how.get("allow_files") or []],
        image_dir=str(how.get("image_dir") or IMAGE_DIR),
        wait_s=0,
        check=False,
    )


def _after_error(
    connection: t.Any, store: CapsuleStore, arrival: Arrival, host: str, error: Exception
) -> frames.Started:
    """What is true after a start that has failed: it may have failed after the guest ran."""
    domain = guest_look.find(connection, arrival.capsule["guest"]["uuid"])
    if domain is not None and domain.isActive():
        return frames.Started(frames.RUNNING, None, None, "", (f"it runs, and then: {error}",), None)
    if _has_run_here(store, arrival):
        return _ran_here(arrival, host)
    why = explained(error) or refusal(
        "start_failed", f"the start on {host} failed ({type(error).__name__}: {error})", f"see journalctl on {host}"
    )
    return _off(why)


def _has_run_here(store: CapsuleStore, arrival: Arrival) -> bool:
    """Whether the guest ran here from this capsule, so that what it did is here only."""
    try:
        record = start_record.read(store, arrival.capsule["guest"]["uuid"], None)
    except CapsuleError:
        return True
    return record is not None and record["digest"] == arrival.digest and record["stage"] == start_record.STARTED


def _ran_here(arrival: Arrival, host: str) -> frames.Started:
    """It ran from this capsule and is off now. What it wrote is here only, so it must not go on elsewhere."""
    name, source = arrival.capsule["guest"]["name"], arrival.capsule["made_on"]
    why = refusal(
        frames.RAN_THERE[0],
        f"{name} was started on {host} and is off there now",
        f"see why (virsh domstate --reason {quoted(name)}, /var/log/libvirt/qemu on {host}), and start it there: virsh"
        f" start {quoted(name)}; then run capsule_move again, and {source} forgets it. What it wrote on {host} would be"
        f" lost with: capsule_start on {source} with snapshots of {host} (host_info)",
    )
    return frames.Started(frames.UNCLEAR, None, None, "", (), why)


def _off(why: t.Any) -> frames.Started:
    return frames.Started(frames.OFF, None, None, "", (), why)


def _unclear(arrival: Arrival, host: str, error: Exception) -> frames.Started:
    name = arrival.capsule["guest"]["name"]
    why = refusal(
        "start_unclear",
        f"it is not known whether {name} runs on {host} ({type(error).__name__}: {error})",
        f"virsh domstate --reason {quoted(name)} on {host}; then run capsule_move again",
    )
    return frames.Started(frames.UNCLEAR, None, None, "", (), why)
