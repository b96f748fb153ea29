# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What to do about an error with which libvirt or QEMU has ended a migration, where its text tells.

libvirt has one number for nearly all of these errors (VIR_ERR_OPERATION_FAILED, VIR_ERR_INTERNAL_ERROR). Only the texts
differ.
"""

from __future__ import annotations

import re

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.host_files import FIRST_PORT, LAST_PORT

#: libvirt's text (src/rpc/virnetsocket.c) for memory and its own connection, QEMU's (util/qemu-sockets.c) for disks.
_NO_CONNECTION = re.compile(
    r"(?:unable to connect to server at|Failed to connect to) '(?P<host>[^']*):(?P<port>\d+)'", re.IGNORECASE
)
#: A socket that libvirt itself listens on: not encrypted, and with TLS.
_CONTROL_PORTS = (16509, 16514)
_FULL = ("No space left on device", "Disk quota exceeded")
#: What libvirt says when it has waited for the other side in vain: seen with ports that a firewall drops.
_CONNECTION_LOST = "End of file while reading data"
#: libvirt reads at most 32 levels of QEMU's answers since it does so with json-c (11.3 does): seen with 30 images.
_TOO_DEEP = "failed to parse JSON: nesting too deep"
#: What QEMU's server of disk copies and its clients say when their connection ends in the middle.
_COPY_BROKE = re.compile(r"migration of disk (?P<disk>\S+) failed", re.IGNORECASE)


def remedy_of(error: str | None, source: str, destination: str) -> str | None:
    """What to do about it; None where the text does not tell.

    Args:
        error: the text.
        source, destination: the hosts.

    >>> remedy_of("unable to connect to server at 'h2:49152': No route to host", "h1", "h2")
    'open TCP 49152-49215 from h1 to h2 (or the ports that qemu.conf of h2 names: migration_port_min and _max)'
    """
    text = error or ""
    if any(words in text for words in _FULL):
        return f"make room in the storage pool on {destination} that the disks are copied to, then run it again"
    found = _NO_CONNECTION.search(text)
    if found and int(found["port"]) in _CONTROL_PORTS:
        return f"see on {destination} whether libvirt listens on port {found['port']}, and open it for {source}"
    if found:
        return (
            f"open TCP {FIRST_PORT}-{LAST_PORT} from {source} to {destination} (or the ports that qemu.conf of "
            f"{destination} names: migration_port_min and _max)"
        )
    if _TOO_DEEP in text:
        return (
            f"shorten the chain of images that a disk rests on, which libvirt of {destination} cannot read (virsh "
            "blockpull, or virsh blockcommit)"
        )
    if _CONNECTION_LOST in text:
        return (
            f"see whether {source} reaches the ports of migrations of {destination} (TCP {FIRST_PORT}-{LAST_PORT}), "
            "and the log of libvirt there (journalctl -u libvirtd -u virtqemud)"
        )
    if _COPY_BROKE.search(text):
        return (
            f"see on {destination} whether the storage pool is full (virsh pool-list --details), and whether the link "
            "between both hosts is up"
        )
    return None
