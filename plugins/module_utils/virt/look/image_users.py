# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: which guests of a host name an image.

from __future__ import annotations

import functools
import posixpath
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.timeouts import each


def unused(connection: t.Any, paths: t.Collection[str], *, but: str | None = None) -> frozenset[str]:
    """Those of the paths that no guest of a host names, whether it runs or not.

    A host with a guest that cannot be asked uses all of them, as far as anybody knows.

    Args:
        connection: to the host's libvirtd; read-only is enough.
        paths: of images.
        but: the UUID of a guest whose definition does not count while it is off.
    """
    if not paths:
        return frozenset()
    domains = [one for one in connection.listAllDomains(0) if one.UUIDString() != but or one.isActive()]
    inactive = virt.libvirt.VIR_DOMAIN_XML_INACTIVE
    taken: set[str] = set()
    for flags in (0, inactive):
        for xml in each(domains, functools.partial(_description, flags=flags)):
            named = _named(xml) if isinstance(xml, str) else None
            if named is None:
                return frozenset()
            taken |= named
    return frozenset(path for path in paths if posixpath.normpath(path) not in taken)


def _description(domain: t.Any, flags: int) -> str:
    return t.cast(str, domain.XMLDesc(flags))


def _named(xml: str) -> set[str] | None:
    """Every path that a guest's XML names anywhere: disks, their layers, firmware, kernels; None: it cannot be read."""
    found: set[str] = set()
    try:
        root = xml_text.parsed(xml)
    except xml_text.XmlTextError:
        return None
    for element in root.iter():
        values = [*element.attrib.values(), element.text or ""]
        found |= {posixpath.normpath(value.strip()) for value in values if value.strip().startswith("/")}
    return found
