# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Names of block devices that the operator lists because all hosts see them, and names that nobody may list."""

from __future__ import annotations

import fnmatch
import posixpath
import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed

#: How names of local devices begin that the kernel gives in the order in which it finds them.
_LOCAL = ("sd", "vd", "xvd", "hd", "nvme", "dm-", "md", "loop")
#: All that are given in this way, also those of devices on a network: Documentation/admin-guide/devices.txt of Linux.
_NUMBERED = (*_LOCAL, "nbd", "rbd", "bcache", "dasd", "mmcblk", "pmem", "zd")
#: Names of local block devices that may mean another device on each host.
NAMES_OF_ONE_HOST = re.compile(rf"/dev/({'|'.join(_LOCAL)})[^/]*")


def is_listed(path: str, patterns: t.Sequence[str]) -> bool:
    """Whether the operator says that all hosts see a block device.

    Args:
        path: as the guest's definition has it. A symbolic link must not be followed before: it leads to a name of the
            kernel, which no pattern matches.
        patterns: those that C(pattern_refusal) accepts; C(*) also matches slashes.
    """
    steps = path.split("/")
    # With "..", /dev/disk/by-id/../../sda would match /dev/disk/by-id/*.
    if ".." in steps:
        return False
    plain = posixpath.normpath("/" + path.lstrip("/"))
    return any(fnmatch.fnmatchcase(plain, pattern) for pattern in patterns)


def pattern_refusal(patterns: t.Sequence[str]) -> Refusal | None:
    """Why a list of patterns cannot be used: some of them match names that mean another device on each host.

    What is before the first wildcard decides. So C(/dev/[x]*) is refused, too.
    """
    found = [(pattern, begin) for pattern in patterns for begin in _matched(pattern)[:1]]
    if not found:
        return None
    names = listed(list(dict.fromkeys(f"/dev/{begin}..." for dummy, begin in found)))
    wrong = listed([repr(pattern[:100]) for pattern, dummy in found])
    return refusal(
        "bad_option",
        f"shared_devices has {wrong}, which can match {names}; the kernel gives such names in the order in which "
        "it finds devices, so on another host such a name may be another disk, and a guest would overwrite that one",
        "list names that are the same on all hosts (/dev/disk/by-id/..., /dev/mapper/..., /dev/VG/LV) in "
        "kvmops_cluster_shared_devices, and use them in the guest's definition; see which there are: "
        "ls -l /dev/disk/by-id",
    )


def _matched(pattern: str) -> list[str]:
    """The beginnings of names of the kernel that a pattern can match."""
    literal = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    has_wildcard = literal != pattern
    return [
        begin
        for begin in _NUMBERED
        if (has_wildcard and f"/dev/{begin}".startswith(literal))
        # What is in a folder below /dev, as of a volume group mdata, is none of them.
        or (literal.startswith(f"/dev/{begin}") and "/" not in literal[len("/dev/") :])
    ]
