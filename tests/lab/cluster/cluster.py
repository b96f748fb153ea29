# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab consists of: its hosts, guests and networks."""

from __future__ import annotations

from collections.abc import Mapping

from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.guest.guest import Guest
from lab.host.host import Host
from lab.layout.addresses import Networks, networks
from lab.layout.scenario import Scenario


class Cluster:
    """The hosts, guests and networks of one lab."""

    def __init__(self, settings: Settings, plan: Scenario) -> None:
        self.settings = settings
        self.scenario = plan
        self.networks: Networks = networks(settings.instance)
        self.hosts: Mapping[str, Host] = {host.name: Host(settings, self.networks, host) for host in plan.hosts}
        server = plan.storage_server
        self.storage = None if server is None else Host(settings, self.networks, server)
        self.guests: Mapping[str, Guest] = {
            guest.name: Guest(guest, self.networks, settings.instance) for guest in plan.guests
        }

    @property
    def machines(self) -> list[Host]:
        """The hosts, and the storage server where there is one."""
        return [*self.hosts.values(), *([self.storage] if self.storage else [])]

    def host(self, name: str) -> Host:
        """Return a host, or say which there are."""
        if name not in self.hosts:
            raise LabError(f"no host {name!r} in this lab", f"There are {', '.join(self.hosts)}.")
        return self.hosts[name]

    def guest(self, name: str) -> Guest:
        """Return a guest, or say which there are."""
        if name not in self.guests:
            raise LabError(f"no guest {name!r} in this lab", f"There are {', '.join(self.guests)}.")
        return self.guests[name]
