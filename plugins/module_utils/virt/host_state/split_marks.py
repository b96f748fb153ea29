# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which guests have only a half of their memory on this host, and the mark that says so.

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import RECOVER, Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.module_utils.run import split_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


def halves(domains: t.Iterable[t.Any]) -> list[str]:
    """Names of the guests that are in post-copy here, at either end of it, whether it is under way or broke off."""
    return sorted(str(domain.name()) for domain in domains if _is_half(domain))


def sync(domains: t.Iterable[t.Any], state_dir: str, others: t.Mapping[str, str | None] | None = None) -> list[str]:
    """Bring the mark of this host up to date; returns the names of the guests that it holds a half of.

    Args:
        domains: all guests that are active here.
        state_dir: where this host keeps its records.
        others: the hosts with the other halves, by the guests' UUIDs, as far as they are known.
    """
    found = {str(domain.UUIDString()): str(domain.name()) for domain in domains if _is_half(domain)}
    for uuid, name in found.items():
        split_guests.mark(state_dir, name, uuid, (others or {}).get(uuid))
    for one in split_guests.marked(state_dir):
        if one["uuid"] not in found:
            split_guests.clear(state_dir, one["uuid"])
    return sorted(found.values())


def refusal_of(host: str, names: t.Sequence[str]) -> Refusal:
    """Why a host that holds halves of guests is neither closed nor rebooted."""
    its = "its memory is" if len(names) == 1 else "their memory is"
    return refusal(
        "split_guests",
        f"{host} holds a half of {listed(list(names), 5)}: {its} split between two hosts by a post-copy, and is lost"
        " when either of them is rebooted",
        f"let that move end; if it broke off: {RECOVER} (--check says what it would do)",
    )


def _is_half(domain: t.Any) -> bool:
    lib = virt.libvirt
    halves_of = {
        lib.VIR_DOMAIN_PAUSED: (lib.VIR_DOMAIN_PAUSED_POSTCOPY, lib.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
        lib.VIR_DOMAIN_RUNNING: (lib.VIR_DOMAIN_RUNNING_POSTCOPY, lib.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
    }
    # One that has just left is no half any more.
    with contextlib.suppress(lib.libvirtError):
        state, reason = domain.state()
        return reason in halves_of.get(state, ())
    return False
