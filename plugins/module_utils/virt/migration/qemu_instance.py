# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the QEMU that holds a guest before its move, and its limits. A later run must know them.

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class MigrationLimits:
    """The limits that hold for each migration of a guest until its QEMU ends; None: not known, or not changed.

    Attributes:
        downtime_ms: how long it may stand still.
        speed_mib_s: how fast it may be sent.
    """

    downtime_ms: int | None = None
    speed_mib_s: int | None = None

    def restore(self, domain: t.Any) -> bool:
        """Set those that are others now; returns whether one was.

        Raises: libvirtError when it cannot be set, such as of a guest that has left.
        """
        changed = False
        if self.downtime_ms is not None and domain.migrateGetMaxDowntime(0) != self.downtime_ms:
            domain.migrateSetMaxDowntime(self.downtime_ms, 0)
            changed = True
        if self.speed_mib_s is not None and domain.migrateGetMaxSpeed(0) != self.speed_mib_s:
            domain.migrateSetMaxSpeed(self.speed_mib_s, 0)
            changed = True
        return changed


@dataclasses.dataclass(frozen=True)
class QemuInstance:
    """The QEMU that holds a guest here.

    Attributes:
        boot_id: the boot of this host that it was started in, or None when that is not known.
        domain_id: libvirt's number of it, which no other QEMU of this boot has while it lives.
        limits: those that it has while no move of ours has changed them.
    """

    boot_id: str | None
    domain_id: int
    limits: MigrationLimits = MigrationLimits()

    def data(self) -> dict[str, t.Any]:
        """It as C(migration.started) tells it."""
        return {
            "boot_id": self.boot_id,
            "domain_id": self.domain_id,
            "downtime_before_ms": self.limits.downtime_ms,
            "speed_before_mib_s": self.limits.speed_mib_s,
        }


def qemu_instance_of(domain: t.Any, boot: str | None) -> QemuInstance:
    """How a guest stands here.

    Args:
        domain: its ``virDomain``.
        boot: names this boot of this host.

    Raises: libvirtError when it does not run here any more.
    """
    return QemuInstance(
        boot, domain.ID(), MigrationLimits(domain.migrateGetMaxDowntime(0), domain.migrateGetMaxSpeed(0))
    )


def is_same_instance(record: t.Mapping[str, t.Any], domain: t.Any, boot: str | None) -> bool:
    """Whether a C(migration.started) is about the very QEMU that holds a guest now. One of an older version names none.

    Raises: libvirtError when the guest is not here any more.
    """
    if boot is None:
        return False
    return (record.get("boot_id"), record.get("domain_id")) == (boot, domain.ID())


def limits_before(record: t.Mapping[str, t.Any]) -> MigrationLimits:
    """The limits that the guest of a C(migration.started) had before."""
    return MigrationLimits(_number(record.get("downtime_before_ms")), _number(record.get("speed_before_mib_s")))


def _number(value: t.Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None
