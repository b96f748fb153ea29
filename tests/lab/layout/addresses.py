# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which address belongs to whom. Pure arithmetic on 198.18.0.0/15, the range that RFC 2544 sets aside for test beds."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from uuid import UUID, uuid5

RANGE = "198.18.0.0/15"
FIRST_HOST = 11
FIRST_GUEST = 101
#: The last number is the storage server's.
MOST_HOSTS = 40
MOST_GUESTS = 150
GUEST_UUIDS = UUID("5b0b7a4e-7f0c-4f0e-9a63-6b766d6f7073")


@dataclass(frozen=True)
class Network:
    """One of the three networks of a lab; the machine itself has address 1 on each."""

    purpose: str
    code: str
    subnet: str

    @property
    def gateway(self) -> str:
        return f"{self.subnet}.1"

    def host(self, number: int) -> str:
        """Return the address of host number 1, 2, …"""
        return f"{self.subnet}.{FIRST_HOST + number - 1}"

    def guest(self, number: int) -> str:
        """Return the address of guest number 1, 2, …"""
        return f"{self.subnet}.{FIRST_GUEST + number - 1}"

    def bridge(self, prefix: str, site: int = 1) -> str:
        """Return the name of the bridge; a second site has one of its own."""
        return f"{prefix}{self.code}" if site == 1 else f"{prefix}s{site}{self.code}"

    def line_end(self, prefix: str, site: int) -> str:
        """Return the name of a site's end of the line to the other site."""
        return f"{prefix}s{site}li"

    def link(self, prefix: str, host: str) -> str:
        """Return the name of the machine's end of the cable to a host (at most 15 characters)."""
        return f"{prefix}{host}{self.code}"


@dataclass(frozen=True)
class Networks:
    """The networks of one lab, kept apart so that none disturbs what is measured on another."""

    migration: Network
    management: Network
    guests: Network

    @property
    def all(self) -> tuple[Network, Network, Network]:
        return (self.migration, self.management, self.guests)


def networks(instance: int) -> Networks:
    """Return the networks of a lab by its number."""
    return Networks(
        migration=Network("migration", "mi", f"198.18.{2 * instance}"),
        management=Network("management", "mg", f"198.18.{2 * instance + 1}"),
        guests=Network("guests", "gu", f"198.19.{instance}"),
    )


def guest_mac(instance: int, number: int) -> str:
    """Return the hardware address of guest number 1, 2, …"""
    return f"52:54:00:19:{instance:02x}:{number:02x}"


def guest_uuid(instance: int, name: str) -> str:
    """Return the same UUID for the same guest of the same lab, always."""
    return str(uuid5(GUEST_UUIDS, f"{instance}/{name}"))


def guest_seed(name: str) -> int:
    """Return the number from which a guest's memory content is derived."""
    return zlib.crc32(name.encode())
