# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: bring it up, find it again, ask it things, take it down."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.common.errors import LabError
from lab.common.parallel import in_parallel
from lab.common.progress import Say
from lab.common.settings import Settings, from_environment
from lab.guest import agent_protocol, domain_xml
from lab.guest.guest import Guest, clear_script, running_on, start_script
from lab.host import credentials, ssh
from lab.host.host import Host
from lab.image import accelerator, base_image, boot_image, repository
from lab.layout import scenario
from lab.layout.addresses import Networks, networks
from lab.layout.scenario import Scenario
from lab.machine import cgroup, mount, network, ownership, prerequisites, process
from lab.machine.resources import existing_resources
from lab.probe.probe import Probe

from . import inventory
from .fault import Fault

GUEST_READY_S = 180.0
VERIFY_S = 120.0


def _silent(line: str) -> None:
    """Say nothing."""


@contextlib.contextmanager
def _alone(settings: Settings) -> Iterator[None]:
    """Keep a second command from changing the lab at the same time. The kernel drops the lock of a killed one."""
    settings.state.mkdir(parents=True, exist_ok=True)
    with (settings.state / "lock").open("w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError("another lab command is at work", "Wait for its end, then try again.") from None
        yield


class Lab:
    """A running lab."""

    def __init__(self, settings: Settings, plan: Scenario) -> None:
        self.settings = settings
        self.scenario = plan
        self.networks: Networks = networks(settings.instance)
        self.hosts: Mapping[str, Host] = {host.name: Host(settings, self.networks, host) for host in plan.hosts}
        self.guests: Mapping[str, Guest] = {
            guest.name: Guest(guest, self.networks, settings.instance) for guest in plan.guests
        }
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
        with _alone(settings):
            running = cls._remembered(settings)
            wanted = scenario.load(path or scenario.DEFAULT_SCENARIO) if path or running is None else running
            prerequisites.check_room(settings)
            prerequisites.ensure_packages(say)
            network.check_range(settings, networks(settings.instance))
            ownership.claim(settings)
            lab = cls(settings, wanted)
            if running is not None and running.hosts != wanted.hosts:
                say("other hosts than those that run: taking these down")
                cls(settings, running)._tear_down()
            kvm = lab._make_images(say)
            lab._remember()
            lab._start_hosts(say)
            if running is not None and running.guests != wanted.guests:
                lab._clear_guests(say)
            lab._start_guests(say, kvm=kvm)
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

    def _make_images(self, say: Say) -> bool:
        """Make what the hosts and guests boot from; return whether guests may use KVM."""
        boot_image.ensure_programs(self.settings)
        releases = sorted({host.release for host in self.scenario.hosts})
        # One after the other: they share the machine's two cores and apt's lock.
        images = [base_image.ensure(self.settings, release, say) for release in releases]
        for release in sorted({host.release for host in self.scenario.hosts if host.updates == "backports"}):
            repository.ensure(self.settings, release, say)
        boot_image.ensure(self.settings)
        return accelerator.kvm_works(self.settings, images[0])

    def _start_hosts(self, say: Say) -> None:
        off = [host for host in self.hosts.values() if not host.is_running()]
        if off:
            say(f"starting {', '.join(host.name for host in off)}")
        mount.nspawn_run()
        credentials.ensure_ssh(self.settings, self.networks)
        credentials.ensure_authority(self.settings)
        self.settings.shared.mkdir(parents=True, exist_ok=True)
        network.make_bridges(self.settings, self.networks)
        for host in self.hosts.values():
            # Also those that run: a cable that was pulled or lost is put back.
            network.connect_host(self.settings, self.networks, host.plan)
            host.start(self.scenario)
        in_parallel(lambda host: host.wait_ready(), self.hosts.values())
        if off:
            say(f"{len(self.hosts)} hosts answer")

    def _start_guests(self, say: Say, *, kvm: bool) -> None:
        """Start those guests that run nowhere, each at home."""
        present = set().union(*in_parallel(running_on, self.hosts.values()))
        absent = [guest for guest in self.guests.values() if guest.name not in present]
        if not absent:
            return
        say(f"starting {len(absent)} guests ({'KVM' if kvm else 'TCG'})")
        homes = sorted({guest.home for guest in absent})

        def start(home: str) -> None:
            mine = [guest for guest in absent if guest.home == home]
            self.hosts[home].ssh_with(start_script(mine, self.hosts[home], kvm=kvm), None, timeout=120)

        in_parallel(start, homes)
        in_parallel(self._wait_guest, absent)
        say(f"{len(absent)} guests answer")

    def _wait_guest(self, guest: Guest) -> None:
        if agent_protocol.wait_ready(guest.address, GUEST_READY_S) is None:
            raise LabError(
                f"guest {guest.name} ({guest.address}): no answer within {GUEST_READY_S:g} s",
                f"See {domain_xml.console_place(guest.plan)} on {guest.home}.",
            )

    def _clear_guests(self, say: Say) -> None:
        say("removing all guests")
        for host, left in zip(self.hosts.values(), in_parallel(self._clear_host, self.hosts.values()), strict=True):
            if left:
                raise LabError(f"{host.name}: these guests would not go: {left}", "Reset again, or take the lab down.")

    @staticmethod
    def _clear_host(host: Host) -> str:
        return " ".join(host.ssh(clear_script(), timeout=120).stdout.split())

    def _tear_down(self) -> None:
        ssh.close(self.settings)
        in_parallel(lambda host: host.kill(), self.hosts.values())
        _remove_all(self.settings)

    # ---- use ---------------------------------------------------------------------------------------------------------

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
        bad = max(reply.memory_found_bad, reply.pages_bad)
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
        }

    def reset(self, path: Path | None = None, *, forget: Sequence[str] = (), say: Say = _silent) -> Lab:
        """Start afresh in seconds: mend all faults, start all hosts, and replace all guests by new ones at home.

        `forget` names files and folders to delete on every host. Another scenario must have the same hosts.
        """
        wanted = scenario.load(path) if path else self.scenario
        if wanted.hosts != self.scenario.hosts:
            raise LabError("this scenario has other hosts than those that run", "Use `up` with it.")
        lab = Lab(self.settings, wanted)
        with _alone(self.settings):
            lab._remember()
            for name in lab.hosts:
                lab.fault.mend(name)
            lab._start_hosts(say)
            lab._clear_guests(say)
            in_parallel(lambda host: host.forget(forget), lab.hosts.values())
            lab._start_guests(say, kvm=lab._make_images(say))
        return lab

    def write_inventory(self, path: Path | None = None) -> Path:
        """Write the Ansible inventory into the lab's state, and to one more place."""
        own = self.settings.state / "inventory.yml"
        data = inventory.content(self.settings, self.networks, self.scenario)
        for place in [own, *([path] if path else [])]:
            inventory.write(place, data)
        return own


def take_down() -> None:
    """Take down whatever lab there is, whole or in pieces."""
    prerequisites.check_root()
    settings = from_environment()
    with _alone(settings):
        ownership.check(settings)
        ssh.close(settings)
        for record in settings.run.glob("*.supervisor"):
            process.end(record)
        _remove_all(settings)
        ownership.release(settings)
        left = existing_resources(settings)
        for name in ("hosts", "run", "ssh", "pki", "shared"):
            shutil.rmtree(settings.state / name, ignore_errors=True)
        for name in ("lab.json", "inventory.yml"):
            (settings.state / name).unlink(missing_ok=True)
    if left:
        raise LabError(f"not gone: {'; '.join(left[:5])}", "Run `down` again; if it stays, see who holds it.")


def _remove_all(settings: Settings) -> None:
    in_parallel(cgroup.remove, cgroup.of_lab(settings))
    network.remove_all(settings)
    for place in mount.of_lab(settings):
        mount.unmount(place)
    if not cgroup.of_other_labs(settings):
        mount.drop_nspawn_run()
    shutil.rmtree(settings.state / "hosts", ignore_errors=True)
