# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The least that a drain can take: everything that was ever touched crosses the link once."""

from __future__ import annotations

from collections.abc import Iterable

from lab import Lab, in_parallel

#: Of a link's bits, those that carry payload: 23.9 of 25 MB/s at 200 Mbit/s.
PAYLOAD = 0.956
#: Seconds before the first byte and after the guest already runs (a quiet machine: 0.25 and 0.21).
SET_UP_S = 0.46
#: What a guest's kernel and program touch beside what the scenario says, where the balloon says nothing.
KERNEL_BYTES = 68 * 1024 * 1024


def rate(mbit: float) -> float:
    """Payload of a link, in bytes per second."""
    return mbit * 1e6 / 8 * PAYLOAD


def lower_bound_s(touched_bytes: Iterable[int], mbit: float) -> float:
    """Touched bytes over the link's rate, and one set-up: those of further guests may overlap with moves.

    Without a limit only the set-up is left.

    >>> round(lower_bound_s([239_000_000, 239_000_000], 200), 2)
    20.46
    """
    return SET_UP_S + (sum(touched_bytes) / rate(mbit) if mbit else 0.0)


def touched(lab: Lab, host: str, guests: Iterable[str]) -> dict[str, int]:
    """Return the bytes that each guest has ever touched, by its balloon: what it has less what it never used."""
    names = list(guests)
    return dict(zip(names, in_parallel(lambda name: _touched(lab, host, name), names), strict=True))


def _touched(lab: Lab, host: str, guest: str) -> int:
    told = dict(
        line.split() for line in lab.host(host).ssh(f"virsh -q dommemstat {guest}").stdout.splitlines() if line.strip()
    )
    if "actual" in told and "unused" in told:
        return (int(told["actual"]) - int(told["unused"])) * 1024
    return lab.guest(guest).plan.touched_mib * 1024 * 1024 + KERNEL_BYTES
