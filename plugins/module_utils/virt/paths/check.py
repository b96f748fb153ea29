# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a path is needed for, and what one check of it says.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal

#: The checks of a path, in the order in which they are shown.
CHECKS = ("connect", "identity", "versions", "encryption", "ports", "cpu", "mtu")

Version = tuple[int, ...]


class Destination(t.NamedTuple):
    """The host at the other end.

    Attributes:
        name: of the host.
        uri: of its libvirtd, as this host reaches it.
        address: of the host on the migration network, or None: libvirt takes what the host calls itself.
        incoming: what its qemu.conf says of migrations that come in (C(migration.incoming) of its snapshot).
        mtu: the largest packet that its interface on the migration network takes, or None.
    """

    name: str
    uri: str
    address: str | None
    incoming: t.Mapping[str, t.Any] = {}
    mtu: int | None = None


class PathRequest(t.NamedTuple):
    """What the paths are needed for.

    Attributes:
        source: this host's name.
        uri: of this host's libvirtd.
        encryption: C(required) or C(off).
        timeout_s: how long a destination may take to answer.
        check_guests: whether a destination is asked for the CPU of each guest here.
        read_only: open read-only connections. libvirt compares CPUs only for connections that could also write.
    """

    source: str
    uri: str
    encryption: str
    timeout_s: float
    check_guests: bool
    read_only: bool


class SourceHost(t.NamedTuple):
    """What the checks need to know of this host; plain, so that a child process can be given it.

    Attributes:
        host_uuid: of its libvirtd.
        libvirt, qemu: their versions.
        guests: name, uuid, type, arch, machine and the XML of the CPU, of each guest that runs.
    """

    host_uuid: str | None
    libvirt: Version
    qemu: Version
    guests: list[dict[str, t.Any]]


class Check(t.TypedDict):
    """What one check says."""

    check: str
    ok: bool
    code: str
    reason: str
    remedy: str | None


def passed(check: str, code: str, reason: str) -> Check:
    """A check that found nothing against the path."""
    return {"check": check, "ok": True, "code": code, "reason": reason, "remedy": None}


def failed(check: str, why: Refusal) -> Check:
    """A check that found a reason against the path."""
    return {"check": check, "ok": False, "code": why["code"], "reason": why["reason"], "remedy": why["remedy"]}


def version_of(number: int) -> Version:
    """libvirt's number for a version, in parts.

    >>> version_of(9000000)
    (9, 0, 0)
    """
    return number // 1000000, number // 1000 % 1000, number % 1000
