# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Decide whether two hosts have mounted the same share, which they may tell under two names.

A share is a server and a path on it. The same server may be told by a short name, a long name or an address. Names
prove nothing about each other. The address that the kernel uses does (``addr=`` of an NFS or SMB mount), and so does
the id that an NFS server gives to its file system. The operator may also say which names are one server.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.loopback import is_loopback

Mount = t.Mapping[str, t.Any]

#: Ports of a Ceph monitor that its clients need not name.
_CEPH_PORTS = re.compile(r":(?:6789|3300)(?:/\d+)?$")
#: A CephFS as Linux 5.17 and later tell it: user, id of the cluster (may be missing), name of the file system, path.
_CEPH_BY_ID = re.compile(r"[^@]*@([0-9a-f-]*)\.([^=]*)=(.*)")
#: Ids of NFS file systems below this were given by hand (fsid= in /etc/exports) or are device numbers.
_LEAST_RANDOM_ID = 1 << 32


class Share(t.NamedTuple):
    """One share.

    Attributes:
        kind: of the file system: C(nfs), C(ceph), C(gluster), C(smb), or the type as the kernel tells it.
        servers: all that is known to name its server; empty where the path alone says which share it is.
        path: on the server.
        is_by_name: whether its server has a name, so that two names may mean one server.
    """

    kind: str
    servers: frozenset[str]
    path: str
    is_by_name: bool


def share_of(mount: Mount, snapshot: Snapshot) -> Share:
    """The share that a host has mounted."""
    kind, source = str(mount.get("type") or ""), str(mount.get("source") or "")
    if kind in ("nfs", "nfs4"):
        server, path = split_server(source)
        return Share("nfs", _servers(server, mount, snapshot), _path(path), True)
    if kind == "ceph":
        return _ceph(source, str(mount.get("server") or ""))
    if kind.endswith("glusterfs"):
        # Any server of a volume gives clients all of it.
        return Share("gluster", frozenset(), source.rpartition(":")[2].strip("/"), False)
    if kind in ("cifs", "smb3"):
        server, _slash, path = source.replace("\\", "/").lstrip("/").partition("/")
        return Share("smb", _servers(server, mount, snapshot), _path("/" + path).lower(), True)
    return Share(kind, frozenset(), source, False)


def split_server(source: str) -> tuple[str, str]:
    """The server and the path of an NFS source.

    >>> split_server("nas:/guests"), split_server("[fd00::1]:/guests")
    (('nas', '/guests'), ('fd00::1', '/guests'))
    """
    if source.startswith("["):
        server, _bracket, path = source[1:].partition("]:")
    else:
        server, _colon, path = source.partition(":/")
        path = "/" + path
    return server, path


def same(here: Mount, source: Snapshot, there: Mount, destination: Snapshot) -> bool | None:
    """Whether two mounts are of one share; None if only the names of the servers differ, and nothing proves it."""
    one, other = share_of(here, source), share_of(there, destination)
    if (one.kind, one.path) != (other.kind, other.path):
        return False
    if not one.is_by_name:
        return not one.servers or not other.servers or bool(one.servers & other.servers)
    if is_local(here, source) and is_local(there, destination):
        return False
    ids = _ids(here, there)
    if one.servers & other.servers:
        # The same name may lead to two servers, if each host looks it up in a file of its own.
        differ = here.get("address") and there.get("address") and here["address"] != there["address"]
        return not (differ and ids and ids[0] != ids[1])
    if ids and ids[0] == ids[1] and int(ids[0].partition(":")[0], 16) >= _LEAST_RANDOM_ID:
        return True
    return None


def mount_of(path: str, mounts: t.Iterable[Mount]) -> Mount | None:
    """The mount that a path lies on: the deepest of those above it."""
    above = [mount for mount in mounts if path == mount["path"] or path.startswith(mount["path"].rstrip("/") + "/")]
    return max(above, key=lambda mount: len(mount["path"]), default=None)


def shared_mount_of(path: str, snapshot: Snapshot) -> Mount | None:
    """The mount that a path lies on, if it is of a share."""
    mount = mount_of(path, snapshot.get("mounts") or ())
    return mount if mount is not None and mount.get("shared") else None


def is_local(mount: Mount, snapshot: Snapshot) -> bool:
    """Whether a host has mounted a share from itself."""
    server = server_of(mount)
    if server is None:
        return False
    return any(
        is_loopback(name) or name in names_of_host(snapshot) for name in (server, mount.get("address") or server)
    )


def server_of(mount: Mount) -> str | None:
    """The server of a share as the mount names it; None if there is no such one server."""
    kind, source = str(mount.get("type") or ""), str(mount.get("source") or "")
    if kind in ("nfs", "nfs4"):
        return plain_name(split_server(source)[0])
    if kind in ("cifs", "smb3"):
        return plain_name(source.replace("\\", "/").lstrip("/").partition("/")[0])
    return None


def servers_of(mount: Mount) -> list[str]:
    """What a mount names as its server: that of NFS or SMB, or the monitors of CephFS; empty where it names none."""
    source = str(mount.get("source") or "")
    if mount.get("type") == "ceph" and not _CEPH_BY_ID.fullmatch(source):
        return _monitors(source.rpartition(":/")[0])
    server = server_of(mount)
    return [server] if server else []


