# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
from pathlib import Path

from lab.common import settings
from lab.layout import addresses

NETWORKS = addresses.networks(0)


def test_labs_share_no_address_and_no_name():
    everything = [network for number in range(settings.MOST_INSTANCES) for network in addresses.networks(number).all]
    assert len({network.subnet for network in everything}) == len(everything)
    assert all(
        ipaddress.ip_network(f"{network.subnet}.0/24").subnet_of(ipaddress.ip_network(addresses.RANGE))
        for network in everything
    )
    assert addresses.guest_uuid(0, "g1") != addresses.guest_uuid(1, "g1")


def test_link_names_fit_the_kernel():
    last = settings.Settings(state=Path("/s"), cache=Path("/c"), instance=settings.MOST_INSTANCES - 1)
    assert len(NETWORKS.migration.link(last.prefix, f"h{addresses.MOST_HOSTS - 1}")) <= 15


def test_the_last_host_is_below_the_first_guest_and_the_last_guest_has_an_address():
    assert addresses.FIRST_HOST + addresses.MOST_HOSTS < addresses.FIRST_GUEST
    assert addresses.FIRST_GUEST + addresses.MOST_GUESTS < 255
