# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: bring it up, find it again, ask it things, take it down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.common.errors import LabError
from lab.common.parallel import in_parallel
from lab.common.progress import Say
from lab.common.settings import Settings, from_environment
from lab.guest import agent_protocol
from lab.guest.guest import running_on
from lab.layout import scenario
from lab.layout.addresses import networks
from lab.layout.scenario import Scenario
from lab.line import line
from lab.line.line import LineState
from lab.machine import network, ownership, prerequisites
from lab.machine.lock import exclusive
from lab.probe.probe import Probe

from . import inventory, start
from .cluster import Cluster
from .fault import Fault
from .removal import remove_hosts, take_down

VERIFY_S = 120.0


def _silent(line: str) -> None:
    """Say nothing."""


class Lab(Cluster):
    """A running lab."""

    def __init__(self, settings: Settings, plan: Scenario) -> None:
        super().__init__(settings, plan)
        self.fault = Fault(self)

    # ---- up and down -------------------------------------------------------------------------------------------------

    @classmethod
    def up(cls, path: Path | None = None, *, inventory_path: Path | None = None, say: Say = _silent) -> Lab:
        """Bring a lab up, or bring one that is up into the state its scenario asks for.

        Without a scenario: the one that runs, else the default. A scenario with other hosts replaces the whole lab, one
        with other guests only these.
        """
        prerequisites.check_root()
        settings = from_environment()
        with exclusive(settings):
            running = cls._remembered(settings)
            wanted = scenario.load(path or scenario.DEFAULT_SCENARIO) if path or running is None else running
            prerequisites.check_room(settings)
            prerequisites.ensure_packages(say)
            network.check_range(settings, networks(settings.instance))
            ownership.claim(settings)
            lab = cls(settings, wanted)
            if running is not None and running.machines != wanted.machines:
                say("other hosts than those that run: taking these down")
                remove_hosts(settings, cls(settings, running).machines)
            kvm = start.make_images(lab, say)
            lab._remember()
            start.start_hosts(lab, say)
            if running is not None and running.guests != wanted.guests:
                start.clear_guests(lab, say)
            start.start_guests(lab, say, kvm=kvm)
            lab.write_inventory(inventory_path)
        return lab

    @classmethod
    def load(cls) -> Lab:
        """Return the lab that is up."""
        settings = from_environment()
        plan = cls._remembered(settings)
        if plan is None:
            raise LabError("no lab is up", "Start one: python3 -m lab up")
        return cls(settings, plan)

    def down(self) -> None:
        """Take the lab down, and leave nothing of it but the cache."""
        take_down()

    @staticmethod
    def _remembered(settings: Settings) -> Scenario | None:
        try:
            return Scenario.from_json((settings.state / "lab.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def _remember(self) -> None:
        draft = self.settings.state / "lab.json.new"
        draft.write_text(self.scenario.to_json(), encoding="utf-8")
        draft.replace(self.settings.state / "lab.json")

    # ---- use ---------------------------------------------------------------------------------------------------------

    def where(self, guest: str) -> list[str]:
        """Return all hosts whose libvirtd shows a guest as running: one, if all is well."""
        self.guest(guest)
        shown = zip(self.hosts, in_parallel(running_on, self.hosts.values()), strict=True)
        return [host for host, names in shown if guest in names]

    def probe(self, guests: Sequence[str] | None = None, period_ms: float = 5.0) -> Probe:
        """Return a prober for some guests, or for all."""
        names = list(self.guests) if guests is None else guests
        return Probe(self.settings, [self.guest(name) for name in names], period_ms)

    def verify(self, guest: str, timeout: float = VERIFY_S) -> dict[str, Any]:
        """Make a guest check all its memory, and its disk, now."""
        reply = agent_protocol.verify(self.guest(guest).address, timeout)
        # The guest also looks all the time, and counts a page each time that it finds it bad.
        bad = reply.memory_found_bad or reply.pages_bad
        disk_ok = reply.disk_found_bad == 0 and reply.disk_bad == 0 and reply.disk_errors == 0
        return {
            "memory_ok": bad == 0 and reply.memory_checked == reply.pages_total,
            "bad_pages": bad,
            "checked_pages": reply.memory_checked,
            "pages_written": reply.pages_written,
            "boot_id": f"{reply.boot_id:016x}",
            "disk_ok": disk_ok if reply.has_disk else None,
            "disk_blocks_checked": reply.disk_checked,
            "disk_errors": reply.disk_errors,
            "disk_slowest_ms": reply.disk_slowest_ms if reply.has_disk else None,
        }

    def line(self) -> LineState:
        """Return settings and counters of the line between the two sites."""
        return line.tell(self.settings, ["show"])

    def reset(self, path: Path | None = None, *, forget: Sequence[str] = (), say: Say = _silent) -> Lab:
        """Start afresh in seconds: mend all faults, start all hosts, and replace all guests by new ones at home.

        `forget` names files and folders to delete on every host. Another scenario must have the same hosts.
        """
        wanted = scenario.load(path) if path else self.scenario
        if wanted.machines != self.scenario.machines:
            raise LabError("this scenario has other hosts than those that run", "Use `up` with it.")
        lab = Lab(self.settings, wanted)
        with exclusive(self.settings):
            lab._remember()
            for name in lab.hosts:
                lab.fault.mend(name)
            start.start_hosts(lab, say)
            start.clear_guests(lab, say)
            in_parallel(lambda host: host.forget(forget), lab.hosts.values())
            start.start_guests(lab, say, kvm=start.make_images(lab, say))
        return lab

    def write_inventory(self, path: Path | None = None) -> Path:
        """Write the Ansible inventory into the lab's state, and to one more place."""
        own = self.settings.state / "inventory.yml"
        data = inventory.content(self.settings, self.networks, self.scenario)
        for place in [own, *([path] if path else [])]:
            inventory.write(place, data)
        return own