def names_of_host(snapshot: Snapshot) -> frozenset[str]:
    """Names and addresses of a host, as shares may name it."""
    resources, hostname = snapshot.get("resources") or {}, str(snapshot.get("hostname") or "")
    addresses = [address.partition("/")[0] for link in snapshot.get("links") or [] for address in link["addresses"]]
    names = {
        str(snapshot["host"]),
        hostname,
        hostname.partition(".")[0],
        *addresses,
        *(resources.get("addresses") or ()),
    }
    return frozenset(plain_name(name) for name in names if name and not is_loopback(name))


def with_one_name(
    snapshots: t.Mapping[str, Snapshot], same_servers: t.Sequence[t.Sequence[str]] = ()
) -> dict[str, Snapshot]:
    """The snapshots, in which mounts of one server have the same C(server).

    It is known to be one server if the operator says so, or if a host of the cluster is the server: it has told its
    names and addresses.

    Args:
        snapshots: of all hosts.
        same_servers: lists of names; those of a list are one server.
    """
    canonical = dict(owners(snapshots))
    canonical.update({plain_name(name): plain_name(names[0]) for names in same_servers for name in names})
    found: dict[str, Snapshot] = {}
    for host, snapshot in snapshots.items():
        mounts = snapshot.get("mounts")
        found[host] = snapshot
        if mounts and any(_one_name(mount, canonical) for mount in mounts):
            named = [{**mount, "server": _one_name(mount, canonical) or mount.get("server")} for mount in mounts]
            told = [{key: value for key, value in mount.items() if key != "server" or value} for mount in named]
            found[host] = {**snapshot, "mounts": told}
    return found


def owners(snapshots: t.Mapping[str, Snapshot]) -> dict[str, str]:
    """By name or address, the one host that has it. What several hosts have, such as 192.168.122.1, names none."""
    having: dict[str, set[str]] = {}
    for host, snapshot in snapshots.items():
        for name in names_of_host(snapshot):
            having.setdefault(name, set()).add(host)
    return {name: next(iter(hosts)) for name, hosts in having.items() if len(hosts) == 1}


def _one_name(mount: Mount, canonical: t.Mapping[str, str]) -> str | None:
    names = servers_of(mount)
    if names:
        names.append(str(mount.get("address") or names[0]))
    return next((canonical[name] for name in names if name in canonical), None)


def with_servers(
    mounts: t.Sequence[Mount], mountinfo: str, volumes: str, neighbours: str = ""
) -> list[dict[str, t.Any]]:
    """The mounts, with the address of the server that each is mounted from, its MAC address, and the id of its file
    system.

    Args:
        mounts: of a host.
        mountinfo: the text of /proc/self/mountinfo, with C(addr=) among the options of NFS and SMB mounts.
        volumes: the text of /proc/fs/nfsfs/volumes: version, server, port, device and id of each file system.
        neighbours: the text of /proc/net/arp: the MAC addresses of hosts on the same network; IPv4 only.
    """
    macs = {fields[0]: fields[3].lower() for fields in map(str.split, neighbours.splitlines()[1:]) if len(fields) > 5}
    ids = {fields[3]: fields[4] for fields in map(str.split, volumes.splitlines()[1:]) if len(fields) > 4}
    known: dict[str, dict[str, str]] = {}
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if not separator or len(fields) < 5 or len(tail) < 3 or tail[0] not in ("nfs", "nfs4", "cifs", "smb3"):
            continue
        address = re.search(r"(?:^|,)addr=([^,]+)", tail[2])
        told = {"address": address[1] if address else None, "fsid": ids.get(fields[2])}
        told["mac"] = macs.get(address[1]) if address else None
        known[_unescaped(fields[4])] = {key: value for key, value in told.items() if value}
    return [{**mount, **known.get(str(mount["path"]), {})} for mount in mounts]


def _servers(server: str, mount: Mount, snapshot: Snapshot) -> frozenset[str]:
    """All names of a server: its own, the address in use, and what the operator calls it; all names of this host, if it
    is that.
    """
    if is_local(mount, snapshot):
        return names_of_host(snapshot)
    address = str(mount.get("address") or "")
    names = {plain_name(server), str(mount.get("server") or ""), "" if is_loopback(address) else plain_name(address)}
    return frozenset(name for name in names if name)


def _ceph(source: str, server: str) -> Share:
    """CephFS, with what the operator calls one of its monitors, or an empty text."""
    by_id = _CEPH_BY_ID.fullmatch(source)
    if by_id:
        cluster, name, path = by_id.groups()
        return Share("ceph", frozenset(filter(None, [cluster])), f"{name}:{_path(path)}", False)
    monitors, _colon, path = source.rpartition(":/")
    return Share("ceph", frozenset(filter(None, [*_monitors(monitors), server])), _path("/" + path), True)


def _monitors(text: str) -> list[str]:
    names = (plain_name(_CEPH_PORTS.sub("", one.strip())) for one in re.split("[,;]", text))
    return [name for name in names if name]


def _ids(here: Mount, there: Mount) -> tuple[str, str] | None:
    """The ids of both file systems. Those of different versions of NFS cannot be compared."""
    ids = here.get("fsid"), there.get("fsid")
    return (str(ids[0]), str(ids[1])) if all(ids) and here.get("type") == there.get("type") else None


def _path(path: str) -> str:
    return posixpath.normpath("/" + path.strip("/"))


def plain_name(name: str) -> str:
    """A name or an address in one spelling."""
    name = name.strip().strip("[]").rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
