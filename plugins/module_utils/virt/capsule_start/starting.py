# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: starts a guest from a capsule, once.

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import (
    Capsule,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import StoredCapsule
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look, tpm_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import save_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start import (
    before_disks,
    host_place,
    start_record,
    usefulness,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.preparing import Prepared, prepared
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.start_checks import (
    StartRequest,
    refusal_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_start.starter import Starter
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import guest_clock

#: What was in the way of a part is kept under this name until the guest runs.
ASIDE = ".kvmops-before"
#: A cut can come at any moment of a start before the disks are here.
STARTS = 3


def start(connection: t.Any, store: CapsuleStore, request: StartRequest) -> dict[str, t.Any]:
    """Start a guest from a capsule, or see that it was started from it; returns the module's result.

    Args:
        connection: to this host's libvirtd; a writable one unless it is a check.
        store: of this host.
        request: what is wanted.

    Raises: VirtError, CapsuleError, libvirtError.
    """
    began = time.monotonic()
    capsule = store.find_capsule(request.guest, request.number)
    if request.check:
        return _start(connection, store, request, capsule, began)
    with store.guest_lock(capsule.document["guest"]["uuid"]), store.locked():
        return _start(connection, store, request, capsule, began)


def _start(
    connection: t.Any, store: CapsuleStore, request: StartRequest, capsule: StoredCapsule, began: float
) -> dict[str, t.Any]:
    uuid = capsule.document["guest"]["uuid"]
    record = start_record.read(store, uuid, request.as_new)
    domain = guest_look.find(connection, record.guest["uuid"]) if record is not None else None
    active = domain is not None and bool(domain.isActive())
    if record is not None and record["digest"] == capsule.digest and active:
        if record["stage"] == start_record.STARTED or request.check:
            return _result(
                capsule,
                record.guest,
                request,
                changed=False,
                state="running",
                disks=_disks(record.layers, before_disks.unfinished(store, record.guest["uuid"])),
            )
        # The run that started it died after that.
        return _followed_up(connection, store, request, capsule, record, began, ["an earlier run has started it"])
    if record is not None and record["stage"] == start_record.BEGUN and not active and not request.check:
        Starter(connection, record).undo()
        if request.as_new is None and start_record.read(store, uuid, None) is None:
            before_disks.forget(store, uuid)
    why = refusal_of(connection, store, request, capsule)
    if why is not None:
        raise CapsuleError(**why)
    ready = prepared(connection, store, request, capsule)
    if request.check:
        return _result(
            capsule,
            ready.guest,
            request,
            changed=True,
            state="off",
            disks=_disks(ready.layers, ready.later),
            notes=ready.notes,
        )
    record = _started(connection, store, request, capsule, ready, began)
    return _followed_up(connection, store, request, capsule, record, began, ready.notes)


def _started(
    connection: t.Any, store: CapsuleStore, request: StartRequest, capsule: StoredCapsule, ready: Prepared, began: float
) -> start_record.StartRecord:
    """Start it. A cut of the way to disks that come later is waited for, and then it is tried again."""
    export, uuid = request.lazy, capsule.document["guest"]["uuid"]
    for attempt in itertools.count(1):
        record = _begin(connection, store, request, capsule, ready)
        if export is not None and ready.later:
            before_disks.keep(store, capsule, {target: ready.layers[target] for target in ready.later}, export)
        try:
            Starter(connection, record).start(ready.parts, ready.persistent, ready.running)
            break
        except Exception as error:
            if export is None or not ready.later:
                raise
            if not _runs(connection, uuid):
                before_disks.forget(store, uuid)
            left_s = request.wait_s - (time.monotonic() - began)
            if not isinstance(error, virt.VirtError) or attempt == STARTS or left_s <= 0:
                raise
            before_disks.reach(store, capsule.document, export.ticket, ready.later, left_s, False)
    return record


def _runs(connection: t.Any, uuid: str) -> bool:
    domain = guest_look.find(connection, uuid)
    return domain is not None and bool(domain.isActive())


def _begin(
    connection: t.Any, store: CapsuleStore, request: StartRequest, capsule: StoredCapsule, ready: Prepared
) -> start_record.StartRecord:
    domain = guest_look.find(connection, ready.guest["uuid"])
    made = [path for path in ready.layers.values() if path not in ready.adopted]
    if ready.parts.nvram is not None:
        made.append(ready.parts.nvram[1])
    if ready.parts.tpm is not None:
        made.append(os.path.join(tpm_state.TPM_STATE, ready.guest["uuid"]))
    moved = [[path, path + ASIDE] for path in made if os.path.lexists(path)]
    if domain is None and moved:
        _check_nobody_uses(connection, [there for there, dummy in moved])
    before = guest_look.look_at(domain, secure=True).persistent if domain is not None else None
    return start_record.new(
        store,
        capsule.document,
        capsule.digest,
        ready.guest,
        request.as_new,
        number=capsule.document["number"],
        layers=ready.layers,
        adopted=ready.adopted,
        made=made,
        moved=moved,
        replaced=guest_look.text(before) if before is not None else "",
        autostart=ready.autostart,
        with_memory=ready.parts.memory is not None,
    )


def _check_nobody_uses(connection: t.Any, paths: t.Sequence[str]) -> None:
    free = host_place.unused_here(connection, paths)
    for path in paths:
        if path not in free:
            raise CapsuleError(
                "file_in_use",
                f"{path} is the place of a part of the capsule, and another guest uses it",
                "rename that guest, or start the capsule with as_new",
            )


def _followed_up(
    connection: t.Any,
    store: CapsuleStore,
    request: StartRequest,
    capsule: StoredCapsule,
    record: start_record.StartRecord,
    began: float,
    notes: t.Sequence[str],
) -> dict[str, t.Any]:
    """What is done once the guest runs; a run that died before ends here, too."""
    domain = connection.lookupByUUIDString(record.guest["uuid"])
    running_s = time.monotonic() - began
    found = list(notes)
    if record["autostart"]:
        domain.setAutostart(1)
    if record["with_memory"]:
        step = {"guest": record.guest, "destination": request.host}
        corrected = guest_clock.correct(domain, t.cast(t.Any, step), _stood_still_ms(capsule.document))
        found += [*corrected.done, *corrected.notes]
    later = before_disks.unfinished(store, record.guest["uuid"])
    quiet = bool(record["with_memory"]) and not set(later).intersection(record.layers)
    useful = usefulness.wait(domain, sorted(record.layers), request.wait_s, may_be_quiet=quiet)
    useful_s = time.monotonic() - began if useful.yes else None
    if useful.lacks:
        found.append(f"{useful.lacks} within {request.wait_s:g} s: virsh console {quoted(record.guest['name'])}")
    record.write(stage=start_record.STARTED)
    Starter(connection, record).tidy()
    if request.as_new is None:
        with contextlib.suppress(CapsuleError):
            stopped = save_record.read(store, record.guest["uuid"])
            if stopped is not None and stopped.stage == save_record.STOPPED:
                stopped.remove()
    return _result(
        capsule,
        record.guest,
        request,
        changed=True,
        state="running" if domain.isActive() else "off",
        disks=_disks(record.layers, later),
        notes=found,
        running_s=running_s,
        useful_s=useful_s,
        useful_by=useful.by,
    )


def _stood_still_ms(document: Capsule) -> int | None:
    """Since when the guest stands still, if both hosts have the right time."""
    made = datetime.datetime.fromisoformat(document["made_at"].replace("Z", "+00:00"))
    seconds = (datetime.datetime.now(datetime.timezone.utc) - made).total_seconds()
    return round(seconds * 1000) if seconds > 0 else None


def _disks(own: t.Mapping[str, str], later: t.Container[str]) -> list[dict[str, t.Any]]:
    return [{"target": target, "path": path, "lazy": target in later} for target, path in sorted(own.items())]


def _result(
    capsule: StoredCapsule,
    guest: t.Mapping[str, str],
    request: StartRequest,
    *,
    changed: bool,
    state: str,
    disks: list[dict[str, t.Any]],
    notes: t.Sequence[str] = (),
    running_s: float | None = None,
    useful_s: float | None = None,
    useful_by: str | None = None,
) -> dict[str, t.Any]:
    return {
        "changed": changed,
        "guest": dict(guest),
        "host": request.host,
        "number": capsule.document["number"],
        "digest": capsule.digest,
        "state": state,
        "disks": disks,
        "running_after_s": None if running_s is None else round(running_s, 2),
        "useful_after_s": None if useful_s is None else round(useful_s, 2),
        "useful_by": useful_by,
        "notes": list(notes),
    }
