# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: gets the rest of a guest's disks here. Whatever died before, it begins with what is there.
# Of a guest that was started from a capsule, each image is fetched, checked and put below it. Any other disk is pulled.

from __future__ import annotations

import dataclasses
import datetime
import functools
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import (
    LazyDisk,
    lazy_disks,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import (
    human_seconds,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import run_records
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.bringing import (
    Bringing,
    Means,
    Tell,
    tidy,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_fill.disk_progress import (
    LINE_S,
    DiskProgress,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import chain_proof, waking
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill.tickets import Tickets

#: How often the pull is looked at.
LOOK_S = 1.0
#: A pull that stands still for so long is a reason to ask the source.
STILL_S = 10.0
#: A pull that ends without an end so often, without getting on, has another reason than the link.
TRIES = 5


class StoppedError(Exception):
    """The operator wants it to stop."""


@dataclasses.dataclass
class FillOptions:
    """What the operator wants.

    Attributes:
        rate_bytes_per_s: of all that is pulled; None: no limit.
        wait_s: how long a source that does not answer is waited for.
    """

    rate_bytes_per_s: float | None
    wait_s: float


@dataclasses.dataclass
class Filled:
    """What was done.

    Attributes:
        disks: C(target), C(path), C(pulled_bytes) and C(checked) of each.
        resumed: how often the guest was resumed.
        restarted: what was started again of the export.
        worst_read_ms: the longest mean wait of the guest's reads within a second.
        faults: what is left to do.
    """

    disks: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    resumed: int = 0
    restarted: list[str] = dataclasses.field(default_factory=list)
    worst_read_ms: float = 0.0
    faults: list[dict[str, str]] = dataclasses.field(default_factory=list)


class Fill:
    """Gets the rest of a guest's disks here.

    Args:
        domain: the guest as it is now, each time anew: the daemon may be restarted meanwhile.
        store: the host's.
        host: name of this host, for messages.
        tell: writes progress lines.
        stopping: set when the operator wants it to stop.
        clock: monotonic seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        domain: t.Callable[[], t.Any],
        store: CapsuleStore,
        host: str,
        tell: Tell,
        stopping: threading.Event,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], None] = time.sleep,
    ) -> None:
        self._domain = domain
        self._store = store
        self._host = host
        self._tell = tell
        self._stopping = stopping
        self._clock = clock
        self._sleep = sleep
        self._tickets = Tickets(store)
        self._filled = Filled()

    def run(self, options: FillOptions) -> Filled:
        """Fill all disks of the guest.

        Raises:
            CapsuleError: it cannot go on; what is there stays, and the next run begins with it.
            StoppedError: the operator wanted it to stop.
            libvirtError: the guest cannot be asked.
        """
        domain = self._domain()
        uuid, name = domain.UUIDString(), domain.name()
        disks = lazy_disks(xml_text.parsed(domain.XMLDesc(0)))
        self._store.prepare()
        with self._store.guest_lock(uuid):
            entries = self._record({"name": name, "uuid": uuid}, disks, options)
            for ticket in sorted({disk.ticket for disk in disks}):
                self._reach(ticket, options)
            pulled = [disk for disk in disks if not _image_of(entries, disk)]
            if pulled and not domain.isActive():
                raise _is_off(name)
            self._wake()
            for disk in disks:
                if disk in pulled:
                    self._fill_disk(disk, options)
                else:
                    self._bring(disk, options)
            on = chain_proof.prove(self._domain(), [entry["target"] for entry in entries])
            for row in self._filled.disks:
                row["path"] = on[row["target"]]
            tidy(self._domain(), self._store, on)
            self._end(uuid)
        return self._filled

    def _record(
        self, guest: dict[str, str], disks: t.Sequence[LazyDisk], options: FillOptions
    ) -> list[dict[str, t.Any]]:
        """Put on record which disks are filled, and return it. A record of a run that died keeps what is in it."""
        before = self._store.run(f"fill-{guest['uuid']}")
        details = before["details"] if before and not before["ended"] else {}
        known = details.get("disks", [])
        listed_before = {disk["target"] for disk in known}
        entries = [*known, *(disk._asdict() for disk in disks if disk.target not in listed_before)]
        if not entries:
            return []
        at = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        details = {**details, "disks": entries, "rate_bytes_per_s": options.rate_bytes_per_s}
        needs = before["needs"] if before else []
        record = run_records.record_of("fill", guest, needs, at=at, details=details)
        self._store.write_run(f"fill-{guest['uuid']}", record)
        return entries

    def _reach(self, ticket: str, options: FillOptions) -> None:
        """Make sure of the export of a ticket, and wait for a source that does not answer.

        Raises: CapsuleError when it does not, or when a disk there has been written to.
        """
        end, told = self._clock() + options.wait_s, -LINE_S
        while True:
            self._check_stop()
            if self._tickets.ensure(ticket):
                self._filled.restarted.append(f"the forwarder to {self._tickets.read(ticket)['source']}")
            try:
                self._check_unchanged(self._tickets.look(ticket), ticket)
                return
            except CapsuleError as error:
                if error.refusal["code"] != "export_unreachable" or self._clock() >= end:
                    raise
                if self._clock() - told >= LINE_S:
                    told = self._clock()
                    left = human_seconds(max(0.0, end - self._clock()))
                    self._tell("waiting", f"{error.refusal['reason']}; it is tried for {left} more")
            self._sleep(LOOK_S)

    def _check_unchanged(self, found: list[dict[str, t.Any]], ticket: str) -> None:
        uuid, source = self._domain().UUIDString(), self._tickets.read(ticket)["source"]
        for disk in found:
            if disk["guest"]["uuid"] == uuid and disk["changed"]:
                name = disk["guest"]["name"]
                raise CapsuleError(
                    "source_changed",
                    f"{source}: {disk['changed']}. What {name} has not read yet is not what it left there",
                    f"see on {source} who did that; do not resume {name} before, and start it from its last capsule if "
                    "the image cannot be brought back",
                )

    def _wake(self) -> None:
        resumed = waking.wake(self._domain(), self._sleep)
        if resumed:
            self._filled.resumed += resumed
            self._tell("fill", "it was paused because its disk could not be read, and runs again")

    def _fill_disk(self, disk: LazyDisk, options: FillOptions) -> None:
        """Pull a disk until nothing of it is at the source."""
        pull = DiskProgress(disk, self._clock())
        while True:
            self._check_stop()
            try:
                if self._look(disk, pull, options):
                    break
            except virt.libvirt.libvirtError as error:
                # A daemon that is restarted is back soon; the pull goes on in QEMU.
                if not _is_lost(error) or self._clock() >= pull.moved_at + options.wait_s:
                    raise
            self._sleep(LOOK_S)
        self._filled.worst_read_ms = max(self._filled.worst_read_ms, pull.waits.worst_ms)
        row = {"target": disk.target, "path": disk.path, "pulled_bytes": pull.seen_bytes, "checked": False}
        self._filled.disks.append(row)

    def _bring(self, disk: LazyDisk, options: FillOptions) -> None:
        """Get the image of a disk into the store, and put the guest on it."""
        progress = DiskProgress(disk, self._clock())
        means = Means(
            self._domain,
            self._store,
            self._host,
            self._tickets,
            tell=self._tell,
            check=self._check_stop,
            reach=functools.partial(self._reach_and_wake, disk.ticket, options),
            wake=self._wake,
            clock=self._clock,
            sleep=self._sleep,
        )
        self._filled.disks.append(Bringing(means, disk, progress).run(options.rate_bytes_per_s))
        self._filled.worst_read_ms = max(self._filled.worst_read_ms, progress.waits.worst_ms)

    def _reach_and_wake(self, ticket: str, options: FillOptions) -> None:
        self._reach(ticket, options)
        self._wake()

    def _look(self, disk: LazyDisk, pull: DiskProgress, options: FillOptions) -> bool:
        """Look at the pull, and do what it needs; returns whether the disk is all here."""
        domain = self._domain()
        job = domain.blockJobInfo(disk.target, virt.libvirt.VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES)
        if not job:
            if not any(one.target == disk.target for one in lazy_disks(xml_text.parsed(domain.XMLDesc(0)))):
                return True
            self._begin(domain, disk, pull, options)
            return False
        pull.waits.look(domain, disk.target)
        now = self._clock()
        pull.sample(int(job["cur"]), int(job["end"]), now)
        wanted = int(options.rate_bytes_per_s or 0)
        if int(job["bandwidth"]) != wanted:
            flag = virt.libvirt.VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES
            domain.blockJobSetSpeed(disk.target, wanted, flag)
        if now - pull.told_at >= LINE_S:
            pull.told_at = now
            self._tell("fill", pull.line(), **pull.figures())
        if now - pull.moved_at >= STILL_S and pull.is_incomplete():
            self._reach(disk.ticket, options)
            self._wake()
            # Where the source answers again, QEMU connects by itself, after 16 s at most.
            if now - pull.moved_at >= STILL_S + options.wait_s:
                raise _stands_still(domain, disk, self._tickets.read(disk.ticket)["source"])
        return False

    def _begin(self, domain: t.Any, disk: LazyDisk, pull: DiskProgress, options: FillOptions) -> None:
        """Begin the pull of a disk. Without a source that answers, the call would hold up QEMU itself."""
        self._reach(disk.ticket, options)
        self._wake()
        pull.begun()
        if pull.tries > TRIES:
            raise CapsuleError(
                "pull_fails",
                f"the pull of disk {disk.target} of {domain.name()} ended {TRIES} times without getting on",
                f"see /var/log/libvirt/qemu/{domain.name()}.log and the room on the file system of {disk.path}, then "
                "run it again",
            )
        flag = virt.libvirt.VIR_DOMAIN_BLOCK_PULL_BANDWIDTH_BYTES
        domain.blockPull(disk.target, int(options.rate_bytes_per_s or 0), flag)

    def _end(self, uuid: str) -> None:
        """End the export at the source, and put on record that it is over."""
        name = f"fill-{uuid}"
        record = self._store.run(name)
        if record is None or record["ended"]:
            return
        for ticket in sorted({disk["ticket"] for disk in record["details"]["disks"]}):
            try:
                self._tickets.ask(ticket, f"end {uuid}")
            except CapsuleError as error:
                if error.refusal["code"] == "no_ticket":
                    continue
                source = self._tickets.read(ticket)["source"]
                reason = f"the disks are all here, but {source} could not be told ({error.refusal['reason']})"
                remedy = f"run it again once {source} answers; its export ends by itself after 90 days"
                self._filled.faults.append({"code": "export_not_ended", "reason": reason, "remedy": remedy})
                return
            if not chain_proof.is_used(self._domain().connect(), ticket):
                self._tickets.remove(ticket)
        self._store.write_run(name, {**record, "ended": True})

    def _check_stop(self) -> None:
        if self._stopping.is_set():
            raise StoppedError


def _image_of(entries: t.Sequence[dict[str, t.Any]], disk: LazyDisk) -> str | None:
    """The image of a capsule that is on a disk; None: nobody knows what it has."""
    for entry in entries:
        if entry["target"] == disk.target and entry["ticket"] == disk.ticket:
            return t.cast("str | None", entry.get("image"))
    return None


def _is_lost(error: Exception) -> bool:
    """Whether a call failed because the daemon is gone."""
    code = getattr(error, "get_error_code", lambda: None)()
    lib = virt.libvirt
    return code in (lib.VIR_ERR_INTERNAL_ERROR, lib.VIR_ERR_SYSTEM_ERROR, lib.VIR_ERR_RPC, lib.VIR_ERR_NO_CONNECT)


def _is_off(name: str) -> CapsuleError:
    return CapsuleError(
        "guest_off",
        f"{name} is off, and a part of its disks is at the source; its export is ready again",
        f"start it (virsh start {name}), then run it again",
    )


def _stands_still(domain: t.Any, disk: LazyDisk, source: str) -> CapsuleError:
    return CapsuleError(
        "pull_stands_still",
        f"{source} answers, but the pull of disk {disk.target} of {domain.name()} does not get on",
        f"see journalctl -t kvmops-fill and /var/log/libvirt/qemu/{domain.name()}.log, then run it again",
    )
