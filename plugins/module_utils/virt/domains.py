# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the guests of one host, as the snapshot's "domains".

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import blockers, guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.patience import (
    PATIENCE_S,
    STRAGGLERS,
    UnansweredError,
    each,
    within,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.states import reason_word, state_word
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.storage import Storage

#: All bulk statistics together; they come from every QEMU in turn.
BULK_PATIENCE_S = 5.0

_OPERATIONS = {
    0: "unknown",
    1: "start",
    2: "save",
    3: "restore",
    4: "migration_in",
    5: "migration_out",
    6: "snapshot",
    7: "snapshot_revert",
    8: "dump",
    9: "backup",
}
_INACTIVE = ("shutoff", "crashed")
_KIB = 1024


class Surroundings(t.NamedTuple):
    """What a guest's description needs to know of its host."""

    storage: Storage
    facts: blockers.Facts
    default_hugepage_bytes: int


def describe_all(connection: t.Any, surroundings: Surroundings, only: str | None = None) -> list[dict[str, t.Any]]:
    """Every guest of a host, active or not, by name; with C(only) just the one of that UUID, if it is there.

    A guest that ends while it is looked at is left out. One whose QEMU does not answer is described by what libvirt
    knows without it, with the blocker C(not_answering).
    """
    listing = _Listing(connection, only)
    found = []
    for domain, xml in zip(listing.domains, each(listing.domains, lambda d: d.XMLDesc(0))):
        if isinstance(xml, virt.libvirt.libvirtError) and xml.get_error_code() == virt.libvirt.VIR_ERR_NO_DOMAIN:
            continue
        if isinstance(xml, Exception) and not isinstance(xml, (UnansweredError, virt.libvirt.libvirtError)):
            raise xml
        found.append(_Guest(domain, None if isinstance(xml, Exception) else xml, listing))
    active = [guest for guest in found if guest.state not in _INACTIVE]
    for guest, answer in zip(active, each(active, _Guest.ask)):
        guest.answered(answer)
    return sorted(
        (guest.description(surroundings) for guest in found if not guest.vanished), key=lambda guest: guest["name"]
    )


class _Listing:
    """The bulk calls: the guests, what sets of them have in common, and their statistics."""

    def __init__(self, connection: t.Any, only: str | None) -> None:
        lib = virt.libvirt
        listed = connection.listAllDomains(0)
        self.domains = [domain for domain in listed if only in (None, domain.UUIDString())]
        self.persistent = _uuids(connection.listAllDomains(lib.VIR_CONNECT_LIST_DOMAINS_PERSISTENT))
        self.autostart = _uuids(connection.listAllDomains(lib.VIR_CONNECT_LIST_DOMAINS_AUTOSTART))
        self.snapshots = _uuids(connection.listAllDomains(lib.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT))
        self.statistics = _statistics(connection, self.domains if only else None)
        self.taken_at_s = time.time()


def _uuids(domains: t.Iterable[t.Any]) -> set[str]:
    return {domain.UUIDString() for domain in domains}


def _statistics(connection: t.Any, domains: list[t.Any] | None) -> dict[str, dict[str, t.Any]]:
    """Statistics by UUID, of all domains or of these.

    A call that meets a QEMU that hangs never returns, but holds that guest's lock, so that the next call (NOWAIT) passes
    it over.
    """
    lib = virt.libvirt
    groups = (
        lib.VIR_DOMAIN_STATS_STATE
        | lib.VIR_DOMAIN_STATS_BALLOON
        | lib.VIR_DOMAIN_STATS_VCPU
        | lib.VIR_DOMAIN_STATS_BLOCK
    )
    flags = lib.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
    if domains is not None and not domains:
        return {}

    def ask(wanted: int) -> t.Any:
        if domains is None:
            return connection.getAllDomainStats(wanted, flags)
        return connection.domainListGetStats(domains, wanted, flags)

    answer = None
    for _attempt in range(STRAGGLERS - 1):
        with contextlib.suppress(UnansweredError):
            answer = within(BULK_PATIENCE_S, lambda: ask(groups))
            break
    if answer is None:
        # The states alone need no QEMU.
        answer = within(BULK_PATIENCE_S, lambda: ask(lib.VIR_DOMAIN_STATS_STATE))
    return {domain.UUIDString(): statistics for domain, statistics in answer}


class _Guest:
    """One guest while its description is put together."""

    def __init__(self, domain: t.Any, xml: str | None, listing: _Listing) -> None:
        self._domain = domain
        self.uuid: str = domain.UUIDString()
        self._root = guest_xml.parse(xml) if xml else None
        self._listing = listing
        self._statistics = listing.statistics.get(self.uuid, {})
        self.vanished = False
        self._job: dict[str, t.Any] | None = None
        self._block_jobs: list[str] = []
        self._silent = xml is None
        state, reason = self._statistics.get("state.state"), self._statistics.get("state.reason")
        if state is None:
            with contextlib.suppress(virt.libvirt.libvirtError):
                state, reason = domain.state()[:2]
        self.state = "unknown" if state is None else state_word(state)
        self._reason = None if state is None or reason is None else reason_word(state, reason)

    def ask(self) -> tuple[dict[str, t.Any] | None, list[str]]:
        """What only a call on the guest itself can tell: its job, and the disks that a block job works on."""
        job = self._running_job()
        return job, [] if job else [target for target in self._targets() if self._domain.blockJobInfo(target)]

    def answered(self, answer: t.Any) -> None:
        """Take over what ``ask`` returned or raised."""
        lib = virt.libvirt
        if isinstance(answer, lib.libvirtError):
            code = answer.get_error_code()
            self.vanished = code == lib.VIR_ERR_NO_DOMAIN
            # It waited for the guest's lock in vain, or the guest has just ended.
            self._silent = code == lib.VIR_ERR_OPERATION_TIMEOUT
        elif isinstance(answer, UnansweredError):
            self._silent = True
        elif isinstance(answer, Exception):
            raise answer
        else:
            self._job, self._block_jobs = answer

    def _running_job(self) -> dict[str, t.Any] | None:
        lib = virt.libvirt
        try:
            statistics = self._domain.jobStats()
        except lib.libvirtError as error:
            if error.get_error_code() == lib.VIR_ERR_OPERATION_UNSUPPORTED:
                # Only the source of a migration has statistics.
                return {"operation": "migration_in", "elapsed_s": None}
            if error.get_error_code() == lib.VIR_ERR_NO_SUPPORT:
                return None
            raise
        if statistics.get("type", 0) not in (lib.VIR_DOMAIN_JOB_BOUNDED, lib.VIR_DOMAIN_JOB_UNBOUNDED):
            return None
        elapsed = statistics.get("time_elapsed")
        return {
            "operation": _OPERATIONS.get(statistics.get("operation", 0), "unknown"),
            "elapsed_s": None if elapsed is None else elapsed / 1000,
        }

    def _targets(self) -> list[str]:
        if self._root is None:
            return []
        disks = (guest_xml.disk(element) for element in self._root.findall("devices/disk"))
        return [disk["target"] for disk in disks if disk["target"] and disk["source"] and not disk["readonly"]]

    def description(self, surroundings: Surroundings) -> dict[str, t.Any]:
        """The guest as the contract has it."""
        root = self._root
        if root is None:
            root = guest_xml.parse("<domain/>")
        described = guest_xml.described(root, default_hugepage_bytes=surroundings.default_hugepage_bytes)
        described["name"], described["uuid"] = self._domain.name(), self.uuid
        for disk in described["disks"]:
            surroundings.storage.describe(disk)
        self._add_sizes(described["disks"])
        facts = surroundings.facts._replace(
            snapshots=self._snapshots(), block_jobs=self._block_jobs, tpm_shared=self._tpm_shared(surroundings.storage)
        )
        found = blockers.blockers(root, facts) if self._root is not None else []
        if self._silent:
            found.insert(0, self._not_answering())
        head = {
            "name": described.pop("name"),
            "uuid": described.pop("uuid"),
            "state": self.state,
            "state_reason": self._reason,
            "persistent": self.uuid in self._listing.persistent,
            "autostart": self.uuid in self._listing.autostart,
        }
        maps = {"job": self._job, "blockers": [dict(blocker) for blocker in found], "balloon": self._balloon()}
        return {**head, **described, **maps}

    def _not_answering(self) -> t.Any:
        return refusal(
            "not_answering",
            f"QEMU of {self._domain.name()} does not answer libvirt within {PATIENCE_S:.0f} s",
            "look at its process on the host (is it stopped, or waiting for storage?) and at /var/log/libvirt/qemu",
        )

    def _snapshots(self) -> int:
        if self.uuid not in self._listing.snapshots:
            return 0
        try:
            return int(self._domain.snapshotNum())
        except virt.libvirt.libvirtError:
            return 1

    def _tpm_shared(self, storage: Storage) -> bool | None:
        if self._root is None or self._root.find("devices/tpm/backend[@type='emulator']") is None:
            return None
        state: dict[str, t.Any] = {"type": "file", "source": "/var/lib/libvirt/swtpm", "backing": [], "shared": None}
        storage.describe(state)
        return t.cast("bool | None", state["shared"])

    def _add_sizes(self, disks: list[dict[str, t.Any]]) -> None:
        by_name = {
            self._statistics.get(f"block.{number}.name"): number
            for number in reversed(range(self._statistics.get("block.count", 0)))
        }
        for disk in disks:
            number = by_name.get(disk["target"])
            if number is not None:
                disk["capacity_bytes"] = self._statistics.get(f"block.{number}.capacity")
                disk["allocation_bytes"] = self._statistics.get(f"block.{number}.allocation")

    def _balloon(self) -> dict[str, t.Any] | None:
        if self.state in _INACTIVE:
            return None
        updated = self._statistics.get("balloon.last-update")
        return {
            "current_bytes": self._bytes("balloon.current"),
            "unused_bytes": self._bytes("balloon.unused"),
            "rss_bytes": self._bytes("balloon.rss"),
            "age_s": max(0, int(self._listing.taken_at_s - updated)) if updated else None,
        }

    def _bytes(self, key: str) -> int | None:
        value = self._statistics.get(key)
        return None if value is None else int(value) * _KIB
