# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Versions of libvirt and QEMU as tuples that compare, and the ones that must not be used."""

from __future__ import annotations

import re

#: 8.5 to 8.10 cannot recover a post-copy that was cut, 8.8.0 dies when restarted during a migration, 8.7.0 loses disks
#: that are copied too; 9.0 (Debian 12, EL 9.2) is the first without all three.
LIBVIRT_FLOOR = (9, 0, 0)

#: Up to here the source's QEMU may die once some 64 GB went over one TLS channel (QEMU issue 1937: GnuTLS renews its
#: keys while the return path reads). 10.2 has the workaround; parallel channels are not affected.
QEMU_TLS_SAFE = (10, 2, 0)
#: A guest with this much in use is too near to those 64 GB: what it writes during the move is sent as well.
TLS_SAFE_BYTES = 48 * 1024**3


def parsed(version: str | None) -> tuple[int, ...] | None:
    """
    >>> parsed("10.0.13"), parsed("9.0"), parsed("7.2.22 (Debian 1:7.2)"), parsed(None), parsed("none")
    ((10, 0, 13), (9, 0, 0), (7, 2, 22), None, None)
    """
    found = re.match(r"\s*(\d+)\.(\d+)(?:\.(\d+))?", version or "")
    return tuple(int(part or 0) for part in found.groups()) if found else None


def shown(version: tuple[int, ...]) -> str:
    """
    >>> shown((9, 0, 0)), shown((10, 0, 13))
    ('9.0', '10.0.13')
    """
    return ".".join(str(part) for part in (version[:2] if version[2:] == (0,) else version))
