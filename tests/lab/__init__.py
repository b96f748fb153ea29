# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real libvirt cluster on one machine, for tests and demonstrations. See README.md.

Here is all that others use; the folders below are the lab's own.
"""

from __future__ import annotations

from lab.cluster.lab import Lab
from lab.cluster.removal import take_down
from lab.common.errors import LabError
from lab.common.parallel import in_parallel
from lab.guest import agent_protocol, database, debian
from lab.guest.guest import Guest
from lab.host.host import Host
from lab.layout.scenario import DEFAULT_SCENARIO, Scenario
from lab.probe.probe import Probe

__all__ = [
    "DEFAULT_SCENARIO",
    "Guest",
    "Host",
    "Lab",
    "LabError",
    "Probe",
    "Scenario",
    "agent_protocol",
    "database",
    "debian",
    "in_parallel",
    "take_down",
]
