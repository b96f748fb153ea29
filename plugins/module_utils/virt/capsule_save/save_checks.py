# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what keeps a guest from being saved as a capsule, and how consistent it can be saved.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import MOST_LAYERS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Layer, Place
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.rebuild import Rebuilt, rebuilt
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.guest_look import (
    GuestDisk,
    GuestLook,
    disks_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.image_chain import chain
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import saved_memory

MEMORY, FROZEN, CRASH = "memory", "frozen", "crash"
#: The first libvirt that writes memory in the sparse form.
SPARSE_LIBVIRT = 11_002_000


def refusals(domain: t.Any, look: GuestLook, host: str) -> list[Refusal]:
    """Why a guest cannot be saved, whatever of it is wanted.

    Args:
        domain: the guest.
        look: as libvirt shows it.
        host: name of this host.
    """
    found = [*_definition(look, host), *_under_way(domain, look, host)]
    for disk in look.disks:
        found += _disk(domain, look, disk)
    if not look.disks:
        found.append(
            refusal("no_disk", f"{look.name} has no disk that could be saved", "move it live with domain_migrate")
        )
    return found


def as_a_far_end_sees_it(look: GuestLook, host: str) -> Rebuilt:
    """The definition as another host would rebuild it: what it would refuse is refused before anything is done."""
    place = Place(
        host,
        {disk.target: (Layer(disk.path, disk.form),) for disk in look.disks},
        nvram=look.nvram,
        files=None,
    )
    return rebuilt(look.live, look.name, place)


def _definition(look: GuestLook, host: str) -> list[Refusal]:
    if look.persistent is None:
        return [
            refusal(
                "transient_guest",
                f"{look.name} has no definition on {host} that outlives it (it is transient)",
                f"give it one: virsh dumpxml {quoted(look.name)} > FILE && virsh define FILE",
            )
        ]
    return [*_hot_plugged(look), *as_a_far_end_sees_it(look, host).refusals]


def _hot_plugged(look: GuestLook) -> list[Refusal]:
    """Disks with which the guest runs, and does not start the next time, or the other way round."""
    running = {disk.target: disk.path for disk in look.disks}
    wanted = {disk.target: disk.path for disk in disks_of(look.persistent)} if look.persistent is not None else {}
    return [
        refusal(
            "disk_not_in_definition",
            f"{look.name} runs with another disk {target} ({running.get(target) or 'none'}) than it starts with"
            f" the next time ({wanted.get(target) or 'none'})",
            f"make both the same: virsh attach-disk or detach-disk with --config ({quoted(look.name)})",
        )
        for target in sorted({*running, *wanted})
        if running.get(target) != wanted.get(target)
    ]


def _under_way(domain: t.Any, look: GuestLook, host: str) -> list[Refusal]:
    lib = virt.libvirt
    found = list(saved_memory.refusals(domain.connect(), host, look.uuid))
    if look.is_active and domain.jobInfo()[0] != lib.VIR_DOMAIN_JOB_NONE:
        found.append(
            refusal(
                "guest_busy",
                f"a job is under way for {look.name} on {host}: it is being moved, saved or copied",
                f"wait for its end: virsh domjobinfo {quoted(look.name)}",
            )
        )
    if hasattr(domain, "listAllCheckpoints") and domain.listAllCheckpoints(0):
        found.append(
            refusal(
                "guest_checkpoints",
                f"{look.name} has checkpoints of a backup, and libvirt adds no layer to such a disk",
                f"end that backup, or remove them: virsh checkpoint-list {quoted(look.name)}",
            )
        )
    return found


def _disk(domain: t.Any, look: GuestLook, disk: GuestDisk) -> list[Refusal]:
    name = look.name
    if disk.kind != "file":
        return [
            refusal(
                "disk_not_file",
                f"disk {disk.target} of {name} is {disk.path} ({disk.kind}), which cannot be frozen here as a file can",
                f"move it to a file first (virsh blockcopy {quoted(name)} {disk.target} FILE --pivot),"
                " or move the guest with domain_migrate",
            )
        ]
    if disk.form not in ("raw", "qcow2"):
        return [
            refusal(
                "disk_format",
                f"disk {disk.target} of {name} is {disk.form}, and only raw and qcow2 can be frozen",
                "convert it to qcow2 while the guest is off: qemu-img convert -O qcow2",
            )
        ]
    for store in look.live.findall("devices/disk"):
        target = store.find("target")
        if target is not None and target.get("dev") == disk.target:
            for below in store.iter("backingStore"):
                if below.get("type") not in (None, "file"):
                    return [
                        refusal(
                            "fill_unfinished",
                            f"disk {disk.target} of {name} is still read from another host ({below.get('type')})",
                            f"let capsule_fill end first: guest: {name}",
                        )
                    ]
    if look.is_active and domain.blockJobInfo(disk.target, 0):
        return [
            refusal(
                "block_job",
                f"a block job is at work on disk {disk.target} of {name} (a fill, a copy or a merge)",
                f"wait for its end: virsh blockjob {quoted(name)} {disk.target}",
            )
        ]
    return _layers(name, disk)


def _layers(name: str, disk: GuestDisk) -> list[Refusal]:
    try:
        count = len(chain(disk.path, disk.form))
    except CapsuleError as error:
        return [error.refusal]
    if count <= MOST_LAYERS:
        return []
    return [
        refusal(
            "too_many_layers",
            f"disk {disk.target} of {name} is made of {count} files already, and {MOST_LAYERS} layers is the most",
            f"merge those that no capsule needs alone, while it runs: capsule_prune with keep_last; or have all in one"
            f" file again, which takes its full room: virsh blockpull {quoted(name)} {disk.target} --wait",
        )
    ]


def consistency(domain: t.Any, look: GuestLook, wanted: str | None) -> tuple[str, str]:
    """How the guest is saved, and why so.

    Args:
        domain: the guest.
        look: as libvirt shows it.
        wanted: what the operator wants; None: the best that can be had.

    Raises:
        VirtError: what is wanted cannot be had.
    """
    if not look.is_active:
        if wanted == MEMORY:
            raise virt.VirtError(
                refusal(
                    "guest_off",
                    f"{look.name} is off, so there is no memory to save",
                    f"start it (virsh start {quoted(look.name)}), or set consistency to frozen",
                )
            )
        return FROZEN, "it is off, so its file systems are as they were unmounted"
    if wanted == FROZEN and not look.has_agent:
        raise virt.VirtError(
            refusal(
                "no_agent",
                f"no guest agent answers in {look.name}, so its file systems cannot be frozen",
                "install and start qemu-guest-agent in it, or set consistency to memory or crash",
            )
        )
    if wanted is None:
        return MEMORY, "with its memory nothing is lost"
    return wanted, "it was asked for"


def memory_format(connection: t.Any, domain: t.Any) -> str:
    """C(sparse) where this libvirt has it, else C(raw)."""
    return "sparse" if connection.getLibVersion() >= SPARSE_LIBVIRT and hasattr(domain, "saveParams") else "raw"


def room_refusal(free_bytes: int, memory_bytes: int, directory: str, name: str) -> Refusal | None:
    """Why there is no room for the memory of a guest, or None. A tenth more is kept free for everybody else."""
    needed = memory_bytes + memory_bytes // 10
    if free_bytes >= needed:
        return None
    return refusal(
        "no_room",
        f"{directory} has {human_bytes(free_bytes)} free; the memory of {name} may take {human_bytes(memory_bytes)}",
        "remove capsules that nobody needs (capsule_prune), or save with balloon: true or consistency: frozen",
    )
