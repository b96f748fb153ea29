# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bytes on the wire, counted outside of the hosts: at the machine's ends of their cables to the migration network."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from lab import Lab

LINKS = Path("/sys/class/net")


def into(lab: Lab, hosts: Iterable[str]) -> int:
    """Return the bytes that have gone to hosts over the migration network."""
    return _counted(lab, hosts, "tx_bytes")


def out_of(lab: Lab, hosts: Iterable[str]) -> int:
    """Return the bytes that have come from hosts over the migration network."""
    return _counted(lab, hosts, "rx_bytes")


def _counted(lab: Lab, hosts: Iterable[str], counter: str) -> int:
    links = (lab.networks.migration.link(lab.settings.prefix, host) for host in hosts)
    return sum(int((LINKS / link / "statistics" / counter).read_text(encoding="ascii")) for link in links)
