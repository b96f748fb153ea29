# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster of libvirt hosts in memory, which stands in for the module ``libvirt``.

It refuses what libvirt refuses, with libvirt's error numbers and texts, and has nothing that python3-libvirt 9.0.0 does
not have. A migration is a job that the test moves on step by step while the code under test waits in
``migrateToURI3``::

    h1, h2 = cluster.add_host("h1"), cluster.add_host("h2")
    guest = h1.add_guest("web1")
    thread = start(code_under_test)
    job = guest.wait_for_job()
    job.step(memory_iteration=1, memory_remaining=4 << 20)
    job.complete()                  # or fail(), lose_client(), break_link()

Events arrive in the thread that steps the job.
"""

from __future__ import annotations

import errno
import threading
import time
import typing as t
import urllib.parse
import uuid as uuid_module
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.tests.unit import libvirt_constants as c

# As in the binding, the constants are the module's own.
globals().update({name: value for name, value in vars(c).items() if name.startswith("VIR_")})

MIB = 1 << 20
#: By which guests use their CPUs, in seconds.
clock = time.monotonic
HELD = (
    "Timed out during operation: cannot acquire state change lock "
    "(held by monitor=remoteDispatchDomainMigratePerform3Params)"
)


class libvirtError(Exception):  # noqa: N801
    """As the binding's: the text is the message, the number comes from a method."""

    def __init__(
        self, message: str, code: int = c.VIR_ERR_INTERNAL_ERROR, domain: int = c.VIR_FROM_QEMU, int1: int = -1
    ) -> None:
        super().__init__(message)
        self._code = code
        self._domain = domain
        self._int1 = int1

    def get_error_code(self) -> int:
        return self._code

    def get_error_message(self) -> str:
        return str(self)

    def get_error_domain(self) -> int:
        return self._domain

    def get_int1(self) -> int:
        """Of a system error, its number."""
        return self._int1


def no_file(message: str) -> libvirtError:
    return libvirtError(f"{message}: No such file or directory", c.VIR_ERR_SYSTEM_ERROR, int1=errno.ENOENT)


def invalid(message: str) -> libvirtError:
    return libvirtError(f"Requested operation is not valid: {message}", c.VIR_ERR_OPERATION_INVALID)


# --- the module's functions ---------------------------------------------------------------------------------------


class Cluster:
    """All hosts of a test, and how URIs lead to them."""

    def __init__(self) -> None:
        self.lock = threading.Condition(threading.RLock())
        self.hosts: dict[str, Host] = {}
        #: the host on which the code under test runs: where qemu:///system leads
        self.local: Host | None = None
        #: called in the thread of migrateToURI3 with the job, for tests that need no steps
        self.on_migrate: t.Callable[[Job], None] | None = None
        #: the same for a call that resumes a post-copy
        self.on_resume: t.Callable[[Job], None] | None = None
        #: every URI that was opened, and whether read-only
        self.opened: list[tuple[str, bool]] = []
        #: (host, call) of everything that changed something
        self.writes: list[tuple[str, str]] = []

    def add_host(self, name: str, **settings: t.Any) -> Host:
        host = Host(self, name, **settings)
        self.hosts[name] = host
        self.local = self.local or host
        return host

    def resolve(self, uri: str) -> Host:
        parsed = urllib.parse.urlsplit(uri)
        wanted = parsed.hostname
        if not wanted:
            found = self.local
        else:
            found = next((h for h in self.hosts.values() if wanted.lower() in (h.name.lower(), h.address)), None)
        if found is None:
            raise libvirtError(
                f"Cannot recv data: ssh: Could not resolve hostname {wanted}: Name or service not known: "
                "Connection reset by peer",
                c.VIR_ERR_SYSTEM_ERROR,
                c.VIR_FROM_RPC,
            )
        if found.connect_error is not None:
            raise found.connect_error
        return found


CLUSTER = Cluster()


def reset() -> Cluster:
    """Forget everything: a new, empty cluster."""
    global CLUSTER  # noqa: PLW0603
    CLUSTER = Cluster()
    return CLUSTER


def open(uri: str | None = None) -> Connection:  # noqa: A001
    return _open(uri, read_only=False)


def openReadOnly(uri: str | None = None) -> Connection:  # noqa: N802
    return _open(uri, read_only=True)


def _open(uri: str | None, *, read_only: bool) -> Connection:
    uri = uri or "qemu:///system"
    CLUSTER.opened.append((uri, read_only))
    return Connection(CLUSTER.resolve(uri), uri, read_only=read_only)


def registerErrorHandler(f: t.Any, ctx: t.Any) -> None:  # noqa: N802
    pass


def virEventRegisterDefaultImpl() -> int:  # noqa: N802
    return 0


def virEventRunDefaultImpl() -> int:  # noqa: N802
    time.sleep(0.5)
    return 0


def getVersion(name: str | None = None) -> int:  # noqa: N802
    return 9000000


# --- hosts --------------------------------------------------------------------------------------------------------


def capabilities_xml(uuid: str, cells: t.Sequence[tuple[int, int]] = ((8 << 30, 4),)) -> str:
    """Capabilities of an x86_64 host; ``cells`` are (bytes, CPUs)."""
    root = ET.Element("capabilities")
    host = ET.SubElement(root, "host")
    ET.SubElement(host, "uuid").text = uuid
    cpu = ET.SubElement(host, "cpu")
    for tag, text in (("arch", "x86_64"), ("model", "Skylake-Server"), ("vendor", "Intel")):
        ET.SubElement(cpu, tag).text = text
    for name in ("avx512f", "avx2"):
        ET.SubElement(cpu, "feature", name=name)
    for kib in ("4", "2048"):
        ET.SubElement(cpu, "pages", unit="KiB", size=kib)
    migration = ET.SubElement(host, "migration_features")
    ET.SubElement(migration, "live")
    transports = ET.SubElement(migration, "uri_transports")
    for name in ("tcp", "rdma"):
        ET.SubElement(transports, "uri_transport").text = name
    topology = ET.SubElement(host, "topology")
    group = ET.SubElement(topology, "cells", num=str(len(cells)))
    for number, (size, cpus) in enumerate(cells):
        cell = ET.SubElement(group, "cell", id=str(number))
        ET.SubElement(cell, "memory", unit="KiB").text = str(size >> 10)
        ET.SubElement(cell, "pages", unit="KiB", size="4").text = str(size >> 12)
        ET.SubElement(cell, "pages", unit="KiB", size="2048").text = "0"
        ET.SubElement(cell, "cpus", num=str(cpus))
    guest = ET.SubElement(root, "guest")
    ET.SubElement(guest, "os_type").text = "hvm"
    arch = ET.SubElement(guest, "arch", name="x86_64")
    ET.SubElement(arch, "wordsize").text = "64"
    ET.SubElement(arch, "emulator").text = "/usr/bin/qemu-system-x86_64"
    for machine, canonical in (("pc-q35-7.2", None), ("pc-i440fx-7.2", None), ("q35", "pc-q35-7.2")):
        element = ET.SubElement(arch, "machine", maxCpus="288")
        element.text = machine
        if canonical:
            element.set("canonical", canonical)
    ET.SubElement(arch, "domain", type="qemu")
    ET.SubElement(arch, "domain", type="kvm")
    return ET.tostring(root, encoding="unicode")


def domain_capabilities_xml(arch: str, virttype: str, models: t.Iterable[str] = ("qemu64", "Skylake-Server")) -> str:
    root = ET.Element("domainCapabilities")
    ET.SubElement(root, "path").text = f"/usr/bin/qemu-system-{arch}"
    ET.SubElement(root, "domain").text = virttype
    ET.SubElement(root, "machine").text = "pc-q35-7.2"
    ET.SubElement(root, "arch").text = arch
    cpu = ET.SubElement(root, "cpu")
    ET.SubElement(cpu, "mode", name="host-passthrough", supported="yes")
    custom = ET.SubElement(cpu, "mode", name="custom", supported="yes")
    for model in models:
        ET.SubElement(custom, "model", usable="yes").text = model
    ET.SubElement(custom, "model", usable="no").text = "EPYC"
    return ET.tostring(root, encoding="unicode")


