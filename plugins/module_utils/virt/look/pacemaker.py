# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which guests of a host pacemaker runs, from its own files.

from __future__ import annotations

from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import managers

#: Pacemaker's configuration as it keeps it on each of its hosts. Only root may read it.
CIB = "var/lib/pacemaker/cib/cib.xml"
#: Far above what the configuration of a cluster or the definition of a guest takes.
LARGEST_BYTES = 64 << 20


def guests(root: Path) -> frozenset[str]:
    """Names of guests that are resources of pacemaker; none on a host without it.

    Args:
        root: where the host's files are looked up.
    """
    cib = _text(root / CIB)
    return frozenset(_name(root, path) for path in managers.pacemaker_definitions(cib)) if cib else frozenset()


def _name(root: Path, path: str) -> str:
    """The name in a definition; where this host does not have it, the name of its file, as people call it."""
    text = _text(root / path.lstrip("/"))
    if text:
        try:
            return xml_text.parsed(text).findtext("name") or Path(path).stem
        except xml_text.XmlTextError:
            pass
    return Path(path).stem


def _text(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > LARGEST_BYTES:
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
