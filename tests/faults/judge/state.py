# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found on the hosts and of the guests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: How libvirt names a guest whose post-copy has broken off.
POSTCOPY_FAILED = "post-copy failed"


@dataclass(frozen=True)
class Domain:
    """A guest as one libvirtd knows it."""

    state: str
    reason: str = ""
    persistent: bool = True
    autostart: bool = False
    job: bool = False
    downtime_ms: int | None = None
    speed_mib_s: int | None = None
    memory_kib: int | None = None

    @property
    def active(self) -> bool:
        """Whether a QEMU holds it."""
        return self.state != "shut off"


@dataclass(frozen=True)
class HostState:
    """A host: its guests, and what the collection keeps there."""

    domains: Mapping[str, Domain] = field(default_factory=dict)
    maintenance: str = "active"
    lease: str | None = None
    at_work: bool = False
    shown_closed: bool = False
    left_files: tuple[str, ...] = ()
    sysctl: str = ""


@dataclass(frozen=True)
class Found:
    """All that was found at one moment.

    Attributes:
        hosts: by name; None: it does not answer.
        boots: which boot each guest is in; absent: it does not answer.
        verified: what each guest says of its own memory and disk.
    """

    hosts: Mapping[str, HostState | None]
    boots: Mapping[str, str] = field(default_factory=dict)
    verified: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def where(self, guest: str) -> dict[str, Domain]:
        """Return the hosts that know a guest."""
        known = {name: host.domains.get(guest) for name, host in self.hosts.items() if host}
        return {name: domain for name, domain in known.items() if domain}

    def active(self, guest: str) -> dict[str, Domain]:
        """Return the hosts with a QEMU of a guest."""
        return {name: domain for name, domain in self.where(guest).items() if domain.active}

    def silent(self) -> list[str]:
        """Return the hosts that do not answer."""
        return [name for name, host in self.hosts.items() if host is None]


def host_state(told: Mapping[str, Any]) -> HostState:
    """Make a host's state of what its look (act/host_look.py) has printed."""
    domains = {str(name): Domain(**one) for name, one in told["domains"].items()}
    rest = {key: value for key, value in told.items() if key not in ("domains", "left_files")}
    return HostState(domains=domains, left_files=tuple(told["left_files"]), **rest)