def domain_xml(
    name: str, uuid: str, *, memory_mib: int = 512, machine: str = "pc-q35-7.2", disk: str | None = None
) -> str:
    """A plain guest; tests that need more change the tree."""
    root = ET.Element("domain", type="qemu")
    ET.SubElement(root, "name").text = name
    ET.SubElement(root, "uuid").text = uuid
    for tag in ("memory", "currentMemory"):
        ET.SubElement(root, tag, unit="KiB").text = str(memory_mib << 10)
    ET.SubElement(root, "vcpu", placement="static").text = "1"
    os_element = ET.SubElement(root, "os")
    ET.SubElement(os_element, "type", arch="x86_64", machine=machine).text = "hvm"
    cpu = ET.SubElement(root, "cpu", mode="custom", match="exact", check="full")
    ET.SubElement(cpu, "model", fallback="forbid").text = "qemu64"
    devices = ET.SubElement(root, "devices")
    ET.SubElement(devices, "emulator").text = "/usr/bin/qemu-system-x86_64"
    if disk:
        element = ET.SubElement(devices, "disk", type="file", device="disk")
        ET.SubElement(element, "driver", name="qemu", type="qcow2", cache="none")
        ET.SubElement(element, "source", file=disk)
        ET.SubElement(element, "target", dev="vda", bus="virtio")
    return ET.tostring(root, encoding="unicode")


def checkpoint_xml(name: str, uuid: str) -> str:
    root = ET.Element("domaincheckpoint")
    ET.SubElement(root, "name").text = name
    disks = ET.SubElement(root, "disks")
    ET.SubElement(disks, "disk", name="vda", checkpoint="bitmap", bitmap=name)
    ET.SubElement(ET.SubElement(root, "domain"), "uuid").text = uuid
    return ET.tostring(root, encoding="unicode")


class Host:
    """One hypervisor: what a test sets up and looks at."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        *,
        uuid: str | None = None,
        address: str | None = None,
        libvirt: int = 11003000,
        qemu: int = 10000002,
        free_bytes: int = 6 << 30,
    ) -> None:
        self.cluster = cluster
        self.name = name
        self.uuid = uuid or str(uuid_module.uuid5(uuid_module.NAMESPACE_DNS, name))
        self.address = address or f"198.18.0.{10 + len(cluster.hosts) + 1}"
        self.libvirt_version = libvirt
        self.qemu_version = qemu
        self.free_bytes = free_bytes
        self.capabilities = capabilities_xml(self.uuid)
        self.free_pages: dict[int, int] = {4: free_bytes >> 12, 2048: 0}
        self.guests: dict[str, Guest] = {}
        self.secrets: dict[str, Secret] = {}
        self.secret_driver = True
        self.callbacks: dict[int, tuple[Connection, int, t.Callable[..., None], t.Any]] = {}
        self.connections: list[Connection] = []
        self._callback_number = 0
        #: raised by every new connection
        self.connect_error: libvirtError | None = None
        #: raised in place of an incoming migration
        self.refuse_incoming: libvirtError | None = None
        #: CPU models that a guest may not have here
        self.incompatible_cpus: dict[str, str] = {}
        #: every CPU that was asked about
        self.compared: list[str] = []
        #: checkpoints whose bitmap no disk has here
        self.lost_bitmaps: list[str] = []
        #: guests whose TPM has its state here
        self.tpm_states: set[str] = set()
        #: active storage pools and networks
        self.pools: list[str] = []
        #: what is on this host's own storage, by path
        self.files: dict[str, File] = {}
        self.storage: dict[str, Storage] = {}
        self.storage_driver = True
        self.networks: list[str] = []
        #: defined, but not active
        self.inactive_pools: list[str] = []
        self.inactive_networks: list[str] = []
        #: network filters
        self.filters: list[str] = []
        #: network interfaces; None: libvirt does not tell them
        self.interfaces: list[str] | None = None
        #: emulators beside the usual one
        self.emulators: list[str] = []

    def add_guest(self, name: str, *, xml: str | None = None, uuid: str | None = None, **settings: t.Any) -> Guest:
        guest_settings = {k: settings.pop(k) for k in list(settings) if k in Guest.SETTINGS}
        uuid = uuid or str(uuid_module.uuid5(uuid_module.NAMESPACE_URL, f"{self.name}/{name}"))
        guest = Guest(self, name, uuid, xml or domain_xml(name, uuid, **settings), **guest_settings)
        self.guests[uuid] = guest
        return guest

    def add_pool(self, name: str, path: str, **settings: t.Any) -> Storage:
        """A storage pool, which knows what is in it already."""
        self.storage[name] = Storage(self, name, path, **settings)
        self.storage[name].refresh()
        return self.storage[name]

    def add_file(self, path: str, **settings: t.Any) -> File:
        """Something on this host's storage, of which no pool knows before it is refreshed."""
        self.files[path] = File(**settings)
        return self.files[path]

    def guest(self, name: str) -> Guest | None:
        return next((g for g in self.guests.values() if g.name == name), None)

    def stop_daemon(self) -> None:
        """Every open connection is dead, and no new one is accepted."""
        self.connect_error = libvirtError(
            "Failed to connect socket to '/var/run/libvirt/libvirt-sock': Connection refused",
            c.VIR_ERR_SYSTEM_ERROR,
            c.VIR_FROM_RPC,
        )
        with self.cluster.lock:
            for connection in self.connections:
                connection.dead = True
            self.cluster.lock.notify_all()

    def start_daemon(self) -> None:
        self.connect_error = None

    def emit(self, event: int, guest: Guest, *arguments: t.Any) -> None:
        for connection, wanted, callback, opaque in list(self.callbacks.values()):
            if wanted == event and not connection.dead:
                callback(connection, Domain(connection, guest.uuid, guest.name), *arguments, opaque)

    def lifecycle(self, guest: Guest, event: int, detail: int) -> None:
        self.emit(c.VIR_DOMAIN_EVENT_ID_LIFECYCLE, guest, event, detail)

    def next_callback(self) -> int:
        self._callback_number += 1
        return self._callback_number


class File:
    """An image on a host's storage, or a logical volume."""

    def __init__(self, capacity: int = 0, allocation: int = 0, mtime_ns: int = 1_795_485_600_000_000_001) -> None:
        self.capacity = capacity
        self.allocation = allocation
        self.mtime_ns = mtime_ns
        #: what has been written to it, so that a test sees whether it was overwritten
        self.content = ""


class Storage:
    """A storage pool of a host: a directory by default."""

    def __init__(
        self,
        host: Host,
        name: str,
        path: str,
        *,
        kind: str = "dir",
        active: bool = True,
        capacity: int = 1 << 40,
        available: int = 1 << 39,
    ) -> None:
        self.host = host
        self.name = name
        self.path = path
        self.kind = kind
        self.active = active
        self.capacity = capacity
        self.available = available
        #: names of the volumes when libvirt looked last
        self.known: set[str] = set()
        #: raised when libvirt looks at it
        self.error: libvirtError | None = None
        #: raised when libvirt looks at one of its volumes
        self.volume_error: libvirtError | None = None

    def refresh(self) -> None:
        prefix = self.path.rstrip("/") + "/"
        names = {path[len(prefix) :] for path in self.host.files if path.startswith(prefix)}
        self.known = {name for name in names if "/" not in name}

    def make(self, name: str, capacity: int, allocation: int = 0) -> None:
        """As storageVolCreateXML: never over anything that is there, whether libvirt knew it or not."""
        path = f"{self.path}/{name}"
        if name in self.known:
            raise libvirtError(f"storage volume '{name}' exists already", c.VIR_ERR_STORAGE_VOL_EXIST)
        if path in self.host.files:
            raise invalid(f"volume target path '{path}' already exists")
        if allocation > self.available:
            raise libvirtError(f"cannot allocate {allocation} bytes in file '{path}': No space left on device", 38)
        self.host.files[path] = File(capacity, allocation)
        self.known.add(name)


