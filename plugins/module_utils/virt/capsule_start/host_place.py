# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what this host has for a guest that is started from a capsule.

from __future__ import annotations

import os
import socket
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import Place
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import qcow2_header
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.image_users import unused

SYS_CPU = "/sys/devices/system/cpu"


def place(connection: t.Any, wanted: Place) -> Place:
    """A place with what this host has.

    Args:
        connection: to its libvirtd; read-only is enough.
        wanted: files of the guest, and what the operator says.
    """
    networks = frozenset(str(one.name()) for one in connection.listAllNetworks(0))
    return wanted._replace(has_links=_links(), has_networks=networks, cpus=_cpus())


def _links() -> frozenset[str] | None:
    """Bridges and network devices. The kernel is asked, as a container sees all of its machine's in /sys."""
    try:
        return frozenset(name for dummy, name in socket.if_nameindex())
    except OSError:
        return None


def _names(folder: str) -> frozenset[str] | None:
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return None


def _cpus() -> frozenset[int] | None:
    names = _names(SYS_CPU)
    if names is None:
        return None
    return frozenset(int(name[3:]) for name in names if name.startswith("cpu") and name[3:].isdecimal())


def versions(connection: t.Any, host: str) -> dict[str, t.Any]:
    """As much of a snapshot of this host as tells whether it can read the memory of a capsule."""
    return {
        "host": host,
        "versions": {"libvirt": _text(connection.getLibVersion()), "qemu": _text(connection.getVersion())},
    }


def _text(number: int) -> str:
    """A version as libvirt counts it.

    >>> _text(10000013)
    '10.0.13'
    """
    return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"


def stands_alone(content: bytes) -> bool:
    """Whether a qcow2 file names no other file."""
    try:
        header = qcow2_header.parsed(content[: qcow2_header.HEADER_BYTES])
    except ValueError:
        return False
    return header.backing is None and not header.data_file


def unused_here(connection: t.Any, paths: t.Collection[str]) -> frozenset[str]:
    """Those of the paths that no guest of this host names."""
    return unused(connection, paths)
