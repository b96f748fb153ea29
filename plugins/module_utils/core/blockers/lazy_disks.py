# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Disks that are not all here."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts, Refusals
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.lazy_disks import lazy_disks
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal


def unfinished_fill(root: ET.Element, facts: Facts) -> Refusals:
    """A guest whose disks have not all come after it: a third host could not read them."""
    name = root.findtext("name") or ""
    for disk in lazy_disks(root):
        yield refusal(
            "fill_unfinished",
            f"a part of disk {disk.target} of {name} is still on the host that it came from",
            f"get it here first (capsule_fill with guest: {name})",
        )