class Guest:
    """A guest on one host. After a migration the destination has its own."""

    SETTINGS = (
        *("state", "persistent", "autostart", "snapshots", "rss_kib", "unused_kib"),
        *("block", "vanished", "stuck", "heeds", "managed_save", "checkpoints", "agent"),
    )

    def __init__(
        self,
        host: Host,
        name: str,
        uuid: str,
        xml: str,
        *,
        state: tuple[int, int] = (c.VIR_DOMAIN_RUNNING, c.VIR_DOMAIN_RUNNING_BOOTED),
        persistent: bool = True,
        autostart: bool = False,
        snapshots: int = 0,
        rss_kib: int = 180000,
        unused_kib: int = 400000,
        block: t.Sequence[dict[str, t.Any]] = (),
        vanished: bool = False,
        stuck: bool = False,
        heeds: bool = True,
        managed_save: bool = False,
        checkpoints: t.Sequence[str] = (),
        agent: bool = False,
    ) -> None:
        self.host = host
        self.name = name
        self.uuid = uuid
        self.domain_id = 1
        self.xml = xml
        self.state = state
        self.persistent = persistent
        self.autostart = autostart
        self.snapshots = snapshots
        self.rss_kib = rss_kib
        self.unused_kib = unused_kib
        #: as long as the test lasts
        self.cpus_used = 0.0
        self.block = list(block)
        #: is listed, but every call on it finds no domain
        self.vanished = vanished
        #: its monitor does not answer: bulk statistics lack what comes from it
        self.stuck = stuck
        #: shuts down when it is asked to
        self.heeds = heeds
        #: its memory was saved when it was off, and is loaded at its next start
        self.managed_save = managed_save
        #: descriptions of its checkpoints by name, in the order in which they were made
        self.checkpoints = {name: checkpoint_xml(name, uuid) for name in checkpoints}
        #: its agent answers; what it was asked
        self.agent = agent
        self.agent_calls: list[tuple[str, t.Any]] = []
        #: raised in place of the agent's answer
        self.agent_error: libvirtError | None = None
        #: by source of addresses, what libvirt's interfaceAddresses returns
        self.addresses: dict[int, dict[str, t.Any]] = {}
        #: why it does not start, if it does not
        self.start_error: libvirtError | None = None
        self.job: Job | None = None
        self.block_jobs: dict[str, dict[str, t.Any]] = {}
        self.downtime_ms = 300
        self.speed_mib_s = 8796093022207
        self.completed: dict[str, t.Any] | None = None
        self.balloon = Balloon(int(ET.fromstring(xml).findtext("memory", "0")), rss_kib)

    @property
    def active(self) -> bool:
        return self.state[0] not in (c.VIR_DOMAIN_SHUTOFF, c.VIR_DOMAIN_CRASHED)

    def wait_for_job(self, timeout_s: float = 60.0) -> Job:
        """The job of this guest, as soon as the code under test has started one."""
        with self.host.cluster.lock:
            if not self.host.cluster.lock.wait_for(lambda: self.job is not None, timeout_s):
                raise AssertionError(f"no migration of {self.name} was started within {timeout_s} s")
            return t.cast(Job, self.job)

    def statistics(self, flags: int) -> dict[str, t.Any]:
        result: dict[str, t.Any] = {"state.state": self.state[0], "state.reason": self.state[1]}
        if not self.active:
            return result
        root = ET.fromstring(self.xml)
        maximum = int(root.findtext("memory", "0"))
        result.update({"balloon.current": maximum, "balloon.maximum": maximum, "balloon.rss": self.rss_kib})
        result.update({"vcpu.current": 1, "vcpu.maximum": int(root.findtext("vcpu", "1"))})
        if not (self.stuck and flags & c.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT):
            result.update({"balloon.unused": self.unused_kib, "balloon.last-update": int(time.time()) - 1})
            result["block.count"] = len(self.block)
            for number, disk in enumerate(self.block):
                result.update({f"block.{number}.{key}": value for key, value in disk.items()})
        return result


class Balloon:
    """A guest's balloon: it moves one step, and the guest reports once, each time that somebody looks."""

    def __init__(self, size_kib: int, rss_kib: int) -> None:
        self.size_kib = self.target_kib = size_kib
        self.rss_kib = rss_kib
        self.step_kib = 100 << 10
        #: what the guest's programs need; the driver gives and takes nothing beyond these sizes
        self.need_kib = 60 << 10
        self.least_kib, self.most_kib = 0, size_kib
        #: QEMU's own part of the resident memory
        self.overhead_kib = 80 << 10
        self.swapped_kib = 0
        #: swapped at each report from here on
        self.swaps_kib = 0
        self.driver = True
        self.reported_at = int(time.time()) - 1
        #: called at each look
        self.on_look: t.Callable[[Balloon], None] | None = None

    def look(self) -> dict[str, int]:
        if self.on_look is not None:
            self.on_look(self)
        if not self.driver:
            return {"actual": self.size_kib, "last_update": 0, "rss": self.rss_kib}
        wanted = max(self.least_kib, min(self.most_kib, self.target_kib))
        self.size_kib += max(-self.step_kib, min(self.step_kib, wanted - self.size_kib))
        self.rss_kib = min(self.rss_kib, self.size_kib + self.overhead_kib)
        self.reported_at += 1
        self.swapped_kib += self.swaps_kib
        usable = max(0, self.size_kib - self.need_kib)
        return {
            "actual": self.size_kib,
            "swap_in": 0,
            "swap_out": self.swapped_kib,
            "unused": usable,
            "usable": usable,
            "last_update": self.reported_at,
            "rss": self.rss_kib,
        }


class Secret:
    def __init__(self, connection: Connection, xml: str) -> None:
        root = ET.fromstring(xml)
        self.uuid = root.findtext("uuid") or str(uuid_module.uuid4())
        self.connection = connection
        self.xml = xml

    def UUIDString(self) -> str:  # noqa: N802
        return self.uuid

    def usageID(self) -> str | None:  # noqa: N802
        return ET.fromstring(self.xml).findtext("usage/*")

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802
        return self.xml

    def undefine(self) -> int:
        self.connection.must_write("virSecretUndefine")
        self.connection.host.secrets.pop(self.uuid, None)
        return 0


# --- connections --------------------------------------------------------------------------------------------------


