# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what an operator wants started, and why it is not.

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import acceptance, whereabouts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import (
    Capsule,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.whereabouts import Evidence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import locks
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look, layers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.signature import verified
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import save_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import (
    before_disks,
    host_place,
)


class StartRequest(t.NamedTuple):
    """What an operator wants.

    Attributes:
        guest: name or UUID, as it was saved.
        number: of the capsule; None: the newest one here.
        host: name of this host.
        as_new: name of the new guest; None: it is the same guest.
        discard_memory: it boots, though its memory was saved.
        evidence: what is known of other hosts.
        allow_older: an older capsule than the last one here is started.
        signers: public keys that may sign.
        networks: other names here of bridges and networks.
        allow_files: patterns of files of this host that its definition may name.
        image_dir: where its own layers are made.
        wait_s: how long to wait until it is of use.
        check: nothing is done; what would be is told.
        lazy: where disks are read from that have not come; None: all must be here.
        of_move: it is the move itself that lets the guest go on where it was.
    """

    guest: str
    number: int | None
    host: str
    as_new: str | None
    discard_memory: bool
    evidence: Evidence
    allow_older: bool
    signers: t.Sequence[str]
    networks: t.Mapping[str, str]
    allow_files: t.Sequence[str]
    image_dir: str
    wait_s: float
    check: bool
    lazy: before_disks.Export | None = None
    of_move: bool = False


def refusal_of(connection: t.Any, store: CapsuleStore, request: StartRequest, capsule: StoredCapsule) -> Refusal | None:
    """Why the capsule is not started, or None."""
    document = capsule.document
    known = store.known(document["guest"]["uuid"])
    signature = verified(capsule.data, capsule.signature, request.signers)
    found = acceptance.signature_refusal(document, signature, known, bool(request.signers))
    if found is None and request.as_new is None:
        found = acceptance.replay_refusal(document, capsule.digest, known, request.allow_older)
        found = found or whereabouts.start_refusal(document, capsule.digest, request.host, request.evidence)
        found = found or own_host_refusal(connection, store, request, document)
    if found is None and request.as_new is not None:
        found = _new_name(connection, request, document)
    if found is None and not request.discard_memory:
        found = next(iter(acceptance.host_refusals(document, host_place.versions(connection, request.host))), None)
    return found


def own_host_refusal(
    connection: t.Any, store: CapsuleStore, request: StartRequest, document: Capsule
) -> Refusal | None:
    """Why a guest is not started here because of what this host has of it already, or None."""
    name, uuid = document["guest"]["name"], document["guest"]["uuid"]
    domain = guest_look.find(connection, uuid)
    if domain is None:
        other = guest_look.find(connection, name)
        if other is None:
            return None
        return refusal(
            "name_taken",
            f"another guest is called {name} on {request.host} ({other.UUIDString()})",
            f"rename that one (virsh domrename {quoted(name)} NEW), or start the capsule with as_new",
        )
    if domain.isActive():
        return refusal(
            "guest_runs",
            f"{name} runs on {request.host} already",
            "start the capsule as another guest with as_new, or shut that one down if the capsule is to replace it",
        )
    if domain.hasManagedSaveImage(0):
        return refusal(
            "managed_save",
            f"{request.host} has a saved memory image of {name} (managed save)",
            f"virsh managedsave-remove {quoted(name)} on {request.host}",
        )
    path = store.move_lock_path(uuid)
    if not request.of_move and locks.is_held(path):
        return refusal(
            "guest_busy",
            f"capsule_move is moving {name} away from {request.host} ({locks.holders_of(path)})",
            f"wait for its end: if {name} does not get there, it goes on on {request.host}",
        )
    stopped = stopped_here(store, document)
    if stopped is not None:
        return _asked_elsewhere(stopped, request)
    if request.allow_older:
        return None
    return refusal(
        "guest_defined",
        f"{name} is defined on {request.host} and off, and may have written to its disks since capsule"
        f" {document['number']}",
        f"start it as it is (virsh start {quoted(name)}); to go back to the capsule, allow_older: true",
    )


def _asked_elsewhere(stopped: save_record.SaveRecord, request: StartRequest) -> Refusal | None:
    """Why the guest is not started where it was stopped: another host may be about to run it, or run it."""
    seen = {str(snapshot["host"]) for snapshot in request.evidence.snapshots}
    unseen = [host for host in stopped.asked if host not in seen]
    if not unseen or request.evidence.source_is_off:
        return None
    name = stopped.guest["name"]
    return refusal(
        "may_run_elsewhere",
        f"{unseen[0]} was asked to start {name}, and nothing says that it is off there",
        f"run capsule_move to {unseen[0]} again, which asks it; or give snapshots with that of {unseen[0]}"
        f" (cluster_view); if {unseen[0]} is lost, source_is_off: true",
    )


def stopped_here(store: CapsuleStore, document: Capsule) -> save_record.SaveRecord | None:
    """The record of the save that has stopped the guest here with this capsule, if nobody has started it since."""
    record = save_record.read(store, document["guest"]["uuid"])
    if record is None or record.stage != save_record.STOPPED or record.number != document["number"]:
        return None
    for disk in record.disks:
        if not os.path.exists(disk.overlay) or layers.is_written(disk.overlay):
            return None
    return record


def _new_name(connection: t.Any, request: StartRequest, document: Capsule) -> Refusal | None:
    if document["memory"] is not None and not request.discard_memory:
        return refusal(
            "memory_has_identity",
            f"capsule {document['number']} of {document['guest']['name']} has its memory, and that knows its old name,"
            " addresses and keys",
            "set discard_memory: true (its disks are then as after a loss of power), or save it with"
            " consistency: frozen",
        )
    other = guest_look.find(connection, str(request.as_new))
    if other is None:
        return None
    return refusal(
        "name_taken",
        f"there is a guest {request.as_new} on {request.host} already",
        "choose another name with as_new",
    )
