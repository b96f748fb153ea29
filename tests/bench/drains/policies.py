# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How others move guests: their published constants as rules that one driver follows (policy_driver.py).

Encryption is off for all of them, and the link is theirs alone. What a policy does over hours (retries on other hosts,
a queue for the whole cluster) plays no part in one drain from one host to one other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

GIB = 1024**3
#: What every one of them asks for: live, driven by the source's libvirtd, the definition moves along.
COMMON = ("LIVE", "PEER2PEER", "PERSIST_DEST", "UNDEFINE_SOURCE")
#: virsh's --timeout is the operator's; ten seconds let a first pass of 200 MiB end on a link of 200 Mbit/s.
POSTCOPY_TIMEOUT_S = 10.0

Ladder = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Policy:
    """How one of them moves guests.

    Attributes:
        source: where the constants are from.
        at_once: how many leave a host at a time.
        flags: libvirt's VIR_MIGRATE_… beside the common ones.
        downtime_ms: limit at the start; None leaves QEMU's, 300.
        look_s: how often it looks at a migration.
        ladders: from the guest's memory in bytes, rules to be followed one after the other (policy_driver.due).
    """

    source: str
    at_once: int = 1
    flags: Sequence[str] = ()
    downtime_ms: int | None = None
    look_s: float = 0.5
    ladders: Callable[[int], Sequence[Ladder]] = field(default=lambda memory: ())


def _rule(when: str, above: float, do: str, value: int | None = None) -> dict[str, Any]:
    return {"when": when, "above": above, "do": do, "value": value}


def _by_iteration(steps: Sequence[tuple[int, int]], *last: str) -> list[dict[str, Any]]:
    """Raise the limit after so many iterations; what is last is done at the next looks, whatever the iteration."""
    return [_rule("iteration", above, "downtime", limit) for above, limit in steps] + [
        _rule("iteration", -1, action) for action in last
    ]


#: Iterations above which the downtime limit becomes so many milliseconds.
OVIRT_STEPS = ((1, 150), (2, 200), (3, 300), (4, 400), (6, 500))


def nova_steps(
    memory_bytes: int, *, downtime_ms: int = 500, steps: int = 10, delay_s: int = 75
) -> list[dict[str, Any]]:
    """Nova's ladder (nova/virt/libvirt/migration.py, downtime_steps): linear, by time and size, for at least 2 GiB.

    >>> [(rule["above"], rule["value"]) for rule in nova_steps(2 * GIB)][:3]
    [(0, 50), (150, 95), (300, 140)]
    """
    size_gib = max(2, -(-memory_bytes // GIB))
    base = downtime_ms // steps
    offset = (downtime_ms - base) / steps
    return [
        _rule("elapsed_s", delay_s * size_gib * step, "downtime", int(base + offset * step))
        for step in range(steps + 1)
    ]


def _nova(memory_bytes: int) -> Sequence[Ladder]:
    # live_migration_completion_timeout is 800 s a GiB; the action by default is to abort.
    size_gib = max(2, -(-memory_bytes // GIB))
    return (nova_steps(memory_bytes), [_rule("elapsed_s", 800 * size_gib, "abort")])


def _kubevirt(memory_bytes: int) -> Sequence[Ladder]:
    size_gib = max(1, -(-memory_bytes // GIB))
    return ([_rule("elapsed_s", 150 * size_gib, "abort")], [_rule("stalled_s", 150, "abort")])


POLICIES: Mapping[str, Policy] = {
    "virsh": Policy("virsh migrate --live --p2p --persistent --undefinesource, one guest after the other"),
    "auto-converge": Policy(
        "the same with --auto-converge (QEMU's defaults: 20 %, then 10 % more a time)", flags=("AUTO_CONVERGE",)
    ),
    "postcopy": Policy(
        f"the same with --postcopy --timeout {POSTCOPY_TIMEOUT_S:g} --timeout-postcopy",
        flags=("POSTCOPY",),
        ladders=lambda memory: ([_rule("elapsed_s", POSTCOPY_TIMEOUT_S, "post-copy")],),
    ),
    "ovirt-minimal-downtime": Policy(
        "ovirt-engine 0000_config.sql, MigrationPolicies, 'Minimal downtime'; vdsm's migration.py looks every 10 s",
        at_once=2,
        flags=("AUTO_CONVERGE",),
        downtime_ms=100,
        look_s=10.0,
        ladders=lambda memory: (_by_iteration(OVIRT_STEPS, "abort"),),
    ),
    "ovirt-post-copy": Policy(
        "ovirt-engine 0000_config.sql, MigrationPolicies, 'Post-copy migration'; vdsm looks every 10 s",
        at_once=2,
        flags=("POSTCOPY",),
        downtime_ms=100,
        look_s=10.0,
        ladders=lambda memory: (_by_iteration(OVIRT_STEPS[:2], "post-copy", "abort"),),
    ),
    "nova": Policy(
        "nova/virt/libvirt/migration.py and nova/conf/libvirt.py: 500 ms in 10 steps, 75 s a GiB apart, abort after "
        "800 s a GiB, max_concurrent_live_migrations 1, neither auto-converge nor post-copy unless permitted",
        downtime_ms=50,
        ladders=_nova,
    ),
    "kubevirt": Policy(
        "pkg/virt-config/virt-config.go: two leave a node at a time, abort after 150 s a GiB or 150 s without "
        "progress, neither auto-converge nor post-copy unless a policy permits it",
        at_once=2,
        look_s=0.4,
        ladders=_kubevirt,
    ),
}

#: No policy of anybody's: what an idle guest is down for when QEMU is given the lowest limit that it can satisfy.
FLOOR = "floor"
LEAST = Policy("virsh migrate with the lowest limit that QEMU can satisfy, 30 ms", downtime_ms=30)
