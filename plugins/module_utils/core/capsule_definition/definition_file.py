# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The file with the definition of a guest in a capsule: what it ran with, what it starts with the next time, autostart.

It is C(<capsule autostart="yes"><running><domain/></running><persistent><domain/></persistent></capsule>); C(running)
is there if the capsule has memory. What comes in is not trusted.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_definition.findings import shown

ROOT = "capsule"
MOST_BYTES = 8 * 1024**2
#: Real definitions are ten elements deep at most. Python's own recursion ends far above.
MOST_DEPTH = 40


class DefinitionError(ValueError):
    """The file is not as it must be; the text says why."""


class Definition(t.NamedTuple):
    """What the file holds.

    Attributes:
        persistent: what the guest starts with the next time.
        running: what its memory was saved with; None without memory.
        autostart: whether it starts with its host.
    """

    persistent: ET.Element
    running: ET.Element | None
    autostart: bool


def encoded(definition: Definition) -> bytes:
    """The file for a definition."""
    root = ET.Element(ROOT, autostart="yes" if definition.autostart else "no")
    if definition.running is not None:
        ET.SubElement(root, "running").append(definition.running)
    ET.SubElement(root, "persistent").append(definition.persistent)
    return bytes(ET.tostring(root, encoding="utf-8"))


def parsed(data: bytes) -> Definition:
    """The definition in a file.

    Raises:
        DefinitionError: it is not one.
    """
    root = _tree(data)
    if root.tag != ROOT or root.get("autostart") not in ("yes", "no"):
        raise DefinitionError(f"the definition begins with {shown(str(root.tag))}, not with {ROOT}")
    known: dict[str, ET.Element] = {}
    for child in root:
        if child.tag not in ("running", "persistent") or child.tag in known or len(child) != 1:
            raise DefinitionError(f"the definition has {shown(str(child.tag))} where a domain should be")
        if child[0].tag != "domain":
            raise DefinitionError(f"the definition has {shown(str(child[0].tag))} where a domain should be")
        known[child.tag] = child[0]
    if "persistent" not in known:
        raise DefinitionError("the definition has no persistent domain")
    return Definition(known["persistent"], known.get("running"), root.get("autostart") == "yes")


def _tree(data: bytes) -> ET.Element:
    if len(data) > MOST_BYTES:
        raise DefinitionError(f"the definition has {len(data)} bytes, and {MOST_BYTES} is the most")
    try:
        # In one encoding only, so that nothing is hidden from the look below.
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DefinitionError(f"the definition is not UTF-8: {error}") from error
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DefinitionError("the definition declares a document type, and may grow without end when it is read")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise DefinitionError(f"the definition is no XML: {error}") from error
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > MOST_DEPTH:
            raise DefinitionError(f"the definition is more than {MOST_DEPTH} elements deep")
        level = [child for element in level for child in element]
    return root
