# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether the host at the other end of a path is the right one, in a version that works.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import capabilities, known_bugs
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import (
    Check,
    Destination,
    SourceHost,
    Version,
    failed,
    passed,
    version_of,
)


def check_identity(source: SourceHost, destination: Destination, connection: t.Any) -> Check:
    """Whether the destination is another host than this one."""
    uuid = capabilities.host_uuid(capabilities.parse(connection.getCapabilities()))
    if uuid != source.host_uuid:
        return passed("identity", "another_host", f"{destination.name} is another host ({uuid})")
    return failed(
        "identity",
        refusal(
            "same_host",
            f"{destination.uri} leads to this host, or to one with the same UUID ({uuid})",
            f"check the URI of {destination.name}; if it is another machine, give each libvirtd its own "
            "host_uuid in /etc/libvirt/libvirtd.conf (virtqemud.conf) and restart it",
        ),
    )


def check_versions(name: str, source: SourceHost, destination: Destination, connection: t.Any) -> Check:
    """Whether the versions of both hosts are known to work together.

    Args:
        name: this host's name.
        source: what is known of this host.
        destination: the other host.
        connection: to its libvirtd.
    """
    libvirt, qemu = version_of(connection.getLibVersion()), version_of(connection.getVersion())
    old = known_bugs.too_old(destination.name, libvirt)
    if old:
        return failed("versions", old)
    here = (source.libvirt, source.qemu)
    note = known_bugs.between(name, here, destination.name, (libvirt, qemu))
    if note:
        # Worth knowing, but no reason against the path: most guests can go.
        return {"check": "versions", "ok": True, **note}
    shown = f"libvirt {_shown(libvirt)}, QEMU {_shown(qemu)} on {destination.name}"
    return passed("versions", "fit", shown)


def _shown(version: Version) -> str:
    return ".".join(str(part) for part in version)
