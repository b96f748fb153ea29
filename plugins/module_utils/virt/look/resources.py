# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a host has of the things that guests name: networks, pools, secrets, files, CPUs.

from __future__ import annotations

import os
import posixpath
import re
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, is_off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import number_sets
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.named_paths import SWTPM, VHOST_VSOCK
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.requirements import requirements_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.resources import (
    device_name,
    files_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import capabilities
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import Mount, mount_of
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import partitions

#: Where distributions keep firmware for guests, where kernels are, and below which outputs of ports are. All that is in
#: these directories is listed.
LISTED_DIRECTORIES = (
    "/boot",
    "/usr/share/AAVMF",
    "/usr/share/OVMF",
    "/usr/share/edk2-ovmf/x64",
    "/usr/share/edk2/aarch64",
    "/usr/share/edk2/ovmf",
    "/usr/share/edk2/x64",
    "/usr/share/ovmf",
    "/usr/share/qemu",
    "/usr/share/qemu-efi-aarch64",
    "/usr/share/seabios",
    "/var/lib/libvirt/boot",
    "/var/log",
)
#: Names of emulators beside the one that libvirt tells of, and what else guests commonly need.
COMMON_FILES = ("/usr/bin/kvm", "/usr/bin/qemu-kvm", "/usr/libexec/qemu-kvm", SWTPM, VHOST_VSOCK)
#: libvirt's name of the device of a network interface: its name, with other characters replaced, and its MAC address.
_DEVICE = re.compile(r"net_(.+?)(?:_[0-9a-f]{2}){6}")
#: On every host. A list without it is no list of all interfaces.
_LOOPBACK = "lo"

Interfaces = t.Sequence[t.Mapping[str, t.Any]]


def of_this_host(
    connection: t.Any,
    described: t.Any,
    *,
    interfaces: Interfaces,
    guests: t.Iterable[Domain],
    mounts: t.Sequence[Mount],
    files: t.Iterable[str] = (),
    root: Path = Path("/"),
    mounted_at: t.Callable[[str], str | None] = lambda path: None,
) -> dict[str, t.Any]:
    """What this very host has, for the snapshot's C(resources). What cannot be told is None.

    Args:
        connection: to the host's own libvirtd; read-only is enough.
        described: libvirt's capabilities, parsed.
        interfaces: what iproute2 tells of the network interfaces; empty if it tells nothing.
        guests: the guests of the host; the files that they name are looked up.
        mounts: the host's. A file on shared storage is not looked up, because its server may not answer.
        files: more files to look up: those that guests of other hosts name.
        root: of the host's files.
        mounted_at: says where the host has mounted the device with a path; None: nowhere.
    """
    system = root / "sys/class/net"
    # In a container, /sys may have the interfaces of the machine that it runs on. So iproute2 goes first.
    names = _names(interfaces) or set(_listed(system))
    bridges = (
        _of_kind(interfaces, "bridge")
        if interfaces
        else {name for name in _listed(system) if (system / name / "bridge").is_dir()}
    )
    wanted = {*COMMON_FILES, *files, *(path for guest in guests if not is_off(guest) for path in files_of(guest))}
    return {
        "links": sorted(names) if names else _links(connection),
        "bridges": sorted(bridges) if names else None,
        # A bridge of Open vSwitch in user space is a tun device.
        "switches": sorted(_of_kind(interfaces, "openvswitch", "tun")) if interfaces else None,
        "addresses": sorted(_addresses(interfaces)) if interfaces else None,
        "partitions": partitions.partitions(root),
        "files": _files(wanted, mounts, root),
        "listed": list(LISTED_DIRECTORIES),
        "mounted": dict(_mounted(wanted, mounted_at)),
        **_told_by_libvirt(connection, described),
    }


def _mounted(wanted: t.Iterable[str], mounted_at: t.Callable[[str], str | None]) -> t.Iterator[tuple[str, str]]:
    """Devices that guests name and that the host has mounted, with where."""
    for path in sorted(wanted):
        at = mounted_at(path) if path.startswith("/dev/") else None
        if at:
            yield path, at


def of_remote_host(connection: t.Any, described: t.Any, guest: Domain, source: t.Any) -> dict[str, t.Any]:
    """What a remote libvirtd tells of what one guest names. What it cannot tell, or nobody needs, is None.

    Args:
        connection: to the remote libvirtd; read-only is enough.
        described: its capabilities, parsed.
        guest: the guest.
        source: a connection to the libvirtd of the guest's own host.
    """
    kinds = {requirement["kind"] for requirement in requirements_of(guest)}
    return {
        "links": _links(connection) if kinds & {"bridge", "link"} and _tells_links(source, guest) else None,
        "bridges": None,
        "switches": None,
        "addresses": None,
        "partitions": None,
        "files": _emulator(connection, guest),
        "listed": [],
        **_told_by_libvirt(connection, described, kinds),
    }


def _told_by_libvirt(connection: t.Any, described: t.Any, kinds: t.Collection[str] | None = None) -> dict[str, t.Any]:
    """What libvirt tells of any host; only of these kinds, if they are given."""
    lib = virt.libvirt
    calls: dict[str, tuple[str, t.Callable[[], t.Any]]] = {
        "network": (
            "networks",
            lambda: _states(
                connection.listAllNetworks, lib.VIR_CONNECT_LIST_NETWORKS_ACTIVE, lib.VIR_CONNECT_LIST_NETWORKS_INACTIVE
            ),
        ),
        "pool": (
            "pools",
            lambda: _states(
                connection.listAllStoragePools,
                lib.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE,
                lib.VIR_CONNECT_LIST_STORAGE_POOLS_INACTIVE,
            ),
        ),
        "secret": ("secrets", lambda: _secrets(connection.listAllSecrets(0))),
        "filter": ("filters", lambda: sorted(one.name() for one in connection.listAllNWFilters(0))),
    }
    found: dict[str, t.Any] = {}
    for kind, (key, call) in calls.items():
        found[key] = _told(call) if kinds is None or kind in kinds else None
    models = capabilities.security_models(described)
    return {**found, "cpus": _cpus(connection, described), "security_models": models}


def _told(call: t.Callable[[], t.Any]) -> t.Any:
    """What libvirt answers; None where it does not: a driver or its daemon is not there."""
    try:
        return call()
    except virt.libvirt.libvirtError:
        return None


def _states(call: t.Callable[[int], t.Any], active: int, inactive: int) -> dict[str, bool]:
    """By name, whether it is active."""
    off = {one.name(): False for one in call(inactive)}
    return dict(sorted({**off, **{one.name(): True for one in call(active)}}.items()))


def _secrets(found: t.Iterable[t.Any]) -> list[str]:
    """UUIDs, and what each is used for: a guest may name its secret by either."""
    names = {name for secret in found for name in (secret.UUIDString().lower(), secret.usageID())}
    return sorted(name for name in names if name)


def _cpus(connection: t.Any, described: t.Any) -> str | None:
    """The numbers of the CPUs that are online."""
    numbers = capabilities.cpu_numbers(described)
    if not numbers:
        answer = _told(lambda: connection.getCPUMap(0))
        numbers = frozenset(number for number, online in enumerate(answer[1]) if online) if answer else frozenset()
    return number_sets.shown(numbers) or None


def _links(connection: t.Any) -> list[str] | None:
    """Names of network interfaces, as far as libvirt tells them; some as it writes them in names of devices."""
    lib = virt.libvirt
    interfaces = _told(lambda: [one.name() for one in connection.listAllInterfaces(0)]) or []
    devices = _told(lambda: connection.listAllDevices(lib.VIR_CONNECT_LIST_NODE_DEVICES_CAP_NET)) or []
    matches = (_DEVICE.fullmatch(one.name()) for one in devices)
    names = {*interfaces, *(match[1] for match in matches if match)}
    return sorted(names) if _LOOPBACK in names else None


def _tells_links(source: t.Any, guest: Domain) -> bool:
    """Whether libvirt tells at least of the interfaces that the guest is attached to on its own host.

    It does not in a container whose /sys has the interfaces of the machine that it runs on; and then it does not at the
    destination either.
    """
    known = _links(source) or ()
    names = [one["name"] for one in requirements_of(guest) if one["kind"] in ("bridge", "link")]
    return all(name in known or device_name(name) in known for name in names)


def _emulator(connection: t.Any, guest: Domain) -> dict[str, bool | None]:
    """Whether the guest's emulator is there, where libvirt may say so: not over a read-only connection."""
    lib, path = virt.libvirt, guest.get("emulator")
    if not path:
        return {}
    try:
        connection.getDomainCapabilities(path, guest.get("arch"), None, guest.get("type"), 0)
    except lib.libvirtError as error:
        is_missing = "No such file" in str(error)
        return {path: False if is_missing else None}
    return {path: True}


def _names(interfaces: Interfaces) -> set[str]:
    """Names of the interfaces, also the other ones that the kernel knows them by."""
    return {str(name) for one in interfaces for name in (one.get("ifname"), *(one.get("altnames") or ())) if name}


def _of_kind(interfaces: Interfaces, *kinds: str) -> set[str]:
    return {
        str(one["ifname"])
        for one in interfaces
        if one.get("ifname") and (one.get("linkinfo") or {}).get("info_kind") in kinds
    }


def _addresses(interfaces: Interfaces) -> set[str]:
    return {str(one["local"]) for link in interfaces for one in link.get("addr_info") or () if one.get("local")}


def _files(wanted: t.Iterable[str], mounts: t.Sequence[Mount], root: Path) -> dict[str, bool]:
    """By path, whether it is there. Of the listed directories, all that is there."""
    files = {path: os.path.exists(_below(root, path)) for path in wanted if not _is_shared(path, mounts)}
    for directory in LISTED_DIRECTORIES:
        for name in _listed(_below(root, directory)):
            files[posixpath.join(directory, name)] = True
    return dict(sorted(files.items()))


def _is_shared(path: str, mounts: t.Sequence[Mount]) -> bool:
    mount = mount_of(path, mounts)
    return mount is not None and (mount["shared"] or mount.get("undeclared", False))


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _listed(directory: Path) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