class Named:
    """A storage pool or a network: nobody asks for more than its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name


class Pool(Named):
    """A ``virStoragePool``."""

    def __init__(self, connection: Connection, storage: Storage) -> None:
        super().__init__(storage.name)
        self._connection = connection
        self._storage = storage

    def _active(self) -> Storage:
        self._connection.must_live()
        if self._storage.error is not None:
            raise self._storage.error
        if not self._storage.active:
            raise invalid(f"storage pool '{self._storage.name}' is not active")
        return self._storage

    def isActive(self) -> int:  # noqa: N802
        return int(self._storage.active)

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802
        root = ET.Element("pool", type=self._storage.kind)
        ET.SubElement(root, "name").text = self._storage.name
        ET.SubElement(ET.SubElement(root, "target"), "path").text = self._storage.path
        return ET.tostring(root, encoding="unicode")

    def info(self) -> list[int]:
        storage = self._active()
        return [2, storage.capacity, storage.capacity - storage.available, storage.available]

    def refresh(self, flags: int = 0) -> int:
        self._connection.must_write("virStoragePoolRefresh")
        self._active().refresh()
        return 0

    def listAllVolumes(self, flags: int = 0) -> list[Volume]:  # noqa: N802
        return [Volume(self._connection, self._active(), name) for name in sorted(self._active().known)]

    def storageVolLookupByName(self, name: str) -> Volume:  # noqa: N802
        storage = self._active()
        if name not in storage.known:
            raise libvirtError(
                f"Storage volume not found: no storage vol with matching name '{name}'", c.VIR_ERR_NO_STORAGE_VOL
            )
        return Volume(self._connection, storage, name)

    def createXML(self, xmlDesc: str, flags: int = 0) -> Volume:  # noqa: N802, N803
        self._connection.must_write("virStorageVolCreateXML")
        root, storage = ET.fromstring(xmlDesc), self._active()
        name, capacity = root.findtext("name") or "", int(root.findtext("capacity") or "0")
        thick = storage.kind == "logical"
        storage.make(name, capacity, capacity if thick else int(root.findtext("allocation") or "0"))
        return Volume(self._connection, storage, name)


class Volume(Named):
    """A ``virStorageVol``."""

    def __init__(self, connection: Connection, storage: Storage, name: str) -> None:
        super().__init__(name)
        self._connection = connection
        self._storage = storage

    @property
    def _file(self) -> File:
        found = self._storage.host.files.get(self.path())
        if found is None:
            raise no_file(f"cannot stat file '{self.path()}'")
        return found

    def path(self) -> str:
        return f"{self._storage.path}/{self.name()}"

    def info(self) -> list[int]:
        if self._storage.volume_error is not None:
            raise self._storage.volume_error
        return [0, self._file.capacity, self._file.allocation]

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802
        root, file = ET.Element("volume", type="file"), self._file
        ET.SubElement(root, "name").text = self.name()
        ET.SubElement(root, "capacity", unit="bytes").text = str(file.capacity)
        ET.SubElement(root, "allocation", unit="bytes").text = str(file.allocation)
        ET.SubElement(root, "physical", unit="bytes").text = str(file.allocation)
        target = ET.SubElement(root, "target")
        ET.SubElement(target, "path").text = self.path()
        seconds, left = divmod(file.mtime_ns, 10**9)
        stamp = ET.SubElement(ET.SubElement(target, "timestamps"), "mtime")
        stamp.text = f"{seconds}.{left:09d}" if left else str(seconds)
        return ET.tostring(root, encoding="unicode")

    def delete(self, flags: int = 0) -> int:
        self._connection.must_write("virStorageVolDelete")
        if self.path() not in self._storage.host.files:
            raise no_file(f"cannot unlink file '{self.path()}'")
        del self._storage.host.files[self.path()]
        self._storage.known.discard(self.name())
        return 0


class Connection:
    """A ``virConnect``."""

    def __init__(self, host: Host, uri: str, *, read_only: bool) -> None:
        self.host = host
        self.uri = uri
        self.read_only = read_only
        self.dead = False
        self.closed = False
        host.connections.append(self)

    def must_not_be_read_only(self, call: str) -> None:
        """libvirt also keeps from read-only connections what starts QEMU to ask it (CVE-2019-10167 and -10168)."""
        self.must_live()
        if self.read_only:
            raise libvirtError(
                f"operation forbidden: read only access prevents {call}", c.VIR_ERR_OPERATION_DENIED, c.VIR_FROM_DOMAIN
            )

    def must_write(self, call: str) -> None:
        self.must_not_be_read_only(call)
        self.host.cluster.writes.append((self.host.name, call))

    def must_live(self) -> None:
        if self.dead:
            raise libvirtError("internal error: client socket is closed", c.VIR_ERR_INTERNAL_ERROR, c.VIR_FROM_RPC)
        if self.closed:
            raise libvirtError("invalid connection pointer in virConnectGetHostname", c.VIR_ERR_INVALID_CONN)

    def close(self) -> int:
        self.closed = True
        for number in [n for n, entry in self.host.callbacks.items() if entry[0] is self]:
            del self.host.callbacks[number]
        return 0

    def setKeepAlive(self, interval: int, count: int) -> int:  # noqa: N802
        return 0

    def isAlive(self) -> int:  # noqa: N802
        return 0 if self.dead or self.closed else 1

    def getURI(self) -> str:  # noqa: N802
        return self.uri

    def getHostname(self) -> str:  # noqa: N802
        self.must_live()
        return f"{self.host.name}.example.org"

    def getType(self) -> str:  # noqa: N802
        return "QEMU"

    def getLibVersion(self) -> int:  # noqa: N802
        self.must_live()
        return self.host.libvirt_version

    def getVersion(self) -> int:  # noqa: N802
        self.must_live()
        return self.host.qemu_version

    def getCapabilities(self) -> str:  # noqa: N802
        self.must_live()
        return self.host.capabilities

    def getDomainCapabilities(  # noqa: N802
        self,
        emulatorbin: str | None = None,
        arch: str | None = None,
        machine: str | None = None,
        virttype: str | None = None,
        flags: int = 0,
    ) -> str:
        self.must_not_be_read_only("virConnectGetDomainCapabilities")
        usual = f"/usr/bin/qemu-system-{arch or 'x86_64'}"
        if emulatorbin not in (None, usual, *self.host.emulators):
            raise libvirtError(
                f"Cannot check QEMU binary {emulatorbin}: No such file or directory", c.VIR_ERR_SYSTEM_ERROR
            )
        return domain_capabilities_xml(arch or "x86_64", virttype or "kvm")

    def getInfo(self) -> list[t.Any]:  # noqa: N802
        cells = ET.fromstring(self.host.capabilities).findall("host/topology/cells/cell")
        total = sum(int(cell.findtext("memory", "0")) for cell in cells)
        cpus = sum(int(cell.find("cpus").get("num", "0")) for cell in cells)  # type: ignore[union-attr]
        return ["x86_64", total >> 10, cpus, 2400, len(cells), 1, cpus, 1]

    def getFreeMemory(self) -> int:  # noqa: N802
        self.must_live()
        return self.host.free_bytes

    def getMemoryStats(self, cellNum: int, flags: int = 0) -> dict[str, int]:  # noqa: N802, N803
        self.must_live()
        return {"total": self.getInfo()[1] << 10, "free": self.host.free_bytes >> 10, "buffers": 0, "cached": 0}

    def getCellsFreeMemory(self, startCell: int, maxCells: int) -> list[int]:  # noqa: N802, N803
        count = len(ET.fromstring(self.host.capabilities).findall("host/topology/cells/cell"))
        return [self.host.free_bytes // count] * min(count, maxCells)

    def getFreePages(  # noqa: N802
        self,
        pages: list[int],
        startCell: int,  # noqa: N803
        maxCells: int,  # noqa: N803
        flags: int = 0,
    ) -> dict[int, dict[int, int]]:
        unknown = [size for size in pages if size not in self.host.free_pages]
        if unknown:
            raise libvirtError(f"operation failed: page size {unknown[0]} is not available on node {startCell}", 9)
        return {startCell + n: {size: self.host.free_pages[size] for size in pages} for n in range(maxCells)}

    def compareHypervisorCPU(  # noqa: N802
        self,
        emulator: str | None,
        arch: str | None,
        machine: str | None,
        virttype: str | None,
        xmlCPU: str,  # noqa: N803
        flags: int = 0,
    ) -> int:
        self.must_not_be_read_only("virConnectCompareHypervisorCPU")
        self.host.compared.append(xmlCPU)
        model = ET.fromstring(xmlCPU).findtext("model") or ""
        why = self.host.incompatible_cpus.get(model)
        if why is None:
            return int(c.VIR_CPU_COMPARE_SUPERSET)
        if flags & c.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE:
            raise libvirtError(f"the CPU is incompatible with host CPU: {why}", c.VIR_ERR_CPU_INCOMPATIBLE)
        return int(c.VIR_CPU_COMPARE_INCOMPATIBLE)

    def listAllDomains(self, flags: int = 0) -> list[Domain]:  # noqa: N802
        self.must_live()
        found = list(self.host.guests.values())
        # Flags come in pairs: one of a pair selects, both or none select nothing.
        for yes, no, holds in (
            (c.VIR_CONNECT_LIST_DOMAINS_ACTIVE, c.VIR_CONNECT_LIST_DOMAINS_INACTIVE, lambda g: g.active),
            (c.VIR_CONNECT_LIST_DOMAINS_PERSISTENT, c.VIR_CONNECT_LIST_DOMAINS_TRANSIENT, lambda g: g.persistent),
            (c.VIR_CONNECT_LIST_DOMAINS_AUTOSTART, c.VIR_CONNECT_LIST_DOMAINS_NO_AUTOSTART, lambda g: g.autostart),
            (c.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT, c.VIR_CONNECT_LIST_DOMAINS_NO_SNAPSHOT, lambda g: g.snapshots),
        ):
            if flags & (yes | no) in (yes, no):
                found = [g for g in found if bool(holds(g)) == bool(flags & yes)]
        if flags & c.VIR_CONNECT_LIST_DOMAINS_PAUSED:
            found = [g for g in found if g.state[0] == c.VIR_DOMAIN_PAUSED]
        return [Domain(self, g.uuid, g.name) for g in found]

    def getAllDomainStats(self, stats: int = 0, flags: int = 0) -> list[tuple[Domain, dict[str, t.Any]]]:  # noqa: N802
        self.must_live()
        return [
            (Domain(self, g.uuid, g.name), g.statistics(flags)) for g in self.host.guests.values() if not g.vanished
        ]

    def domainListGetStats(  # noqa: N802
        self, doms: list[Domain], stats: int = 0, flags: int = 0
    ) -> list[tuple[Domain, dict[str, t.Any]]]:
        return [(domain, domain.guest().statistics(flags)) for domain in doms]

    def listAllStoragePools(self, flags: int = 0) -> list[t.Any]:  # noqa: N802
        self.must_live()
        self._must_have_storage("virConnectListAllStoragePools")
        found = [Pool(self, one) for one in self.host.storage.values()]
        if flags == 0:
            return found
        is_active = flags == c.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE
        pools = self._listed(flags, self.host.pools, self.host.inactive_pools)
        return [*pools, *(pool for pool in found if bool(pool.isActive()) is is_active)]

    def storagePoolLookupByName(self, name: str) -> Pool:  # noqa: N802
        self.must_live()
        self._must_have_storage("virStoragePoolLookupByName")
        if name not in self.host.storage:
            raise libvirtError(
                f"Storage pool not found: no storage pool with matching name '{name}'", c.VIR_ERR_NO_STORAGE_POOL
            )
        return Pool(self, self.host.storage[name])

    def _must_have_storage(self, call: str) -> None:
        if not self.host.storage_driver:
            raise libvirtError(f"this function is not supported by the connection driver: {call}", c.VIR_ERR_NO_SUPPORT)

    def listAllNetworks(self, flags: int = 0) -> list[Named]:  # noqa: N802
        return self._listed(flags, self.host.networks, self.host.inactive_networks)

    def _listed(self, flags: int, active: list[str], inactive: list[str]) -> list[Named]:
        """The flags of networks and of pools have the same values: 1 for what is not active, 2 for what is."""
        self.must_live()
        names = {0: [*active, *inactive], 1: inactive, 2: active}[flags & 3]
        return [Named(name) for name in names]

    def listAllNWFilters(self, flags: int = 0) -> list[Named]:  # noqa: N802
        self.must_live()
        return [Named(name) for name in self.host.filters]

    def listAllInterfaces(self, flags: int = 0) -> list[Named]:  # noqa: N802
        self.must_live()
        if self.host.interfaces is None:
            raise self._no_driver("virConnectListAllInterfaces", c.VIR_FROM_INTERFACE)
        return [Named(name) for name in self.host.interfaces]

    def listAllDevices(self, flags: int = 0) -> list[Named]:  # noqa: N802
        self.must_live()
        raise self._no_driver("virConnectListAllNodeDevices", c.VIR_FROM_NODEDEV)

    def _no_driver(self, call: str, domain: int) -> libvirtError:
        text = f"this function is not supported by the connection driver: {call}"
        return libvirtError(text, c.VIR_ERR_NO_SUPPORT, domain)

    def getCPUMap(self, flags: int = 0) -> tuple[int, list[bool], int]:  # noqa: N802
        self.must_live()
        count = self.getInfo()[2]
        return count, [True] * count, count

    def lookupByName(self, name: str) -> Domain:  # noqa: N802
        self.must_live()
        guest = self.host.guest(name)
        if guest is None:
            raise libvirtError(f"Domain not found: no domain with matching name '{name}'", c.VIR_ERR_NO_DOMAIN)
        return Domain(self, guest.uuid, guest.name)

    def lookupByUUIDString(self, uuidstr: str) -> Domain:  # noqa: N802
        self.must_live()
        guest = self.host.guests.get(uuidstr)
        if guest is None:
            raise libvirtError(f"Domain not found: no domain with matching uuid '{uuidstr}'", c.VIR_ERR_NO_DOMAIN)
        return Domain(self, guest.uuid, guest.name)

    def defineXML(self, xml: str) -> Domain:  # noqa: N802
        return self.defineXMLFlags(xml, 0)

    def defineXMLFlags(self, xml: str, flags: int = 0) -> Domain:  # noqa: N802
        self.must_write("virDomainDefineXMLFlags")
        root = ET.fromstring(xml)
        uuid, name = root.findtext("uuid") or "", root.findtext("name") or ""
        guest = self.host.guests.get(uuid)
        if guest is None:
            off = (c.VIR_DOMAIN_SHUTOFF, c.VIR_DOMAIN_SHUTOFF_UNKNOWN)
            guest = self.host.add_guest(name, uuid=uuid, xml=xml, state=off)
        guest.persistent = True
        return Domain(self, guest.uuid, guest.name)

    def domainEventRegisterAny(  # noqa: N802
        self,
        dom: Domain | None,
        eventID: int,  # noqa: N803
        cb: t.Callable[..., None],
        opaque: t.Any,
    ) -> int:
        self.must_live()
        for connection, event, _callback, _opaque in self.host.callbacks.values():
            if connection is self and event == eventID and dom is None:
                raise libvirtError("invalid argument: event callback already tracked", c.VIR_ERR_INVALID_ARG)
        number = self.host.next_callback()
        self.host.callbacks[number] = (self, eventID, cb, opaque)
        return number

    def domainEventDeregisterAny(self, callbackID: int) -> int:  # noqa: N802, N803
        self.host.callbacks.pop(callbackID, None)
        return 0

    def registerCloseCallback(self, cb: t.Callable[..., None], opaque: t.Any) -> int:  # noqa: N802
        return 0

    def unregisterCloseCallback(self) -> int:  # noqa: N802
        return 0

    def must_have_secrets(self, call: str) -> None:
        if not self.host.secret_driver:
            raise libvirtError(
                f"this function is not supported by the connection driver: {call}",
                c.VIR_ERR_NO_SUPPORT,
                c.VIR_FROM_SECRET,
            )

    def secretDefineXML(self, xml: str, flags: int = 0) -> Secret:  # noqa: N802
        self.must_write("virSecretDefineXML")
        self.must_have_secrets("virSecretDefineXML")
        secret = Secret(self, xml)
        self.host.secrets[secret.uuid] = secret
        return secret

    def listAllSecrets(self, flags: int = 0) -> list[Secret]:  # noqa: N802
        self.must_live()
        self.must_have_secrets("virConnectListAllSecrets")
        return [Secret(self, secret.xml) for secret in self.host.secrets.values()]

    def secretLookupByUUIDString(self, uuidstr: str) -> Secret:  # noqa: N802
        self.must_live()
        self.must_have_secrets("virSecretLookupByUUID")
        found = self.host.secrets.get(uuidstr)
        if found is None:
            raise libvirtError(f"Secret not found: no secret with matching uuid '{uuidstr}'", c.VIR_ERR_NO_SECRET)
        return Secret(self, found.xml)


# --- domains ------------------------------------------------------------------------------------------------------


class Domain:
    """A ``virDomain``: a handle, good for as long as its host has the guest."""

    def __init__(self, connection: Connection, uuid: str, name: str) -> None:
        self._connection = connection
        self._uuid = uuid
        self._name = name

    def guest(self) -> Guest:
        self._connection.must_live()
        guest = self._connection.host.guests.get(self._uuid)
        if guest is None or guest.vanished:
            raise libvirtError(
                f"Domain not found: no domain with matching uuid '{self._uuid}' ({self._name})", c.VIR_ERR_NO_DOMAIN
            )
        return guest

    def _running_guest(self) -> Guest:
        guest = self.guest()
        if not guest.active:
            raise invalid("domain is not running")
        return guest

    def _write(self, call: str) -> None:
        self._connection.must_write(call)

    def connect(self) -> Connection:
        return self._connection

    def name(self) -> str:
        return self._name

    def UUIDString(self) -> str:  # noqa: N802
        return self._uuid

    def ID(self) -> int:  # noqa: N802
        return self.guest().domain_id if self.guest().active else -1

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802
        return self.guest().xml

    def state(self, flags: int = 0) -> list[int]:
        return list(self.guest().state)

    def info(self) -> list[int]:
        guest = self.guest()
        return [guest.state[0], 0, 0, 1, int(guest.cpus_used * clock() * 1e9)]

    def maxMemory(self) -> int:  # noqa: N802
        return int(ET.fromstring(self.guest().xml).findtext("memory", "0"))

    def memoryStats(self) -> dict[str, int]:  # noqa: N802
        return self._running_guest().balloon.look()

    def setMemoryFlags(self, memory: int, flags: int = 0) -> int:  # noqa: N802
        self._write("virDomainSetMemoryFlags")
        if flags != c.VIR_DOMAIN_AFFECT_LIVE:
            raise libvirtError("the stand-in resizes running guests only", c.VIR_ERR_INVALID_ARG)
        guest = self._running_guest()
        if guest.job is not None:
            raise libvirtError(HELD, c.VIR_ERR_OPERATION_TIMEOUT)
        guest.balloon.target_kib = memory
        return 0

    def controlInfo(self, flags: int = 0) -> list[int]:  # noqa: N802
        guest = self._running_guest()
        return [c.VIR_DOMAIN_CONTROL_OCCUPIED, 0, 60000] if guest.stuck else [c.VIR_DOMAIN_CONTROL_OK, 0, 0]

    def isActive(self) -> int:  # noqa: N802
        return int(self.guest().active)

    def isPersistent(self) -> int:  # noqa: N802
        return int(self.guest().persistent)

    def autostart(self) -> int:
        return int(self.guest().autostart)

    def setAutostart(self, autostart: int) -> int:  # noqa: N802
        self._write("virDomainSetAutostart")
        guest = self.guest()
        if not guest.persistent:
            raise invalid("cannot set autostart for transient domain")
        guest.autostart = bool(autostart)
        return 0

    def listAllCheckpoints(self, flags: int = 0) -> list[Checkpoint]:  # noqa: N802
        return [Checkpoint(self, name) for name in self.guest().checkpoints]

    def checkpointCreateXML(self, xmlDesc: str, flags: int = 0) -> Checkpoint:  # noqa: N802, N803
        self._write("virDomainCheckpointCreateXML")
        guest = self.guest()
        try:
            name = ET.fromstring(xmlDesc).findtext("name") or ""
        except ET.ParseError as error:
            raise libvirtError(f"(domain_checkpoint):1: {error}", c.VIR_ERR_XML_ERROR) from error
        wanted = c.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE | c.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
        if flags != wanted:
            raise libvirtError("the stand-in defines checkpoints anew, and checks them, only", c.VIR_ERR_INVALID_ARG)
        if name in guest.host.lost_bitmaps:
            raise libvirtError(
                f"checkpoint inconsistent: missing or broken bitmap '{name}' for disk 'vda'",
                c.VIR_ERR_CHECKPOINT_INCONSISTENT,
            )
        guest.checkpoints[name] = xmlDesc
        return Checkpoint(self, name)

    def setTime(self, time: dict[str, int] | None = None, flags: int = 0) -> int:  # noqa: N802
        self._write("virDomainSetTime")
        guest = self._running_guest()
        if guest.agent_error is not None:
            raise guest.agent_error
        if not guest.agent:
            raise libvirtError(
                "argument unsupported: QEMU guest agent is not configured", c.VIR_ERR_ARGUMENT_UNSUPPORTED
            )
        guest.agent_calls.append(("setTime", (time, flags)))
        return 0

    def interfaceAddresses(self, source: int, flags: int = 0) -> dict[str, t.Any]:  # noqa: N802
        guest = self._running_guest()
        if source == c.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT and not guest.agent:
            raise libvirtError(
                "argument unsupported: QEMU guest agent is not configured", c.VIR_ERR_ARGUMENT_UNSUPPORTED
            )
        return guest.addresses.get(source, {})

    def snapshotNum(self, flags: int = 0) -> int:  # noqa: N802
        return self.guest().snapshots

    def hasManagedSaveImage(self, flags: int = 0) -> int:  # noqa: N802
        return int(self.guest().managed_save)

    def blockInfo(self, path: str, flags: int = 0) -> list[int]:  # noqa: N802
        for disk in self._running_guest().block:
            if disk.get("name") == path:
                return [disk["capacity"], disk.get("allocation", 0), disk.get("physical", 0)]
        raise libvirtError(f"invalid argument: invalid path {path} not assigned to domain", c.VIR_ERR_INVALID_ARG)

    def blockJobInfo(self, path: str, flags: int = 0) -> dict[str, t.Any]:  # noqa: N802
        return self._running_guest().block_jobs.get(path, {})

    def destroy(self) -> int:
        self._write("virDomainDestroy")
        guest = self._running_guest()
        guest.state = (c.VIR_DOMAIN_SHUTOFF, c.VIR_DOMAIN_SHUTOFF_DESTROYED)
        if not guest.persistent:
            del guest.host.guests[guest.uuid]
        guest.host.lifecycle(guest, c.VIR_DOMAIN_EVENT_STOPPED, c.VIR_DOMAIN_EVENT_STOPPED_DESTROYED)
        return 0

    def shutdownFlags(self, flags: int = 0) -> int:  # noqa: N802
        self._write("virDomainShutdownFlags")
        guest = self._running_guest()
        if guest.heeds:
            guest.state = (c.VIR_DOMAIN_SHUTOFF, c.VIR_DOMAIN_SHUTOFF_SHUTDOWN)
        return 0

    def create(self) -> int:
        self._write("virDomainCreate")
        guest = self.guest()
        if guest.active:
            raise invalid("domain is already running")
        if guest.start_error:
            raise guest.start_error
        guest.state = (c.VIR_DOMAIN_RUNNING, c.VIR_DOMAIN_RUNNING_BOOTED)
        return 0

    def undefine(self) -> int:
        return self.undefineFlags(0)

    def undefineFlags(self, flags: int = 0) -> int:  # noqa: N802
        self._write("virDomainUndefineFlags")
        guest = self.guest()
        if not guest.persistent:
            raise invalid("cannot undefine transient domain")
        if guest.managed_save and not flags & c.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE:
            raise invalid("Refusing to undefine while domain managed save image exists")
        if not guest.active and guest.checkpoints and not flags & c.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA:
            raise invalid(f"cannot delete inactive domain with {len(guest.checkpoints)} checkpoints")
        # The autostart link and the definition go together.
        guest.persistent = guest.autostart = False
        if not guest.active:
            if not flags & c.VIR_DOMAIN_UNDEFINE_KEEP_TPM:
                guest.host.tpm_states.discard(guest.uuid)
            del guest.host.guests[guest.uuid]
        return 0

    def suspend(self) -> int:
        self._write("virDomainSuspend")
        guest = self._running_guest()
        # While a guest leaves, libvirt takes this for a part of the migration, and lets it go on if that fails.
        leaving = guest.job is not None and guest.job.source_guest is guest
        reason = c.VIR_DOMAIN_PAUSED_MIGRATION if leaving else c.VIR_DOMAIN_PAUSED_USER
        detail = c.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED if leaving else c.VIR_DOMAIN_EVENT_SUSPENDED_PAUSED
        guest.state = (c.VIR_DOMAIN_PAUSED, reason)
        guest.host.lifecycle(guest, c.VIR_DOMAIN_EVENT_SUSPENDED, detail)
        return 0

    def resume(self) -> int:
        self._write("virDomainResume")
        guest = self._running_guest()
        guest.state = (c.VIR_DOMAIN_RUNNING, c.VIR_DOMAIN_RUNNING_UNPAUSED)
        guest.host.lifecycle(guest, c.VIR_DOMAIN_EVENT_RESUMED, c.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED)
        return 0

    # jobs

    def jobStats(self, flags: int = 0) -> dict[str, t.Any]:  # noqa: N802
        guest = self.guest()
        if flags & c.VIR_DOMAIN_JOB_STATS_COMPLETED:
            completed = guest.completed
            if not flags & c.VIR_DOMAIN_JOB_STATS_KEEP_COMPLETED:
                guest.completed = None
            return dict(completed or {"type": c.VIR_DOMAIN_JOB_NONE})
        if not guest.active:
            raise invalid("domain is not running")
        if guest.job is None:
            return {"type": c.VIR_DOMAIN_JOB_NONE}
        if guest.job.destination_guest is guest:
            raise libvirtError(
                "Operation not supported: migration statistics are available only on the source host",
                c.VIR_ERR_OPERATION_UNSUPPORTED,
            )
        return dict(guest.job.stats)

    def jobInfo(self) -> list[int]:  # noqa: N802
        stats = self.jobStats()
        return [stats["type"], *[0] * 11]

    def abortJob(self) -> int:  # noqa: N802
        return self.abortJobFlags(0)

    def abortJobFlags(self, flags: int = 0) -> int:  # noqa: N802
        self._write("virDomainAbortJob")
        guest = self._running_guest()
        job = guest.job
        if job is None:
            raise invalid("no job is active on the domain")
        if job.destination_guest is guest:
            raise invalid("cannot abort incoming migration; use virDomainDestroy instead")
        if flags & c.VIR_DOMAIN_ABORT_JOB_POSTCOPY:
            if not job.postcopy:
                raise invalid("current job is not outgoing migration in post-copy mode")
            job.break_link()
        elif job.postcopy:
            raise invalid("cannot abort migration in post-copy mode")
        else:
            job.aborted = True
            if not job.ignore_abort:
                job.fail(c.VIR_ERR_OPERATION_ABORTED, "operation aborted: job 'migration out' canceled by client")
        return 0

    def migrateGetMaxDowntime(self, flags: int = 0) -> int:  # noqa: N802
        return self._running_guest().downtime_ms

    def migrateSetMaxDowntime(self, downtime: int, flags: int = 0) -> int:  # noqa: N802
        self._write("virDomainMigrateSetMaxDowntime")
        guest = self._running_guest()
        guest.downtime_ms = downtime
        if guest.job is not None:
            guest.job.downtimes.append(downtime)
        return 0

    def migrateGetMaxSpeed(self, flags: int = 0) -> int:  # noqa: N802
        return self._running_guest().speed_mib_s

    def migrateSetMaxSpeed(self, bandwidth: int, flags: int = 0) -> int:  # noqa: N802
        self._write("virDomainMigrateSetMaxSpeed")
        self._running_guest().speed_mib_s = bandwidth
        return 0

    def migrateStartPostCopy(self, flags: int = 0) -> int:  # noqa: N802
        self._write("virDomainMigrateStartPostCopy")
        guest = self._running_guest()
        job = guest.job
        if job is None or job.destination_guest is guest:
            raise invalid("post-copy can only be started while outgoing migration is in progress")
        if not job.flags & c.VIR_MIGRATE_POSTCOPY:
            raise invalid("switching to post-copy requires migration to be started with VIR_MIGRATE_POSTCOPY flag")
        if job.stats.get("memory_iteration", 0) < 1:
            raise libvirtError(
                "internal error: unable to execute QEMU command 'migrate-start-postcopy': Enable postcopy with "
                "migrate_set_capability before the start of migration"
            )
        job.enter_postcopy()
        return 0

    def migrateToURI3(self, dconnuri: str, params: dict[str, t.Any] | None = None, flags: int = 0) -> int:  # noqa: N802
        self._write("virDomainMigrateToURI3")
        cluster = self._connection.host.cluster
        with cluster.lock:
            prepare = self._prepare_resume if flags & c.VIR_MIGRATE_POSTCOPY_RESUME else self._prepare
            job = prepare(dconnuri, dict(params or {}), flags)
            cluster.lock.notify_all()
        told = cluster.on_resume if flags & c.VIR_MIGRATE_POSTCOPY_RESUME else cluster.on_migrate
        if told is not None:
            told(job)
        with cluster.lock:
            cluster.lock.wait_for(lambda: job.finished or job.client_error is not None or self._connection.dead)
        if job.client_error is not None:
            raise job.client_error
        if not job.finished:
            self._connection.must_live()
        if job.error is not None:
            raise job.error
        return 0

    def _prepare_resume(self, uri: str, params: dict[str, t.Any], flags: int) -> Job:
        """As libvirt begins to resume a post-copy that broke off (qemuMigrationSrcBeginResumePhase)."""
        guest = self._running_guest()
        job = guest.job
        if not flags & c.VIR_MIGRATE_POSTCOPY:
            raise invalid("resuming failed post-copy migration requires post-copy to be enabled")
        if job is None or job.source_guest is not guest or not job.postcopy:
            raise invalid(f"migration of domain {guest.name} is not in post-copy phase")
        if guest.state[1] != c.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED:
            raise invalid(f"post-copy migration of domain {guest.name} has not failed")
        if job.not_noticed:
            job.not_noticed -= 1
            raise invalid("QEMU reports migration is still running")
        destination = guest.host.cluster.resolve(uri)
        if destination.guests.get(guest.uuid) is not job.destination_guest:
            raise libvirtError(f"Domain not found: no domain with matching name '{guest.name}'", c.VIR_ERR_NO_DOMAIN)
        job.resume_params.append(params)
        job.flags, job.finished, job.error = flags, False, None
        job.enter_postcopy()
        return job

    def _prepare(self, uri: str, params: dict[str, t.Any], flags: int) -> Job:
        guest = self._running_guest()
        source = guest.host
        for first, second in (
            (c.VIR_MIGRATE_TUNNELLED, c.VIR_MIGRATE_PARALLEL),
            (c.VIR_MIGRATE_NON_SHARED_DISK, c.VIR_MIGRATE_NON_SHARED_INC),
        ):
            if flags & first and flags & second:
                names = [n for n, v in vars(c).items() if n.startswith("VIR_MIGRATE_") and v in (first, second)]
                raise libvirtError(f"Flags '{names[1]}' and '{names[0]}' are mutually exclusive", c.VIR_ERR_INVALID_ARG)
        if not flags & c.VIR_MIGRATE_PEER2PEER:
            raise libvirtError(
                "this function is not supported by the connection driver: direct migration is not supported by the "
                "source host",
                c.VIR_ERR_NO_SUPPORT,
            )
        if guest.job is not None:
            raise libvirtError(HELD, c.VIR_ERR_OPERATION_TIMEOUT)
        if flags & c.VIR_MIGRATE_POSTCOPY and (not flags & c.VIR_MIGRATE_LIVE or flags & c.VIR_MIGRATE_PAUSED):
            raise libvirtError(
                "argument unsupported: post-copy migration is not supported with non-live or paused migration",
                c.VIR_ERR_ARGUMENT_UNSUPPORTED,
            )
        if guest.snapshots:
            raise invalid(f"cannot migrate domain with {guest.snapshots} snapshots")
        if guest.block_jobs:
            raise invalid("domain has active block job")
        destination = source.cluster.resolve(uri)
        if destination.uuid == source.uuid:
            raise libvirtError(f"internal error: Attempt to migrate guest to the same host {source.uuid}")
        if destination.refuse_incoming is not None:
            raise destination.refuse_incoming
        present = destination.guests.get(guest.uuid)
        namesake = destination.guest(guest.name)
        if present is not None and present.active:
            raise libvirtError(f"Requested operation is not valid: domain '{guest.name}' is already active", 55)
        if namesake is not None and namesake.uuid != guest.uuid:
            raise libvirtError(
                f"operation failed: domain '{guest.name}' already exists with uuid {namesake.uuid}",
                c.VIR_ERR_OPERATION_FAILED,
            )
        self._prepare_storage(guest, destination, params, flags)
        job = Job(guest, destination, params, flags)
        guest.job = job
        return job

    def _prepare_storage(self, guest: Guest, destination: Host, params: dict[str, t.Any], flags: int) -> None:
        """As libvirt finds or makes the images that are copied to. It takes what is there, whatever that is."""
        zeroes = "migrate_disks_detect_zeroes"
        for side in (guest.host, destination):
            if zeroes in params and side.libvirt_version < 10_009_000:
                raise libvirtError(f"invalid argument: parameter '{zeroes}' not supported", c.VIR_ERR_INVALID_ARG)
        if not flags & c.VIR_MIGRATE_NON_SHARED_DISK:
            return
        disks = {
            str(element.find("target").get("dev")): element  # type: ignore[union-attr]
            for element in ET.fromstring(guest.xml).findall("devices/disk")
        }
        for target in params.get("migrate_disks", ()):
            if target not in disks:
                raise libvirtError(f"disk target {target} not found", c.VIR_ERR_INVALID_ARG)
            self._prepare_image(disks[target], destination)

    @staticmethod
    def _prepare_image(disk: ET.Element, destination: Host) -> None:
        kind, source = disk.get("type"), disk.find("source")
        assert source is not None
        pools = [one for one in destination.storage.values() if one.active]
        if kind == "volume":
            pool = next((one for one in pools if one.name == source.get("pool")), None)
            name = source.get("volume") or ""
        else:
            path = source.get("file" if kind == "file" else "dev") or ""
            directory, _slash, name = path.rpartition("/")
            if path in destination.files:
                destination.files[path].content = "overwritten"
                return
            if kind != "file":
                raise libvirtError(f"cannot precreate storage for disk type '{kind}'")
            pool = next((one for one in pools if one.path == directory), None)
            if pool is None:
                raise libvirtError(
                    f"Storage pool not found: no storage pool with matching target path '{directory}'",
                    c.VIR_ERR_NO_STORAGE_POOL,
                )
        if pool is None:
            raise libvirtError(f"Storage pool not found: {source.get('pool')}", c.VIR_ERR_NO_STORAGE_POOL)
        if f"{pool.path}/{name}" in destination.files:
            destination.files[f"{pool.path}/{name}"].content = "overwritten"
            return
        pool.make(name, 1 << 30)


class Checkpoint:
    """A ``virDomainCheckpoint``."""

    def __init__(self, domain: Domain, name: str) -> None:
        self._domain = domain
        self._name = name

    def getName(self) -> str:  # noqa: N802
        return self._name

    def getXMLDesc(self, flags: int = 0) -> str:  # noqa: N802
        if flags & c.VIR_DOMAIN_CHECKPOINT_XML_SECURE:
            self._domain.connect().must_not_be_read_only("virDomainCheckpointGetXMLDesc")
        return self._domain.guest().checkpoints[self._name]


class Job:
    """A migration under way; the test decides what happens next."""

    def __init__(self, guest: Guest, destination: Host, params: dict[str, t.Any], flags: int) -> None:
        self.source_guest = guest
        self.source = guest.host
        self.destination = destination
        self.params = params
        self.flags = flags
        #: every limit that was set while the job ran
        self.downtimes: list[int] = []
        self.aborted = False
        #: an abort is accepted but the job goes on (as when the stream hangs)
        self.ignore_abort = False
        self.postcopy = False
        #: so many calls to resume it come before QEMU notices that its link was cut
        self.not_noticed = 0
        #: the parameters of each call that resumed it
        self.resume_params: list[dict[str, t.Any]] = []
        self.switched_over = False
        self.finished = False
        self.error: libvirtError | None = None
        self.client_error: libvirtError | None = None
        memory = int(ET.fromstring(guest.xml).findtext("memory", "0")) << 10
        self.stats: dict[str, t.Any] = {
            "type": c.VIR_DOMAIN_JOB_UNBOUNDED,
            "operation": 5,
            "time_elapsed": 0,
            "downtime": 300,
            "setup_time": 3,
            "data_total": memory,
            "data_processed": 0,
            "data_remaining": memory,
            "memory_total": memory,
            "memory_processed": 0,
            "memory_remaining": memory,
            "memory_bps": 0,
            "memory_constant": 0,
            "memory_normal": 0,
            "memory_normal_bytes": 0,
            "memory_dirty_rate": 0,
            "memory_page_size": 4096,
            "memory_iteration": 0,
            "memory_postcopy_requests": 0,
        }
        before = destination.guests.get(guest.uuid)
        self._defined_before = before
        self.destination_guest = Guest(
            destination,
            params.get("destination_name", guest.name),
            guest.uuid,
            params.get("destination_xml", guest.xml),
            state=(c.VIR_DOMAIN_PAUSED, c.VIR_DOMAIN_PAUSED_MIGRATION),
            persistent=before is not None and before.persistent,
            # What the destination kept of an earlier definition; the source's mark and checkpoints do not come along.
            autostart=before is not None and before.autostart,
            managed_save=before is not None and before.managed_save,
            agent=guest.agent,
            rss_kib=guest.rss_kib,
            unused_kib=guest.unused_kib,
            block=guest.block,
        )
        self.destination_guest.checkpoints = dict(before.checkpoints) if before is not None else {}
        self.destination_guest.addresses = guest.addresses
        self.destination_guest.job = self
        destination.guests[guest.uuid] = self.destination_guest
        destination.lifecycle(self.destination_guest, c.VIR_DOMAIN_EVENT_STARTED, c.VIR_DOMAIN_EVENT_STARTED_MIGRATED)

    def step(self, **stats: t.Any) -> None:
        """Change the statistics; a higher memory_iteration is announced by its event."""
        with self.source.cluster.lock:
            before = self.stats["memory_iteration"]
            self.stats.update(stats)
            if "memory_remaining" in stats and "data_remaining" not in stats:
                self.stats["data_remaining"] = stats["memory_remaining"]
            if "memory_processed" in stats and "data_processed" not in stats:
                self.stats["data_processed"] = stats["memory_processed"]
            now = self.stats["memory_iteration"]
        for iteration in range(before + 1, now + 1):
            self.source.emit(c.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, self.source_guest, iteration)

    def switch_over(self) -> None:
        """The guest stops at the source (pre-copy)."""
        if self.switched_over:
            return
        self.switched_over = True
        self.source_guest.state = (c.VIR_DOMAIN_PAUSED, c.VIR_DOMAIN_PAUSED_MIGRATION)
        self._lifecycle_source(c.VIR_DOMAIN_EVENT_SUSPENDED, c.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED)

    def enter_postcopy(self) -> None:
        """The guest runs at the destination while its memory follows."""
        self.switch_over()
        self.postcopy = True
        self.source_guest.state = (c.VIR_DOMAIN_PAUSED, c.VIR_DOMAIN_PAUSED_POSTCOPY)
        self.destination_guest.state = (c.VIR_DOMAIN_RUNNING, c.VIR_DOMAIN_RUNNING_POSTCOPY)
        self._lifecycle_source(c.VIR_DOMAIN_EVENT_SUSPENDED, c.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY)
        self._lifecycle_destination(c.VIR_DOMAIN_EVENT_RESUMED, c.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY)

    def complete(self, error: libvirtError | None = None, **stats: t.Any) -> None:
        """The guest has moved; its definitions follow the flags. The caller may get an error all the same."""
        stats.setdefault("downtime", 92)
        stats.setdefault("time_elapsed", 4310)
        self.step(**stats)
        self.switch_over()
        with self.source.cluster.lock:
            paused = bool(self.flags & c.VIR_MIGRATE_PAUSED)
            arrived = self.destination_guest
            arrived.state = (
                (c.VIR_DOMAIN_PAUSED, c.VIR_DOMAIN_PAUSED_USER)
                if paused
                else (c.VIR_DOMAIN_RUNNING, c.VIR_DOMAIN_RUNNING_MIGRATED)
            )
            arrived.job = None
            arrived.persistent = arrived.persistent or bool(self.flags & c.VIR_MIGRATE_PERSIST_DEST)
            final = {**self.stats, "type": c.VIR_DOMAIN_JOB_COMPLETED, "memory_remaining": 0, "data_remaining": 0}
            arrived.completed = {"type": 0} if self.postcopy else final
            gone = self.source_guest
            gone.job = None
            gone.completed = final
            gone.state = (c.VIR_DOMAIN_SHUTOFF, c.VIR_DOMAIN_SHUTOFF_MIGRATED)
            gone.persistent = gone.persistent and not self.flags & c.VIR_MIGRATE_UNDEFINE_SOURCE
            if not gone.persistent:
                gone.autostart, gone.checkpoints = False, {}
                self.source.guests.pop(gone.uuid, None)
        if not paused:
            self._lifecycle_destination(c.VIR_DOMAIN_EVENT_RESUMED, c.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
        self._lifecycle_source(c.VIR_DOMAIN_EVENT_STOPPED, c.VIR_DOMAIN_EVENT_STOPPED_MIGRATED)
        self.source.emit(
            c.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, self.source_guest, {k: v for k, v in final.items() if k != "type"}
        )
        self._end(error)

    def fail(self, code: int = c.VIR_ERR_OPERATION_FAILED, text: str | None = None) -> None:
        """The move fails and the guest goes on at the source, as libvirt sees to it in pre-copy."""
        text = text or "operation failed: job 'migration out' failed: Unable to write to socket: Broken pipe"
        with self.source.cluster.lock:
            was_paused = self.switched_over
            self._remove_destination()
            self.source_guest.job = None
            # Of a guest that was never stopped libvirt changes nothing.
            if was_paused or self.source_guest.state[0] == c.VIR_DOMAIN_PAUSED:
                self.source_guest.state = (c.VIR_DOMAIN_RUNNING, c.VIR_DOMAIN_RUNNING_MIGRATION_CANCELED)
        if was_paused:
            self._lifecycle_source(c.VIR_DOMAIN_EVENT_RESUMED, c.VIR_DOMAIN_EVENT_RESUMED_MIGRATED)
        self._end(libvirtError(text, code))

    def fail_unclear(self) -> None:
        """Finish's answer is lost: the source stays paused, and the destination has nothing."""
        self.switch_over()
        with self.source.cluster.lock:
            self._remove_destination()
            self.source_guest.job = None
        self._end(libvirtError("internal error: client socket is closed", c.VIR_ERR_INTERNAL_ERROR, c.VIR_FROM_RPC))

    def lose_client(self) -> None:
        """The source's daemon answers no more to this client; the move goes on (peer to peer)."""
        with self.source.cluster.lock:
            self.client_error = libvirtError(
                "End of file while reading data: Input/output error", c.VIR_ERR_SYSTEM_ERROR, c.VIR_FROM_RPC
            )
            self.source.cluster.lock.notify_all()

    def break_link(self) -> None:
        """The migration connection breaks: pre-copy fails cleanly, post-copy stops half-way on both sides."""
        if not self.postcopy:
            self.fail()
            return
        self.source_guest.state = (c.VIR_DOMAIN_PAUSED, c.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED)
        self.destination_guest.state = (c.VIR_DOMAIN_RUNNING, c.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED)
        self._lifecycle_source(c.VIR_DOMAIN_EVENT_SUSPENDED, c.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED)
        self._lifecycle_destination(c.VIR_DOMAIN_EVENT_RESUMED, c.VIR_DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED)
        text = "operation failed: job 'migration in' failed in post-copy phase"
        self._end(libvirtError(text, c.VIR_ERR_OPERATION_FAILED))

    def _remove_destination(self) -> None:
        arrived = self.destination_guest
        arrived.state = (c.VIR_DOMAIN_SHUTOFF, c.VIR_DOMAIN_SHUTOFF_FAILED)
        arrived.job = None
        if self._defined_before is not None:
            self.destination.guests[arrived.uuid] = self._defined_before
        else:
            self.destination.guests.pop(arrived.uuid, None)
        self._lifecycle_destination(c.VIR_DOMAIN_EVENT_STOPPED, c.VIR_DOMAIN_EVENT_STOPPED_FAILED)

    def _end(self, error: libvirtError | None) -> None:
        with self.source.cluster.lock:
            self.error = error
            self.finished = True
            self.source.cluster.lock.notify_all()

    def _lifecycle_source(self, event: int, detail: int) -> None:
        self.source.lifecycle(self.source_guest, event, detail)

    def _lifecycle_destination(self, event: int, detail: int) -> None:
        self.destination.lifecycle(self.destination_guest, event, detail)


# The binding's names for the classes, for annotations and isinstance().
virConnect = Connection  # noqa: N816
virDomain = Domain  # noqa: N816
virSecret = Secret  # noqa: N816
