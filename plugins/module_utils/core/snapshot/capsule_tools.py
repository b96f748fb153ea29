# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a host needs for capsules, beyond what a migration needs, and what it lacks of it."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import versions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

#: libvirt waits for a server that is gone (<reconnect delay>) from here on.
LIBVIRT_LAZY = (9, 2, 0)
#: libvirt saves memory with each page at a place of its own from here on.
LIBVIRT_SPARSE = (11, 2, 0)


class Tool(t.NamedTuple):
    """A program or a library.

    Attributes:
        what: it is needed for.
        packages: that have it, of Debian and of Fedora and its relatives.
        needed: without it there are no capsules at all.
    """

    what: str
    packages: tuple[str, str]
    needed: bool = True


PROGRAMS: t.Mapping[str, Tool] = {
    "qemu-img": Tool("images of disks are read with it", ("qemu-utils", "qemu-img")),
    "qemu-nbd": Tool("images of disks are read with it", ("qemu-utils", "qemu-img")),
    "ssh": Tool("capsules are sent with it", ("openssh-client", "openssh-clients")),
    "ssh-keygen": Tool("capsules are sent and signed with it", ("openssh-client", "openssh-clients")),
}
LIBRARIES: t.Mapping[str, Tool] = {
    "nbd": Tool("images of disks are read with it", ("python3-libnbd", "python3-libnbd")),
    "zstandard": Tool(
        "with it capsules are compressed better than with zlib", ("python3-zstandard",) * 2, needed=False
    ),
}


def lacking(snapshot: Snapshot) -> list[Refusal]:
    """What this host lacks for capsules, the needed things first. A host that did not tell lacks nothing.

    The reasons do not name the host, so that those of several hosts can be told together.
    """
    tools = snapshot.get("capsule_tools") or {}
    known = {**PROGRAMS, **LIBRARIES}
    packages: dict[tuple[str, str], list[str]] = {}
    for name, tool in known.items():
        if tools.get(name) is False:
            packages.setdefault(tool.packages, []).append(name)
    found = [_missing(names, known[names[0]]) for names in packages.values()]
    return [*found, *_old_libvirt(snapshot)]


def tool_refusal(snapshot: Snapshot) -> Refusal | None:
    """Why this host can neither send nor take capsules; None if it can, as far as is known."""
    tools = snapshot.get("capsule_tools") or {}
    for name, tool in {**PROGRAMS, **LIBRARIES}.items():
        if tool.needed and tools.get(name) is False:
            found = _missing([name], tool)
            return refusal(found["code"], f"{snapshot['host']}: {found['reason']}", found["remedy"])
    return None


def _missing(names: t.Sequence[str], tool: Tool) -> Refusal:
    debian, fedora = tool.packages
    what = "needed for capsules" if tool.needed else "optional for capsules"
    others = "" if debian == fedora else f" (dnf install {fedora})"
    shown = " and ".join(f"the Python library {name}" if name in LIBRARIES else name for name in names)
    verb = "is" if len(names) == 1 else "are"
    return refusal("capsule_tools", f"{shown} {verb} missing, {what}: {tool.what}", f"apt install {debian}{others}")


def _old_libvirt(snapshot: Snapshot) -> list[Refusal]:
    found = versions.parsed((snapshot.get("versions") or {}).get("libvirt"))
    if found is None:
        return []
    told = []
    if found < LIBVIRT_LAZY:
        reason = f"libvirt {versions.shown(found)} cannot start a guest before its disks have come"
        told.append(refusal("lazy_libvirt", reason, f"upgrade libvirt to {versions.shown(LIBVIRT_LAZY)} or later"))
    if found < LIBVIRT_SPARSE:
        reason = f"libvirt {versions.shown(found)} saves memory so that all of it is sent with each capsule"
        remedy = f"upgrade libvirt to {versions.shown(LIBVIRT_SPARSE)} or later, so that only changed pages are sent"
        told.append(refusal("sparse_libvirt", reason, remedy))
    return told
