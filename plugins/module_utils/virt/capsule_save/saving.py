# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: saves a guest as a capsule, and ends what a run that died has begun.

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import Capsule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import PARTS
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look, layers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.guest_look import GuestLook
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import (
    down_time,
    memory_freeing,
    save_checks,
    save_record,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.finishing import Finished, Finisher
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.freezing import STOP, Freezer
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.save_record import SaveRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


class SaveRequest(t.NamedTuple):
    """What an operator wants.

    Attributes:
        guest: name or UUID.
        host: name of this host.
        consistency: C(memory), C(frozen) or C(crash); None: the best that can be had.
        balloon: whether memory that the guest does not need is taken before, and given back at once.
        then: C(continue) or C(stop).
        sign_with: file of an ssh key; None: it is not signed.
        trust_domain: the operator's word.
        state_dir: where this host keeps its records.
        check: nothing is done; what would be is told.
    """

    guest: str
    host: str
    consistency: str | None
    balloon: bool
    then: str
    sign_with: str | None
    trust_domain: str
    state_dir: str
    check: bool


def save(connection: t.Any, store: CapsuleStore, request: SaveRequest) -> dict[str, t.Any]:
    """Save a guest, or end the save that an earlier run has begun; returns the module's result.

    Args:
        connection: to this host's libvirtd; a writable one unless it is a check.
        store: of this host.
        request: what is wanted.

    Raises: VirtError, CapsuleError, libvirtError.
    """
    domain = guest_look.find_or_fail(connection, request.guest, request.host)
    if request.check:
        return _forecast(connection, store, domain, request)
    store.prepare()
    with store.guest_lock(domain.UUIDString()), store.locked():
        resumed = _resume(connection, store, domain, request)
        if resumed is None:
            return _save_anew(connection, store, domain, request)
        if request.then == STOP and resumed["state"] == "running":
            # The run that died was to let it go on. This one is to stop it.
            found = _save_anew(connection, store, guest_look.find(connection, domain.UUIDString()), request)
            return {**found, "notes": [*resumed["notes"], *found["notes"]]}
        return resumed


def _save_anew(connection: t.Any, store: CapsuleStore, domain: t.Any, request: SaveRequest) -> dict[str, t.Any]:
    look = guest_look.look_at(domain, secure=True)
    consistency, because = _checked(domain, look, request)
    if consistency == "memory":
        _raise_if(store.memory_refusal(look.name, request.host))
    freed = 0
    notes: list[str] = []
    if consistency == "memory" and request.balloon:
        freed, notes = memory_freeing.free(domain, request.state_dir)
    memory = memory_freeing.memory_bytes(domain) if consistency == "memory" else 0
    _raise_if(save_checks.room_refusal(store.free_bytes(), memory, store.directory, look.name))
    expected = down_time.forecast(store, memory, restores=request.then != STOP)
    record = _begin(connection, store, look, request, consistency)
    freezer = Freezer(connection, record)
    freezer.freeze(look)
    if consistency == "memory":
        down_time.learn(store, memory, record["saved_s"], record["restored_s"])
    finished = Finisher(store, record, versions(connection)).finish(request.sign_with)
    return _ended(store, record, finished, notes + freezer.notes) | {
        "consistency_because": because,
        "down_forecast_s": expected.down_s if consistency == "memory" else None,
        "freed_bytes": freed,
        "resumed": False,
    }


def _checked(domain: t.Any, look: GuestLook, request: SaveRequest) -> tuple[str, str]:
    """How the guest is saved, and why so.

    Raises:
        VirtError: it cannot be.
    """
    consistency, because = save_checks.consistency(domain, look, request.consistency)
    for why in save_checks.refusals(domain, look, request.host):
        raise virt.VirtError(why)
    if request.sign_with and not os.access(request.sign_with, os.R_OK):
        raise virt.VirtError(
            refusal("no_key", f"{request.sign_with} cannot be read", "set sign_with to the file of an ssh key")
        )
    if request.then == STOP and consistency != "memory" and look.is_active:
        raise virt.VirtError(
            refusal(
                "stop_without_memory",
                f"{look.name} runs, and without its memory all would be lost that it has not written yet",
                f"shut it down first (virsh shutdown {quoted(look.name)}), or save it with consistency: memory",
            )
        )
    return consistency, because


def _begin(
    connection: t.Any, store: CapsuleStore, look: GuestLook, request: SaveRequest, consistency: str
) -> SaveRecord:
    number = store.next_number(look.uuid)
    disks = []
    for disk in look.disks:
        top = chain(disk.path, disk.form)[0]
        disks.append(
            {
                "target": disk.target,
                "path": disk.path,
                "form": disk.form,
                "overlay": layers.path_beside(disk.path, number),
                "size_bytes": top.size_bytes,
            }
        )
    return save_record.new(
        store,
        {"name": look.name, "uuid": look.uuid},
        number=number,
        consistency=consistency,
        memory_format=save_checks.memory_format(connection, connection.lookupByUUIDString(look.uuid)),
        memory_image=None,
        restored_s=None,
        then=request.then,
        trust_domain=request.trust_domain,
        made_at=utc_now(),
        made_on=request.host,
        autostart=look.autostart,
        was_active=look.is_active,
        persistent=guest_look.text(look.persistent) if look.persistent is not None else "",
        disks=disks,
    )


# A run that died


def _resume(connection: t.Any, store: CapsuleStore, domain: t.Any, request: SaveRequest) -> dict[str, t.Any] | None:
    """End what an earlier run has begun; None: there is nothing to end, or it was given up.

    Raises:
        VirtError: nobody can tell what became of it.
    """
    record = save_record.read(store, domain.UUIDString())
    if record is None:
        return None
    freezer = Freezer(connection, record)
    freezer.wait_for_libvirt()
    look = guest_look.look_at(freezer.domain(), secure=True)
    if record.stage == save_record.STOPPED:
        return _still_stopped(store, record, look)
    if record.stage in (save_record.BEGUN, save_record.SAVING) and not _went_on(record, freezer, look):
        freezer.undo()
        return None
    if record.stage == save_record.SAVED and not _goes_on_after_save(record, freezer, look):
        return None
    finished = Finisher(store, record, versions(connection)).finish(request.sign_with)
    note = f"an earlier run began capsule {record.number} at {record.at} and died; this run has ended it"
    return _ended(store, record, finished, [note, *freezer.notes]) | {
        "consistency_because": "the run that began it decided so",
        "down_forecast_s": None,
        "freed_bytes": 0,
        "resumed": True,
    }


def _on_layers(record: SaveRecord, look: GuestLook) -> bool:
    paths = {disk.target: disk.path for disk in look.disks}
    return all(paths.get(disk.target) == disk.overlay for disk in record.disks)


def _went_on(record: SaveRecord, freezer: Freezer, look: GuestLook) -> bool:
    """Whether what libvirt was told to do was done; then the record is brought as far as that."""
    if record["consistency"] == "memory":
        if look.is_active or not freezer.is_saved():
            # It never stopped, or went off or was started by somebody else: its memory fits nothing.
            return False
        freezer.take_parts(look)
        record.write(stage=save_record.SAVED)
        return True
    if record["was_active"] != look.is_active or not _on_layers(record, look):
        return False
    freezer.take_parts_without_memory(look)
    return True


def _goes_on_after_save(record: SaveRecord, freezer: Freezer, look: GuestLook) -> bool:
    """Let a guest go on that was saved and not restored; false: its memory fits its disks no more, and was given up."""
    if not look.is_active and record["then"] != STOP:
        if any(layers.is_written(disk.overlay) for disk in record.disks):
            # Somebody has started it without its memory. What it has done since is on the layers.
            freezer.undo()
            return False
        freezer.go_on()
    record.write(stage=save_record.FROZEN)
    return True


def _still_stopped(store: CapsuleStore, record: SaveRecord, look: GuestLook) -> dict[str, t.Any] | None:
    """The result of a save that has stopped the guest; None: it runs again, and can be saved again."""
    capsule = store.capsule(record.guest["uuid"], record.number)
    if look.is_active or capsule is None or any(layers.is_written(disk.overlay) for disk in record.disks):
        record.remove()
        return None
    return {
        "changed": False,
        **_identity(record, capsule.digest),
        "consistency_because": "the run that saved it decided so",
        "down_forecast_s": None,
        "down_s": None,
        "freed_bytes": 0,
        "resumed": False,
        "state": "stopped",
        "stopped": _stopped(record, capsule.digest),
        "disks": [],
        "memory": capsule.document["memory"],
        "part_bytes": _part_bytes(capsule.document),
        "signed": capsule.signature is not None,
        "notes": [],
    }


# Results


def _identity(record: SaveRecord, digest: str) -> dict[str, t.Any]:
    return {
        "guest": record.guest,
        "number": record.number,
        "digest": digest,
        "consistency": record["consistency"],
    }


def _stopped(record: SaveRecord, digest: str) -> dict[str, t.Any]:
    """The source's word that the guest is off here and stays off."""
    return {
        "guest": record.guest,
        "host": record["made_on"],
        "number": record.number,
        "digest": digest,
        "at": record.at,
        "still_since": record.still_since,
    }


def _ended(store: CapsuleStore, record: SaveRecord, finished: Finished, notes: list[str]) -> dict[str, t.Any]:
    digest = finished.capsule.digest
    stops = record["then"] == STOP
    if stops:
        record.write(stage=save_record.STOPPED)
        record.forget_files()
    else:
        record.remove()
    return {
        "changed": True,
        **_identity(record, digest),
        "down_s": record["down_s"],
        "state": "stopped" if stops else ("running" if record["was_active"] else "off"),
        "stopped": _stopped(record, digest) if stops else None,
        "disks": finished.disks,
        "memory": finished.memory,
        "part_bytes": _part_bytes(finished.capsule.document),
        "signed": finished.capsule.signature is not None,
        "notes": notes,
    }


def _part_bytes(document: Capsule) -> dict[str, int]:
    """The sizes of the small parts that a capsule has."""
    return {key: document[key]["size_bytes"] for key in PARTS if document[key] is not None}


def _forecast(connection: t.Any, store: CapsuleStore, domain: t.Any, request: SaveRequest) -> dict[str, t.Any]:
    """What a save would do."""
    look = guest_look.look_at(domain, secure=False)
    consistency, because = _checked(domain, look, request)
    with_memory = consistency == "memory"
    if with_memory:
        _raise_if(store.memory_refusal(look.name, request.host))
    memory = memory_freeing.memory_bytes(domain) if with_memory else 0
    free = store.free_bytes() if os.path.isdir(store.directory) else None
    if free is not None:
        _raise_if(save_checks.room_refusal(free, memory, store.directory, look.name))
    expected = down_time.forecast(store, memory, restores=request.then != STOP)
    basis = "as fast as the last times" if expected.measured else "at a usual rate, as nothing was saved here yet"
    disks = []
    for disk in look.disks:
        files = chain(disk.path, disk.form)
        taken = os.stat(files[0].path).st_blocks * 512
        disks.append({"target": disk.target, "path": disk.path, "layer_bytes": taken, "layers": len(files)})
    return {
        "changed": True,
        "guest": {"name": look.name, "uuid": look.uuid},
        "number": store.next_number(look.uuid),
        "digest": None,
        "consistency": consistency,
        "consistency_because": because,
        "down_forecast_s": expected.down_s if with_memory else None,
        "down_s": None,
        "state": "stopped" if request.then == STOP else ("running" if look.is_active else "off"),
        "stopped": None,
        "disks": disks,
        "memory": {"format": save_checks.memory_format(connection, domain), "size_bytes": memory}
        if with_memory
        else None,
        "notes": [f"it would stand still for {human_seconds(expected.down_s)}, {basis}"] if with_memory else [],
    }


def versions(connection: t.Any) -> dict[str, str]:
    """The versions of libvirt and QEMU here, as a capsule has them."""
    return {"libvirt": _version(connection.getLibVersion()), "qemu": _version(connection.getVersion())}


def _version(number: int) -> str:
    """A version as libvirt counts it.

    >>> _version(11003000)
    '11.3.0'
    """
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def _raise_if(why: Refusal | None) -> None:
    if why is not None:
        raise CapsuleError(why["code"], why["reason"], why["remedy"])
