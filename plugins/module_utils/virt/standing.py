# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what a later run must know of a guest as it was before it was sent away.

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id(path: Path = BOOT_ID) -> str | None:
    """Names this boot of this host; None where the kernel does not say."""
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None


@dataclasses.dataclass(frozen=True)
class Standing:
    """The QEMU that holds a guest here.

    Attributes:
        boot_id: the boot of this host that it was started in, or None when that is not known.
        domain_id: libvirt's number of it, which no other QEMU of this boot has while it lives.
    """

    boot_id: str | None
    domain_id: int

    def data(self) -> dict[str, t.Any]:
        """It as C(migration.started) tells it."""
        return dataclasses.asdict(self)

    def is_meant(self, record: t.Mapping[str, t.Any]) -> bool:
        """Whether a C(migration.started) is about this very QEMU. One of an older version names none."""
        if self.boot_id is None:
            return False
        return (record.get("boot_id"), record.get("domain_id")) == (self.boot_id, self.domain_id)


def standing(domain: t.Any, boot: str | None) -> Standing:
    """How a guest stands here.

    Args:
        domain: its ``virDomain``.
        boot: names this boot of this host.

    Raises: libvirtError when it is not here any more.
    """
    return Standing(boot, domain.ID())
