# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Guests that ran on a host when it was closed, and that run nowhere now: their QEMU, or a host, has died meanwhile."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import SHUT_DOWN, quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed


def missing_guests(
    runs: t.Sequence[t.Mapping[str, t.Any]],
    host: str,
    snapshots: t.Mapping[str, Snapshot],
    silent: t.Sequence[str] = (),
    dismissed: t.Collection[str] = (),
) -> list[Refusal]:
    """Return one refusal for each guest that runs nowhere although it ran on the host.

    A guest that somebody has shut down is not among them, as long as libvirt knows why it is off. It forgets that
    when it is restarted.

    Args:
        runs: of the host since it was closed, as C(run_info) returns them. All guests of their steps ran then.
        host: its name.
        snapshots: every host that gives an answer now.
        silent: hosts that give none; a guest may run there.
        dismissed: names and UUIDs of guests that nobody misses.
    """
    ran = {
        step["guest"]["uuid"]: step["guest"]["name"]
        for run in runs
        for step in run.get("steps") or ()
        if step["source"] == host
    }
    found = []
    for uuid, name in ran.items():
        places = [
            (where, domain)
            for where, snapshot in snapshots.items()
            for domain in snapshot.get("domains") or []
            if domain["uuid"] == uuid
        ]
        active = any(not is_off(domain) for _where, domain in places)
        shut_down = any(domain.get("state_reason") in SHUT_DOWN for _where, domain in places)
        if active or shut_down or {uuid, name} & set(dismissed):
            continue
        found.append(_missing(name, host, [where for where, _domain in places], silent))
    return found


def _missing(name: str, host: str, places: t.Sequence[str], silent: t.Sequence[str]) -> Refusal:
    give = "gives" if len(silent) == 1 else "give"
    unless = f", unless it runs on {listed(sorted(silent))}, which {give} no answer" if silent else ""
    where = f"it is off on {listed(sorted(places))}" if places else "no host has a definition of it"
    start = f"start it: virsh start {quoted(name)} on {sorted(places)[0]}" if places else "define it anew and start it"
    if silent:
        start = f"first see that it does not run on {listed(sorted(silent))}; only then {start}"
    return refusal(
        "guest_missing",
        f"{name} ran on {host} when that was closed, and runs nowhere now{unless}: {where}",
        f"{start} (/var/log/libvirt/qemu/{name}.log on the host where it ran last says how it ended); or dismiss it",
    )
