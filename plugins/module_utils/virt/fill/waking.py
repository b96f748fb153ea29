# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: brings a guest back that was paused because its disk could not be read.

from __future__ import annotations

import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

#: A guest that runs on for so long has had its requests answered.
STAYS_S = 3.0
#: The first requests after a cut fail, until QEMU has a new connection. After a long cut it waits 16 s before it tries
#: to connect again, and a try that began during the cut takes 10 s: 30 tries in 8 s were too few after ten minutes.
PATIENCE_S = 60.0
LOOK_S, PAUSE_S = 0.25, 1.0


def is_paused_by_error(domain: t.Any) -> bool:
    """Whether an error of a disk has paused the guest."""
    state, reason = domain.state()
    lib = virt.libvirt
    return bool(state == lib.VIR_DOMAIN_PAUSED and reason == lib.VIR_DOMAIN_PAUSED_IOERROR)


def wake(domain: t.Any, sleep: t.Callable[[float], None] = time.sleep) -> int:
    """Resume a guest that an error of a disk has paused, until it runs on; returns how often it was resumed.

    A guest that its operator paused stays paused.

    Raises: CapsuleError when it is paused again and again.
    """
    resumed, spent_s = 0, 0.0
    while is_paused_by_error(domain):
        if spent_s >= PATIENCE_S:
            raise _stays_paused(domain, resumed)
        if resumed:
            sleep(PAUSE_S)
        domain.resume()
        resumed += 1
        spent_s += PAUSE_S
        waited = 0.0
        while waited < STAYS_S and not is_paused_by_error(domain):
            sleep(LOOK_S)
            waited += LOOK_S
        spent_s += waited
    return resumed


def _stays_paused(domain: t.Any, resumed: int) -> CapsuleError:
    errors, name = {1: "an error", 2: "no space left"}, domain.name()
    said = ", ".join(f"{disk}: {errors.get(code, code)}" for disk, code in sorted(domain.diskErrors().items()))
    return CapsuleError(
        "guest_stays_paused",
        f"{name} was resumed {resumed} times, and errors of its disk paused it each time ({said or 'none now'})",
        f"see /var/log/libvirt/qemu/{name}.log and the room on its disk's file system, then run capsule_fill again",
    )
