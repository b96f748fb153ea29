# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a rule about blockers gets and gives."""

from __future__ import annotations

import shlex
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal

Version = t.Optional[tuple[int, ...]]


class Facts(t.NamedTuple):
    """What the XML does not say. What could not be learned is None or missing.

    Attributes:
        libvirt, qemu: versions on this host.
        snapshots: how many the guest has.
        block_jobs: targets of disks that a copy, commit or pull job works on.
        autodestroy: destroyed with the connection of the client that started it.
        tpm_shared: the directory of the TPM's state is on shared storage.
        swtpm_shared: this host's swtpm can hand over a state on shared storage.
        drives: sources of disks that are drives of the host itself.
        drivers: the host's kernel driver of each device that is passed through, by PCI address or by UUID.
        local_places: paths that the guest names and that are on local storage, with what storage that is.
        mounted: sources of disks that this host has mounted as well, with where.
    """

    libvirt: Version = None
    qemu: Version = None
    snapshots: int = 0
    block_jobs: t.Sequence[str] = ()
    autodestroy: bool = False
    tpm_shared: bool | None = None
    swtpm_shared: bool | None = None
    drives: t.Collection[str] = ()
    drivers: t.Mapping[str, str] = {}
    local_places: t.Mapping[str, str] = {}
    mounted: t.Mapping[str, str] = {}


Refusals = t.Iterator[Refusal]
Rule = t.Callable[[ET.Element, Facts], Refusals]


def quoted_name(root: ET.Element) -> str:
    """The guest's name as a shell takes it."""
    return shlex.quote(root.findtext("name") or "")


def is_older(version: Version, first: tuple[int, ...]) -> bool:
    """Whether a version is known to be older than the first that can do something.

    >>> is_older((10, 0, 2), (10, 1, 0)), is_older((10, 1, 0), (10, 1, 0)), is_older(None, (10, 1, 0))
    (True, False, False)
    """
    return version is not None and version < first
