# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""A cluster in numbers: what does not change while guests move, and where the guests are at one moment.

Hosts and units are numbered from 0. A unit moves as one: it is a guest, or the guests of a keep-together group on one
host. ``State`` checks all rules of a move except N+1. Each check takes constant time, because a plan of thousands of
moves over a thousand hosts makes it for each move and each state.
"""

from __future__ import annotations

import sys
import typing as t

#: What a host without a limit on promised vCPUs can take.
NO_LIMIT = sys.maxsize
#: Where a unit is while a search holds it in its hands.
NOWHERE = -1


class HostFacts(t.NamedTuple):
    """One host.

    Attributes:
        name: as in the inventory.
        capacity_bytes: ordinary memory that guests (with QEMU's overhead) may take up in all, the reserve taken off.
        memory_bytes: all memory, for scores.
        cpus: physical CPUs, for scores.
        vcpu_limit: virtual CPUs that may be promised in all, or NO_LIMIT.
        is_open: may be a destination.
        kind: hosts of one kind can run the same guests (an index of ``Compatibility``).
        level: rank of the hypervisor's version; a guest never goes to a lower one, unless that is permitted.
        pages: huge pages that guests may take up in all, by size.
        pressure: share of time in which something waits for a CPU (PSI, 0 to 1); 0 where nobody measured.
        base_bytes, base_vcpus: what is in use without being a guest's, for scores.
    """

    name: str
    capacity_bytes: int
    memory_bytes: int
    cpus: float
    vcpu_limit: int = NO_LIMIT
    is_open: bool = True
    host_class: int = 0
    level: int = 0
    pages: t.Mapping[int, int] = {}
    pressure: float = 0.0
    base_bytes: int = 0
    base_vcpus: int = 0


class UnitFacts(t.NamedTuple):
    """What moves as one.

    Attributes:
        guests: identities (UUIDs) of its guests, in the order in which they move.
        host: number of the host it starts on.
        need_bytes: ordinary memory it takes up, with QEMU's overhead.
        move_bytes: what moving it costs on the wire.
        move_s: seconds that moving it takes, alone on its link; 0 for all units of a cluster, or for none.
        vcpus: virtual CPUs promised to it.
        cpu: CPUs it really uses, or what stands for that where nobody measured.
        traits: units of one kind can run on the same hosts (an index of ``Compatibility``).
        apart: numbers of the groups whose members never share a host.
        pages: huge pages it takes up, by size.
        together: number of the keep-together group it is a part of, or None; other parts may be on other hosts.
        is_pinned: never moves.
        is_risky: its move may fail, or keep it down for too long (forecast ``marginal`` or ``never``).
        goes_last: the cluster depends on it: it serves storage, or runs the controller.
    """

    guests: tuple[str, ...]
    host: int
    need_bytes: int
    move_bytes: int
    move_s: float = 0.0
    vcpus: int = 0
    cpu: float = 0.0
    guest_class: int = 0
    apart: tuple[int, ...] = ()
    pages: tuple[tuple[int, int], ...] = ()
    together: int | None = None
    is_pinned: bool = False
    is_risky: bool = False
    goes_last: bool = False

    @property
    def cost(self) -> float:
        """What moving it costs: predicted seconds, or MiB in a cluster where nobody predicted any."""
        return self.move_s or self.move_bytes / 1048576


#: (kind of guest, kind of host it is on) -> for each kind of host, whether it may go there
Rows = t.Callable[[int, int], t.Sequence[bool]]


def all_alike(dummy_guest_class: int, dummy_host_class: int) -> t.Sequence[bool]:
    """Rows of a cluster in which every host can run every guest."""
    return (True,)


class Compatibility:
    """Which guests can run on which hosts, as far as moves do not change it: by class, with exceptions."""

    def __init__(
        self,
        rows: Rows = all_alike,
        *,
        barred_guests: t.Iterable[tuple[int, int]] = (),
        barred_paths: t.Iterable[tuple[int, int]] = (),
        may_downgrade: bool = False,
    ) -> None:
        """
        Args:
            rows: compatibility by kind, asked once for each pair.
            barred_guests: (unit, host) that do not go together.
            barred_paths: (source, destination) over which nothing can move.
            may_downgrade: guests may go to an older hypervisor.
        """
        self._rows = rows
        self._known: dict[tuple[int, int], t.Sequence[bool]] = {}
        self.barred_guests = frozenset(barred_guests)
        self.barred_paths = frozenset(barred_paths)
        self.may_downgrade = may_downgrade

    def row(self, guest_class: int, host_class: int) -> t.Sequence[bool]:
        """Return for each class of hosts whether a guest of this class may go there from a host of that class."""
        found = self._known.get((guest_class, host_class))
        if found is None:
            found = self._known[guest_class, host_class] = self._rows(guest_class, host_class)
        return found


class Cluster(t.NamedTuple):
    """What does not change while guests move."""

    hosts: t.Sequence[HostFacts]
    units: t.Sequence[UnitFacts]
    compatibility: Compatibility
    names: t.Mapping[str, str] = {}

    def name_of(self, unit: int) -> str:
        """Return the names of the unit's guests, for a sentence."""
        return " and ".join(self.names.get(guest, guest) for guest in self.units[unit].guests)


class State:
    """Where each unit is, and what is free. Lists are indexed by host (``free``, ``on``) or by unit."""

    def __init__(self, cluster: Cluster, where: t.Sequence[int] | None = None) -> None:
        self.cluster = cluster
        units, hosts = cluster.units, cluster.hosts
        self.need = [unit.need_bytes for unit in units]
        self.vcpus = [unit.vcpus for unit in units]
        self.where = [unit.host for unit in units] if where is None else list(where)
        self.free = [host.capacity_bytes for host in hosts]
        self.free_vcpus = [host.vcpu_limit for host in hosts]
        self.is_open = [host.is_open for host in hosts]
        self.level = [host.level for host in hosts]
        self.host_class = [host.host_class for host in hosts]
        self.on: list[set[int]] = [set() for dummy in hosts]
        self.free_pages = {(h, size): count for h, host in enumerate(hosts) for size, count in host.pages.items()}
        self._apart: dict[tuple[int, int], int] = {}
        for unit, host in enumerate(self.where):
            if host != NOWHERE:
                self.drop(unit, host)

    def copy(self) -> State:
        """Return an independent copy of this state."""
        made = State(self.cluster, self.where)
        made.is_open, made.level = list(self.is_open), list(self.level)
        return made

    def move(self, unit: int, host: int) -> None:
        """Put a unit on another host, without checks."""
        self.lift(unit)
        self.drop(unit, host)

    def lift(self, unit: int) -> None:
        """Take a unit off its host. It is NOWHERE until it is dropped."""
        host, facts = self.where[unit], self.cluster.units[unit]
        self.on[host].discard(unit)
        self.free[host] += self.need[unit]
        self.free_vcpus[host] += self.vcpus[unit]
        for group in facts.apart:
            self._apart[host, group] -= 1
        for size, count in facts.pages:
            self.free_pages[host, size] = self.free_pages.get((host, size), 0) + count
        self.where[unit] = NOWHERE

    def drop(self, unit: int, host: int) -> None:
        """Put a lifted unit on a host."""
        facts = self.cluster.units[unit]
        self.where[unit] = host
        self.on[host].add(unit)
        self.free[host] -= self.need[unit]
        self.free_vcpus[host] -= self.vcpus[unit]
        for group in facts.apart:
            self._apart[host, group] = self._apart.get((host, group), 0) + 1
        for size, count in facts.pages:
            self.free_pages[host, size] = self.free_pages.get((host, size), 0) - count

    def arrive(self, unit: int, host: int) -> None:
        """Put a unit on another host while it also keeps its memory on the first, as during a migration; for a
        trial.
        """
        self.on[self.where[unit]].discard(unit)
        self.drop(unit, host)

    def may_go(self, unit: int, host: int, source: int | None = None) -> bool:
        """Return whether it may go there, as far as classes, paths, versions and cordons decide."""
        source = self.where[unit] if source is None else source
        facts, compatibility = self.cluster.units[unit], self.cluster.compatibility
        return (
            self.is_open[host]
            and host != source
            and compatibility.row(facts.guest_class, self.host_class[source])[self.host_class[host]]
            and (compatibility.may_downgrade or self.level[host] >= self.level[source])
            and (unit, host) not in compatibility.barred_guests
            and (source, host) not in compatibility.barred_paths
        )

    def has_room(self, unit: int, host: int) -> bool:
        """Return whether memory, virtual CPUs and huge pages suffice for it now."""
        if self.free[host] < self.need[unit] or self.free_vcpus[host] < self.vcpus[unit]:
            return False
        pages = self.cluster.units[unit].pages
        return not pages or all(self.free_pages.get((host, size), 0) >= count for size, count in pages)

    def is_apart(self, unit: int, host: int) -> bool:
        """Return whether no other guest of its keep-apart groups is on the host."""
        groups = self.cluster.units[unit].apart
        return not groups or not any(self._apart.get((host, group), 0) for group in groups)

    def can_take(self, unit: int, host: int) -> bool:
        """Return whether the unit may move to this host now. All rules but N+1 and pinned guests are checked."""
        return self.has_room(unit, host) and self.is_apart(unit, host) and self.may_go(unit, host)
