# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the guests of one host, as the snapshot's "domains".

from __future__ import annotations

import contextlib
import functools
import shlex
import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.remarks import remarks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import guest_limits, managers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.memory_xml import Pages
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import guest_xml
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import is_copied
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import (
    ANSWER_TIMEOUT_S,
    NotAskedError,
    UnansweredError,
    each,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import control_groups, disk_sizes
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.devices import HostDevices
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.domain_list import DomainList
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.state_names import reason_word, state_word
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.storage import Storage

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
#: What a definition may lead to that nobody has thought of. It must not hide the other guests of the host.
_ODD = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
_KIB = 1024


class HostFacts(t.NamedTuple):
    """What the description of a guest needs to know of its host."""

    storage: Storage
    devices: HostDevices
    facts: Facts
    pages: Pages
    root: Path
    of_pacemaker: t.Collection[str] = ()


def describe_all(connection: t.Any, host: HostFacts, *, only: str | None = None) -> list[dict[str, t.Any]]:
    """Every guest of a host, active or not, by name; or the one with the UUID ``only``.

    A guest that ends meanwhile is left out. A guest whose QEMU does not answer is described by what libvirt knows
    without QEMU, with the blocker C(not_answering).
    """
    with contextlib.ExitStack() as stack:
        listing = DomainList(connection, only, stack)
        found = [_Guest(domain, listing) for domain in listing.domains]
        _ask_each(found, _Guest.look, _Guest.seen)
        _ask_each([guest for guest in found if guest.state not in _INACTIVE], _Guest.ask, _Guest.answered)
        described = [guest.description(host) for guest in found if not guest.vanished]
    return sorted(described, key=lambda guest: guest["name"])


def _ask_each(guests: list[_Guest], call: t.Callable[[_Guest], t.Any], take: t.Callable[[_Guest, t.Any], None]) -> None:
    """Make a call on each guest that neither hangs nor is gone, and give the guest the answer."""
    asked = [guest for guest in guests if not guest.silent and not guest.vanished]
    for guest, answer in zip(asked, each(asked, call)):
        if guest.is_no_answer(answer):
            continue
        if isinstance(answer, Exception):
            raise answer
        take(guest, answer)


@functools.cache
def _reason(state: int, reason: int) -> str:
    return reason_word(state, reason)


class _Guest:
    """One guest while its description is made."""

    def __init__(self, domain: t.Any, listing: DomainList) -> None:
        self._domain = domain
        self.uuid: str = domain.UUIDString()
        self._listing = listing
        self._statistics = listing.statistics.get(self.uuid, {})
        self.silent = self.uuid in listing.silent
        self.vanished = False
        self._skipped = False
        self._root: ET.Element | None = None
        self._unreadable: str | None = None
        self._job: dict[str, t.Any] | None = None
        self._block_jobs: list[str] = []
        state, reason = self._statistics.get("state.state"), self._statistics.get("state.reason")
        if state is None:
            with contextlib.suppress(virt.libvirt.libvirtError):
                state, reason = domain.state()[:2]
        self.state = "unknown" if state is None else state_word(state)
        self._reason = None if state is None or reason is None else _reason(state, reason)

    def look(self) -> str:
        """The guest's XML."""
        return t.cast(str, self._domain.XMLDesc(0))

    def seen(self, xml: str) -> None:
        """Take what ``look`` returned. Its owner has written parts of it: a host has other guests as well."""
        try:
            self._root = guest_xml.parse(xml)
        except xml_text.XmlTextError as error:
            self._unreadable = str(error)

    def ask(self) -> tuple[dict[str, t.Any] | None, list[str]]:
        """What only a call on the guest itself can tell: its job, and the disks that a block job works on."""
        job = self._running_job()
        return job, [] if job else [target for target in self._targets() if self._domain.blockJobInfo(target)]

    def answered(self, answer: tuple[dict[str, t.Any] | None, list[str]]) -> None:
        """Take what ``ask`` returned."""
        self._job, self._block_jobs = answer

    def is_no_answer(self, answer: t.Any) -> bool:
        """Whether there is no answer, because the guest hangs, is gone, or could not be asked."""
        lib = virt.libvirt
        if isinstance(answer, UnansweredError):
            self.silent = True
        elif isinstance(answer, NotAskedError):
            self._skipped = True
        elif isinstance(answer, lib.libvirtError):
            code = answer.get_error_code()
            self.vanished = code == lib.VIR_ERR_NO_DOMAIN
            # It waited in vain for the guest's lock. Any other error: the guest has just ended.
            self.silent = code == lib.VIR_ERR_OPERATION_TIMEOUT
        else:
            return False
        return True

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

    def description(self, host: HostFacts) -> dict[str, t.Any]:
        """The guest as the contract has it; what its definition says is left out if that cannot be understood."""
        if self._root is not None:
            try:
                return self._description(self._root, host)
            except _ODD as error:
                self._unreadable, self._root = f"{type(error).__name__}: {error}"[:200], None
        return self._description(ET.Element("domain"), host)

    def _description(self, root: ET.Element, host: HostFacts) -> dict[str, t.Any]:
        described = guest_xml.describe(root, pages=host.pages)
        described["name"], described["uuid"] = self._domain.name(), self.uuid
        if described["memory_bytes"] is None:
            described["memory_bytes"] = self._bytes("balloon.maximum") or 0
        for disk in described["disks"]:
            host.storage.describe(disk)
        described["local_nvram"] = _local_nvram(root, host.storage)
        self._add_sizes(described["disks"])
        facts = host.devices.facts_of(root, host.facts)._replace(
            snapshots=self._snapshots(), block_jobs=self._block_jobs
        )
        found = blockers.blockers(root, facts) if self._root is not None else []
        head = {
            "name": described.pop("name"),
            "uuid": described.pop("uuid"),
            "state": self.state,
            "state_reason": self._reason,
            "persistent": self.uuid in self._listing.persistent,
            "autostart": self.uuid in self._listing.autostart,
        }
        tail = {
            "job": self._job,
            "blockers": [dict(blocker) for blocker in (*self._not_described(), *found)],
            "limits": self._limits(root, host),
            "managed_by": managers.manager_of(root) or self._in_pacemaker(host),
            "remarks": [dict(remark) for remark in remarks(root, facts, described["disks"])],
            "balloon": self._balloon(),
        }
        return {**head, **described, **tail}

    def _not_described(self) -> t.Iterator[t.Any]:
        name = self._domain.name()
        if self._unreadable is not None:
            yield refusal(
                "definition_unreadable",
                f"its definition cannot be read: {self._unreadable}",
                f"look at it (virsh dumpxml {shlex.quote(name)}), and correct it (virsh edit {shlex.quote(name)})",
            )
        elif self.silent:
            yield refusal(
                "not_answering",
                f"QEMU of {name} does not answer libvirt within {ANSWER_TIMEOUT_S:.0f} s",
                "look at its process on the host (is it stopped, or waiting for storage?) and at /var/log/libvirt/qemu",
            )
        elif self._skipped and self._root is None:
            yield refusal(
                "not_asked",
                f"too many guests of this host do not answer libvirt, so {name} was not asked",
                "repair the guests that do not answer first",
            )

    def _snapshots(self) -> int:
        if self.uuid not in self._listing.snapshots:
            return 0
        try:
            return int(self._domain.snapshotNum())
        except virt.libvirt.libvirtError:
            return 1

    def _in_pacemaker(self, host: HostFacts) -> str | None:
        return managers.PACEMAKER.name if self._domain.name() in host.of_pacemaker else None

    def _limits(self, root: ET.Element, host: HostFacts) -> dict[str, t.Any] | None:
        found = guest_limits.defined(root)
        if self.state not in _INACTIVE:
            found = found.tightened(control_groups.limits(host.root, self._domain.name()))
        return found._asdict() if found != guest_limits.Limits() else None

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
                disk["written_bytes"] = self._statistics.get(f"block.{number}.wr.bytes")
            disk["data_bytes"] = disk_sizes.data_bytes(disk) if is_copied(disk) else None

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


def _local_nvram(root: ET.Element, storage: Storage) -> str | None:
    """The file with the variables of the guest's firmware, if it is on local storage; each host has its own."""
    nvram = root.find("os/nvram")
    if nvram is None or nvram.get("type", "file") != "file":
        return None
    path = guest_xml.source(nvram) or (nvram.text or "").strip()
    return path if path.startswith("/") and storage.place("file", path).shared is False else None
