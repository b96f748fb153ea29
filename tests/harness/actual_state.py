# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where guests are and how they are: asked of every libvirtd and of the guests, never of the collection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lab import agent_protocol, in_parallel

if TYPE_CHECKING:
    from lab import Host, Lab

ANSWER_S = 5.0
LIST = 'virsh -q list --all --name | while IFS= read -r name; do [ -z "$name" ] || {%s}; done'
STATES = LIST % ' printf "%s\\t%s\\n" "$(virsh -q domstate -- "$name")" "$name"; '


def domains(host: Host) -> dict[str, str]:
    """Return the domains that a host's libvirtd knows, with the state of each."""
    lines = host.ssh(STATES, check=True).stdout.splitlines()
    pairs = (line.split("\t", 1) for line in lines if line.strip())
    return {name: state.strip() for state, name in pairs}


def everywhere(lab: Lab, hosts: Iterable[str] | None = None) -> dict[str, dict[str, str]]:
    """Return for each guest the hosts whose libvirtd knows it, with its state there."""
    names = list(hosts or lab.hosts)
    found: dict[str, dict[str, str]] = {}
    for host, known in zip(names, in_parallel(lambda name: domains(lab.host(name)), names), strict=True):
        for guest, state in known.items():
            found.setdefault(guest, {})[host] = state
    return found


def active_on(lab: Lab, host: str) -> list[str]:
    """Return the guests that a host's own libvirtd shows as anything but shut off."""
    return sorted(name for name, state in domains(lab.host(host)).items() if state != "shut off")


def running_processes(lab: Lab, host: str) -> int:
    """Return how many QEMUs run on a host, also when its libvirtd cannot be asked."""
    return int(lab.host(host).ssh("pgrep --count --full '^/usr/bin/qemu-system'").stdout)


def places(lab: Lab, names: Iterable[str] | None = None) -> dict[str, str]:
    """Return where each guest of the lab runs; a guest that is on two hosts, or on none, is told as such."""
    known = everywhere(lab)
    return {name: "+".join(sorted(known.get(name, {}))) or "nowhere" for name in names or lab.guests}


def boot_ids(lab: Lab, names: Iterable[str] | None = None) -> dict[str, str]:
    """Ask each guest which boot this is; a guest that was started again has another one."""
    wanted = list(names or lab.guests)
    replies = in_parallel(lambda name: agent_protocol.wait_ready(lab.guest(name).address, ANSWER_S), wanted)
    return {
        name: f"{reply.boot_id:016x}" if reply else "no answer" for name, reply in zip(wanted, replies, strict=True)
    }


def verified(lab: Lab, names: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """Make guests check all their memory, all at once."""
    wanted = list(names or lab.guests)
    return dict(zip(wanted, in_parallel(lab.verify, wanted), strict=True))


def wait_until(what: str, holds: Callable[[], bool], patience: float = 300.0, period: float = 0.25) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + patience
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {patience:g} s")
        time.sleep(period)


def summary(where: Mapping[str, str]) -> str:
    """Return places for people to read.

    >>> summary({"g1": "h2", "g2": "h3", "g3": "h2"})
    'h2: g1, g3; h3: g2'
    """
    by_host: dict[str, list[str]] = {}
    for guest, host in where.items():
        by_host.setdefault(host, []).append(guest)
    return "; ".join(f"{host}: {', '.join(guests)}" for host, guests in sorted(by_host.items()))
