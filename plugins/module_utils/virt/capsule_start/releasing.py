# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: lets a host forget a guest that it has stopped and that provably runs elsewhere.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import whereabouts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import guest_look, layers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import save_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save.save_record import SaveRecord
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.image_users import unused


class ReleaseRequest(t.NamedTuple):
    """What an operator wants.

    Attributes:
        guest: name or UUID.
        host: name of this host.
        started: the result of capsule_start on the other host, or None.
        snapshots: of hosts, taken just before.
        check: nothing is done; what would be is told.
    """

    guest: str
    host: str
    started: t.Mapping[str, t.Any] | None
    snapshots: t.Sequence[t.Mapping[str, t.Any]]
    check: bool


def release(connection: t.Any, store: CapsuleStore, request: ReleaseRequest) -> dict[str, t.Any]:
    """Remove the definition of a guest that capsule_save has stopped here; returns the module's result.

    Its capsules and images stay. Its layers that nobody has written to are removed.

    Raises: VirtError, CapsuleError, libvirtError.
    """
    domain = guest_look.find(connection, request.guest)
    if domain is None:
        return {"changed": False, "guest": None, "removed": []}
    uuid, name = domain.UUIDString(), domain.name()
    if request.check:
        return _release(connection, store, request, domain)
    with store.guest_lock(uuid), store.locked():
        if guest_look.find(connection, uuid) is None:
            return {"changed": False, "guest": {"name": name, "uuid": uuid}, "removed": []}
        return _release(connection, store, request, domain)


def _release(connection: t.Any, store: CapsuleStore, request: ReleaseRequest, domain: t.Any) -> dict[str, t.Any]:
    record = _stopped(store, request, domain)
    capsule = store.capsule(record.guest["uuid"], record.number)
    if capsule is None:
        raise CapsuleError(
            "capsule_missing",
            f"capsule {record.number}, with which {record.guest['name']} was stopped, is not here any more, so"
            f" {request.host} keeps the guest",
            f"once it surely runs elsewhere: virsh undefine --nvram --tpm {quoted(record.guest['name'])}",
        )
    why = whereabouts.release_refusal(record.guest, request.host, capsule.digest, request.started, request.snapshots)
    if why is not None:
        raise CapsuleError(**why)
    _check_layers(record)
    paths = [disk.overlay for disk in record.disks]
    if not request.check:
        lib = virt.libvirt
        domain.undefineFlags(lib.VIR_DOMAIN_UNDEFINE_NVRAM | getattr(lib, "VIR_DOMAIN_UNDEFINE_TPM", 0))
        free = unused(connection, paths)
        for path in paths:
            if path in free:
                layers.remove(path)
        record.remove()
    return {"changed": True, "guest": record.guest, "removed": paths}


def _stopped(store: CapsuleStore, request: ReleaseRequest, domain: t.Any) -> SaveRecord:
    """The record of the save that has stopped the guest."""
    name = domain.name()
    record = save_record.read(store, domain.UUIDString())
    if domain.isActive():
        raise CapsuleError(
            "guest_runs",
            f"{name} runs on {request.host}",
            "save and stop it first: capsule_save with then: stop",
        )
    if record is None or record.stage != save_record.STOPPED:
        raise CapsuleError(
            "guest_not_stopped",
            f"{name} is off on {request.host}, and it was not capsule_save that stopped it last",
            f"if nobody needs it here: virsh undefine --nvram --tpm {quoted(name)}",
        )
    return record


def _check_layers(record: SaveRecord) -> None:
    for disk in record.disks:
        if layers.is_written(disk.overlay):
            raise CapsuleError(
                "guest_has_run",
                f"{record.guest['name']} has written to {disk.overlay} since capsule {record.number} stopped it",
                "find out which of the two is the right one; nothing is removed",
            )
