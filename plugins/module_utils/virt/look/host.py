# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: one host as a snapshot (docs/contracts.md), over one read-only connection.

from __future__ import annotations

import contextlib
import datetime
import functools
import importlib.util
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.memory_xml import (
    DEFAULT_HUGEPAGE_BYTES,
    Pages,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import SNAPSHOT
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import shares
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import (
    capabilities,
    capsule_tools,
    host_files,
    known_bugs,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.left_copies import is_as_we_left_it
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import begun_copies, left_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_settings import qemu_settings, rights
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import cordon
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import (
    certificates,
    domains,
    pacemaker,
    resources,
    storage_pools,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.cpu_use import cpus_used
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.devices import HostDevices
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.storage import Storage

SYSCTLS = (
    "kernel.numa_balancing",
    "net.core.rmem_max",
    "net.core.wmem_max",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_notsent_lowat",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
    "vm.nr_hugepages",
    "vm.overcommit_memory",
    "vm.swappiness",
    "vm.unprivileged_userfaultfd",
)
#: The kernel tells for these how much waits for them (PSI).
PRESSURES = ("cpu", "memory", "io")
#: The user that QEMU runs as where qemu.conf does not say: of Debian, of Fedora.
QEMU_USERS = ("libvirt-qemu", "qemu")
#: Modules may be started without the folders of the administrator's programs.
PROGRAM_FOLDERS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: The first libvirt that knows state of swtpm on shared storage.
LIBVIRT_TPM_SHARED = (8, 10, 0)

Version = tuple[int, ...]


def snapshot(
    connection: t.Any,
    *,
    name: str,
    state_dir: Path,
    only: str | None = None,
    root: Path = Path("/"),
    cpu_sample_s: float = 0,
    files: t.Sequence[str] = (),
    shared_devices: t.Sequence[str] = (),
) -> dict[str, t.Any]:
    """What this host is and runs.

    Args:
        connection: to the libvirtd of this very machine; read-only is enough.
        name: the host's name in the inventory.
        root: where the host's files are looked up; tests have their own.
        only: the UUID of the one guest to look at; by default all.
        cpu_sample_s: for how long to watch how many CPUs each guest uses; 0: not at all.
        files: paths of files that guests of other hosts name, to tell whether this host has them.
        shared_devices: patterns of paths of block devices that all hosts see.
    """
    host = _Host(connection, root, shared_devices)
    guests = host.domains(only)
    used = cpus_used(connection, cpu_sample_s) if cpu_sample_s > 0 else {}
    return {
        "schema": SNAPSHOT,
        "host": name,
        "hostname": connection.getHostname(),
        "host_uuid": capabilities.host_uuid(host.capabilities),
        "taken_at": f"{host.now:%Y-%m-%dT%H:%M:%S}.{host.now.microsecond // 1000:03d}Z",
        "versions": host.versions(),
        "capacity": host.capacity(),
        "pressure": host.pressure(),
        "cpu": host.cpu(),
        "migration": host.migration(),
        "links": host.links(),
        "mounts": host.shown_mounts(),
        "sysctls": host.sysctls,
        "rights": rights.of_this_process(root),
        "maintenance": cordon.for_snapshot(connection, state_dir),
        "resources": host.resources(guests, files),
        "domains": [{**guest, "cpus_used": used.get(guest["uuid"])} for guest in guests],
        # A move asks for its guest, again and again.
        "storage_pools": None if only else host.storage_pools(),
        "left_copies": [] if only else _left_copies(state_dir),
        "begun_copies": [] if only else _begun_copies(state_dir),
        "capsule_tools": None if only else _capsule_tools(),
        # After the domains: they say for which architectures it matters.
        "emulators": host.emulators(),
    }


def _left_copies(state_dir: Path) -> list[dict[str, t.Any]]:
    """The images that guests have left here and that are as they left them."""
    found: list[dict[str, t.Any]] = []
    try:
        records = left_copies.load_all(str(state_dir))
    except OSError:
        # Only root may read them.
        return found
    for record in records:
        for disk in record["disks"]:
            facts = left_copies.facts_of(disk["path"])
            if facts["is_file"] and is_as_we_left_it(disk, facts["size_bytes"], facts["mtime_ns"]):
                digests = left_copies.digests_are_there(disk)
                found.append({"uuid": record["guest"]["uuid"], "path": disk["path"], "digests": digests})
    return found


def _begun_copies(state_dir: Path) -> list[dict[str, str]]:
    """The images at other hosts to which a run has begun to copy disks of guests of this host, and did not end it."""
    try:
        return begun_copies.images(begun_copies.load_all(str(state_dir)))
    except OSError:
        # Only root may read them.
        return []


def _capsule_tools() -> dict[str, bool]:
    """Whether each program and Python library is there that capsules need. Nothing is started or imported."""
    found = {name: shutil.which(name, path=PROGRAM_FOLDERS) is not None for name in capsule_tools.PROGRAMS}
    return {**found, **{name: importlib.util.find_spec(name) is not None for name in capsule_tools.LIBRARIES}}


class _Host:
    def __init__(self, connection: t.Any, root: Path, shared_devices: t.Sequence[str]) -> None:
        self._connection = connection
        self._root = root
        self._shared_devices = shared_devices
        self.now = datetime.datetime.now(datetime.timezone.utc)
        self.capabilities = capabilities.parse(connection.getCapabilities())
        self._kinds = capabilities.emulators(self.capabilities)
        self._libvirt = _version(connection.getLibVersion())
        self._qemu = _version(connection.getVersion())
        self._settings = host_files.qemu_conf(qemu_settings.text(root))
        self._memory = host_files.meminfo(self._text("proc/meminfo") or "")
        self.sysctls = {key: self._sysctl(key) for key in SYSCTLS}
        self.mounts = host_files.mounts(
            self._text("proc/self/mountinfo") or "", self._declared_shared(), libvirt=self._libvirt
        )
        self._architectures: set[str] = set()

    def cpu(self) -> dict[str, t.Any]:
        """The CPU as libvirt tells it. Where libvirt has no name for it, what the kernel tells is there as well."""
        found = capabilities.cpu(self.capabilities)
        if found["model"] is None:
            found["identity"] = host_files.cpu_identity(self._text("proc/cpuinfo"))
        return found

    def versions(self) -> dict[str, str]:
        return {
            "libvirt": _text(self._libvirt),
            "qemu": _text(self._qemu),
            "binding": _text(_version(virt.libvirt.getVersion())),
            "kernel": os.uname().release,
        }

    def capacity(self) -> dict[str, t.Any]:
        information = self._connection.getInfo()
        cells = capabilities.cells(self.capabilities)
        for cell in cells:
            self._add_free(cell)
        return {
            "cpus": information[2],
            "memory_bytes": self._memory.get("MemTotal", information[1] * 1024**2),
            "available_bytes": self._memory.get("MemAvailable"),
            "cells": cells,
        }

    def pressure(self) -> dict[str, float | None]:
        """Shares of the last minute for which something waited. In a container, those of the container."""
        places = {kind: (f"sys/fs/cgroup/{kind}.pressure", f"proc/pressure/{kind}") for kind in PRESSURES}
        return {
            kind: next(filter(lambda share: share is not None, map(host_files.pressure, map(self._text, files))), None)
            for kind, files in places.items()
        }

    def _add_free(self, cell: dict[str, t.Any]) -> None:
        lib = virt.libvirt
        with contextlib.suppress(lib.libvirtError):
            cell["free_bytes"] = self._connection.getCellsFreeMemory(cell["id"], 1)[0]
        for page in cell["pages"]:
            kib = page["size_bytes"] // 1024
            with contextlib.suppress(lib.libvirtError):
                page["free"] = self._connection.getFreePages([kib], cell["id"], 1)[cell["id"]][kib]

    def emulators(self) -> list[dict[str, t.Any]]:
        """The emulators of the host's own architecture, and of other architectures those that its guests use."""
        arch = capabilities.cpu(self.capabilities)["arch"]
        return [
            {
                "type": kind.type,
                "arch": kind.arch,
                "emulator": kind.emulator,
                "machines": kind.machines,
                "cpu_models_usable": self._usable_models(kind),
            }
            for kind in self._kinds
            if kind.arch == arch or kind.arch in self._architectures
        ]

    def _usable_models(self, kind: capabilities.Emulator) -> list[str] | None:
        """None over a read-only connection, to which libvirt does not tell (CVE-2019-10167); what matters of a CPU is
        asked over the path.
        """
        try:
            xml = self._connection.getDomainCapabilities(kind.emulator, kind.arch, None, kind.type, 0)
        except virt.libvirt.libvirtError:
            return None
        return capabilities.usable_models(capabilities.parse(xml))

    def migration(self) -> dict[str, t.Any]:
        kvm = any(kind.type == "kvm" for kind in self._kinds)
        user = self._qemu_user()
        postcopy = known_bugs.postcopy(
            self._qemu,
            kvm=kvm,
            qemu_user=user,
            unprivileged_userfaultfd=self.sysctls["vm.unprivileged_userfaultfd"],
        )
        return {
            "live": capabilities.live(self.capabilities),
            "transports": capabilities.transports(self.capabilities),
            "incoming": self._incoming(),
            "lock_manager": self._lock_manager(),
            "postcopy": dict(postcopy),
            "postcopy_recover": dict(known_bugs.postcopy_recover(self._libvirt, postcopy)),
            "parallel": dict(known_bugs.parallel(self._libvirt, self._qemu)),
            "tls": dict(certificates.verdict(self._settings, user or "root", self.now, self._root)),
            "compression": known_bugs.compression(self._libvirt, self._qemu),
            "known_bugs": [dict(bug) for bug in known_bugs.bugs(self._libvirt, self._qemu, kvm=kvm)],
        }

    def _lock_manager(self) -> str | None:
        """What keeps two hosts from running one guest on its disks: C(lockd), C(sanlock), or None."""
        named = self._settings.get("lock_manager")
        return named if isinstance(named, str) and named not in ("", "nop") else None

    def _incoming(self) -> dict[str, t.Any]:
        """What qemu.conf says of guests that come in: the name that libvirt gives to sources, where QEMU listens, and
        on which ports.
        """
        words = {key: self._settings.get(f"migration_{key}") for key in ("host", "address", "port_min", "port_max")}
        ports = [words["port_min"], words["port_max"]]
        first, last = (port if isinstance(port, int) else usual for port, usual in zip(ports, host_files.PORTS))
        host, listen = (word if isinstance(word, str) and word else None for word in (words["host"], words["address"]))
        return {"host": host, "listen": listen, "first_port": first, "last_port": last}

    @functools.cached_property
    def _storage(self) -> Storage:
        mounted = host_files.mounted_devices(self._text("proc/self/mountinfo") or "")
        return Storage(self._connection, self.mounts, self._root / "sys", self._shared_devices, mounted)

    def domains(self, only: str | None) -> list[dict[str, t.Any]]:
        storage = self._storage
        facts = Facts(
            libvirt=self._libvirt,
            qemu=self._qemu,
            swtpm_shared=None if self._libvirt >= LIBVIRT_TPM_SHARED else False,
        )
        pages = Pages(self._memory.get("Hugepagesize", DEFAULT_HUGEPAGE_BYTES), os.sysconf("SC_PAGE_SIZE"))
        devices = HostDevices(storage, self._root / "sys")
        host = domains.HostFacts(storage, devices, facts, pages, self._root, pacemaker.guests(self._root))
        found = domains.describe_all(self._connection, host, only=only)
        self._architectures.update(guest["arch"] for guest in found if guest["arch"])
        return found

    def storage_pools(self) -> list[dict[str, t.Any]] | None:
        """None also where libvirt fails to say: this is no reason not to look at anything else."""
        try:
            return storage_pools.storage_pools(self._connection, files=self._files)
        except virt.libvirt.libvirtError:
            return None

    def _files(self, directory: str) -> list[str] | None:
        try:
            return os.listdir(self._root / directory.lstrip("/"))
        except OSError:
            return None

    @functools.cached_property
    def interfaces(self) -> list[dict[str, t.Any]]:
        """All network interfaces, as iproute2 tells them."""
        return _links()

    def resources(self, guests: list[dict[str, t.Any]], files: t.Sequence[str]) -> dict[str, t.Any]:
        """What the host has of the things that guests name."""
        return resources.of_this_host(
            self._connection,
            self.capabilities,
            interfaces=self.interfaces,
            guests=guests,
            mounts=self.mounts,
            files=files,
            root=self._root,
            mounted_at=functools.partial(self._storage.mounted_at, "block"),
        )

    def links(self) -> list[dict[str, t.Any]]:
        """The network interfaces that have an address or are real devices, without those of guests."""
        result = []
        for link in self.interfaces:
            name = link.get("ifname", "")
            addresses = [
                f"{address['local']}/{address['prefixlen']}"
                for address in link.get("addr_info", [])
                if address.get("scope") != "link" and "local" in address
            ]
            guests = link.get("linkinfo", {}).get("info_kind") in ("tun", "macvtap")
            real = (self._root / "sys/class/net" / name / "device").exists()
            if guests or "LOOPBACK" in link.get("flags", []) or not (addresses or real):
                continue
            speed = self._text(f"sys/class/net/{name}/speed")
            result.append(
                {
                    "name": name,
                    "addresses": addresses,
                    "speed_mbit": int(speed) if speed and speed.isdigit() else None,
                    "up": link.get("operstate") == "UP",
                    "mtu": link.get("mtu"),
                }
            )
        return result

    def shown_mounts(self) -> list[dict[str, t.Any]]:
        """The mounts, with what tells on which server each share is."""
        files = ("proc/self/mountinfo", "proc/fs/nfsfs/volumes", "proc/net/arp")
        return shares.with_servers(self.mounts, *(self._text(file) or "" for file in files))

    def _qemu_user(self) -> str | None:
        """The user that QEMU runs as."""
        configured = self._settings.get("user")
        if isinstance(configured, str) and configured:
            return configured
        accounts = {line.split(":", 1)[0] for line in (self._text("etc/passwd") or "").splitlines()}
        return next((user for user in QEMU_USERS if user in accounts), None)

    def _declared_shared(self) -> list[str]:
        """What the operator has declared as shared, if this libvirt reads that."""
        declared = self._settings.get("shared_filesystems")
        heeded = self._libvirt >= host_files.LIBVIRT_SHARED_FILESYSTEMS
        return declared if heeded and isinstance(declared, list) else []

    def _sysctl(self, key: str) -> str | None:
        text = self._text("proc/sys/" + key.replace(".", "/"))
        return " ".join(text.split()) if text is not None else None

    def _text(self, path: str) -> str | None:
        return _read(self._root / path)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _version(number: int) -> Version:
    """libvirt's number as a tuple: 11003000 is 11.3.0."""
    return number // 1000000, number // 1000 % 1000, number % 1000


def _text(version: Version) -> str:
    return ".".join(str(part) for part in version)


def _links() -> list[dict[str, t.Any]]:
    """All interfaces, by iproute2; none where it is not installed."""
    try:
        done = subprocess.run(
            ["ip", "-json", "-details", "address", "show"],
            capture_output=True,
            timeout=5,
            check=True,
            stdin=subprocess.DEVNULL,
        )
        found = json_text.parsed(done.stdout)
        return [link for link in found if isinstance(link, dict)] if isinstance(found, list) else []
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
