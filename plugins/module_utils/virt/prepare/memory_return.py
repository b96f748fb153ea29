# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: gives back the memory that a run that died has taken from guests.

from __future__ import annotations

import functools
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import taken_memory
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records.taken_memory import Taken
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.balloon import Balloon, FindDomain

Tell = t.Callable[..., None]
_KIB = 1024


def give_back_left(
    state_dir: str,
    uuid: str,
    find: FindDomain,
    interrupted: threading.Event,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> tuple[Taken, str] | None:
    """Give a guest back what a run that died has taken of it.

    Args:
        state_dir: where this host keeps its records.
        uuid: the guest's.
        find: the guest, on a writable connection that lives.
        interrupted: when set, nobody waits for a guest that takes long.

    Returns: what was taken, and what came of it: one of C(Balloon.give_back), or C(busy) when a living run is at its
        memory, and will give it back. None where nothing was taken.

    Raises: OSError when the record cannot be held, or not be dropped.
    """
    taken = taken_memory.read(state_dir, uuid)
    if taken is None:
        return None
    with taken_memory.locked(state_dir, uuid) as alone:
        if not alone:
            return taken, "busy"
        # Another run may have given it back just now.
        taken = taken_memory.read(state_dir, uuid)
        if taken is None:
            return None
        return taken, Balloon(find, state_dir, interrupted, clock, sleep).give_back(taken)


def give_back_all(
    state_dir: str,
    domain_by_uuid: t.Callable[[str], t.Any],
    told: Tell,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> None:
    """Give back what runs that died have taken. What a living run has taken, that run gives back.

    Args:
        state_dir: where this host keeps its records.
        domain_by_uuid: a guest of this host, on a writable connection.
        told: called with event, phase, message, and what else is known.
    """
    for uuid in taken_memory.guests(state_dir):
        find = functools.partial(domain_by_uuid, uuid)
        left = give_back_left(state_dir, uuid, find, threading.Event(), clock, sleep)
        if left is None or left[1] == "busy":
            continue
        taken, outcome = left
        event = "memory.not_returned" if outcome == "not_returned" else "memory.returned"
        told(event, "setup", return_in_words(taken, outcome), uuid=uuid, outcome=outcome)


def return_in_words(taken: Taken, outcome: str) -> str:
    """What came of giving back what a run that died had taken, in words."""
    name, size = taken["name"], human_bytes(taken["before_kib"] * _KIB)
    if outcome == "returned":
        return f"{name} has all its {size} back; a run that died had taken some of it"
    if outcome == "restarted":
        return (
            f"{name} runs in another QEMU than the one that a run that died had taken memory of, so its size is left as"
            f" it is (it was {size}); if it is too small: {_setmem(taken)}"
        )
    if outcome == "resized":
        return (
            f"{name} was resized by somebody since a run that died had taken memory of it, so its size is left as it is"
            f" (it was {size}); if it is not as you want it: {_setmem(taken)}"
        )
    if outcome == "gone":
        return f"{name} is off or not here, and a run that died had taken memory of it; on its host: {_setmem(taken)}"
    return f"{name} has not got all its {size} back; a run that died had taken some of it: {by_hand(taken)}"


def by_hand(taken: Taken) -> str:
    """How an operator gives a guest its memory back."""
    return f"{_setmem(taken)}; the next run tries it again first"


def _setmem(taken: Taken) -> str:
    return f"virsh setmem {taken['uuid']} {taken['before_kib']} --live"
