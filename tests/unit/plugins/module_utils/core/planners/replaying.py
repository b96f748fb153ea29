# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Play a plan's steps on the documents it was made from, and hold every state in between to every rule.

It shares no code with the planner but memory_demand.py and compatibility.py: no kinds, no units, no numbers.
"""

from __future__ import annotations

import random
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import group_of, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import (
    compatibility,
    evacuability,
    memory_demand,
)


class Replay:
    """The cluster while steps are carried out."""

    def __init__(
        self,
        snapshots: dict[str, t.Any],
        *,
        reserve_bytes: int = 0,
        vcpu_ratio: float | None = None,
        closed: t.Collection[str] = (),
        qemu: dict[str, str] | None = None,
    ) -> None:
        self.snapshots = snapshots
        self.reserve_bytes, self.vcpu_ratio, self.closed = reserve_bytes, vcpu_ratio, set(closed)
        self.guests = {d["uuid"]: d for s in snapshots.values() for d in s["domains"] if not is_off(d)}
        self.where = {d["uuid"]: host for host, s in snapshots.items() for d in s["domains"] if not is_off(d)}
        self.free = {host: memory_demand.free_memory(s).memory_bytes for host, s in snapshots.items()}
        self.pages = {host: dict(memory_demand.free_memory(s).huge_pages) for host, s in snapshots.items()}
        self.qemu = qemu or {host: s["versions"]["qemu"] for host, s in snapshots.items()}

    def on(self, host: str) -> list[t.Any]:
        """The guests of a host."""
        return [self.guests[uuid] for uuid, place in self.where.items() if place == host]

    def step(self, step: t.Any) -> None:
        """Move one guest, looking at every rule before and after."""
        guest, source, destination = self.guests[step["guest"]["uuid"]], step["source"], step["destination"]
        assert self.where[guest["uuid"]] == source, f"{guest['name']} is not on {source}"
        assert source != destination
        assert destination not in self.closed
        here, there = self.snapshots[source], {**self.snapshots[destination], "domains": []}
        assert evacuability.refusals(guest, here, step["intent"]) == []
        assert compatibility.destination_refusals(guest, here, there, step["intent"]) == []
        assert _release(self.qemu[destination]) >= _release(self.qemu[source])
        self._arrive(guest, destination)
        self._leave(guest, source)
        self.where[guest["uuid"]] = destination

    def _arrive(self, guest: t.Any, host: str) -> None:
        assert self.free[host] is not None
        self.free[host] -= memory_demand.need_bytes(guest)
        assert self.free[host] >= self.reserve_bytes, f"{host} is overfull when {guest['name']} comes"
        for size, count in memory_demand.need_pages(guest).items():
            self.pages[host][size] = self.pages[host].get(size, 0) - count
            assert self.pages[host][size] >= 0
        fellows = self.on(host)
        if self.vcpu_ratio:
            promised = sum(one["vcpus"] for one in [*fellows, guest])
            assert promised <= self.snapshots[host]["capacity"]["cpus"] * self.vcpu_ratio
        group = group_of(guest, "apart")
        assert group is None or all(group_of(one, "apart") != group for one in fellows)

    def _leave(self, guest: t.Any, host: str) -> None:
        self.free[host] += memory_demand.need_bytes(guest)
        for size, count in memory_demand.need_pages(guest).items():
            self.pages[host][size] += count


def _release(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2]]


def play(replay: Replay, steps: t.Sequence[t.Any], rng: random.Random | None = None) -> Replay:
    """All steps: in their order, or at random in any order that keeps to ``after``."""
    done: set[str] = set()
    rest = list(steps)
    while rest:
        able = [step for step in rest if set(step["after"]) <= done]
        assert able, "steps wait for each other"
        step = rng.choice(able) if rng else able[0]
        assert rng or step is rest[0], "a step waits for a later one"
        replay.step(step)
        rest.remove(step)
        done.add(step["id"])
    return replay


def check_companions(snapshots: dict[str, t.Any], replay: Replay) -> None:
    """Companions that shared a host before share one afterwards."""
    for snapshot in snapshots.values():
        groups: dict[str, set[str]] = {}
        for guest in snapshot["domains"]:
            group = group_of(guest, "together")
            if group and not is_off(guest):
                groups.setdefault(group, set()).add(replay.where[guest["uuid"]])
        assert all(len(places) == 1 for places in groups.values()), groups
