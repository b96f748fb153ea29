# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One host of a running lab."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from lab.common.command import last_words, run
from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.image import repository
from lab.image.base_image import path_of
from lab.layout.addresses import Networks
from lab.layout.scenario import HostPlan, Scenario
from lab.machine import cgroup, mount, network, nspawn_run, process

from . import container, rootfs, ssh

READY_S = 120.0
READY = "virsh -q uri && systemctl is-active -q libvirtd-tcp.socket libvirtd-tls.socket"
POWER_OFF = signal.SIGRTMIN + 4


@dataclass(frozen=True)
class Host:
    """A host: how to reach it, how to start and stop it."""

    settings: Settings
    networks: Networks
    plan: HostPlan

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def address(self) -> str:
        """The management address: ssh, Ansible; never limited."""
        return self.networks.management.host(self.plan.number)

    @property
    def migration_address(self) -> str:
        """The address that other hosts know it by; limited by link_mbit."""
        return self.networks.migration.host(self.plan.number)

    def ssh(self, command: str, check: bool = False, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host as root."""
        return self.ssh_with(command, None, check=check, timeout=timeout)

    def ssh_with(
        self, command: str, given: str | None, *, check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command on the host and give it something to read."""
        words = [*ssh.command(self.settings, self.address), command]
        done = run(words, check=False, given=given, timeout=timeout)
        if check and done.returncode:
            first = command.partition("\n")[0][:120]
            raise LabError(f"{self.name}: `{first}`: exit status {done.returncode}: {last_words(done)}")
        return done

    def ssh_words(self, command: str) -> list[str]:
        """Return the command line that runs a shell command on the host, for whoever talks to it while it runs."""
        return [*ssh.command(self.settings, self.address), command]

    # ---- life --------------------------------------------------------------------------------------------------------

    def is_running(self) -> bool:
        """Return whether its container runs."""
        return process.recall(container.nspawn_record(self.settings, self.name)) is not None

    def start(self, scenario: Scenario) -> None:
        """Boot the host unless it runs, after clearing away what an earlier life left. Does not wait."""
        if self.is_running() and process.recall(container.supervisor_record(self.settings, self.name)) is not None:
            return
        self.kill()
        folder = self.settings.host_folder(self.name)
        mount.overlay(self._lower(), folder)
        network.connect_host(self.settings, self.networks, self.plan)
        rootfs.prepare(self.settings, self.networks, scenario, self.plan)
        container.start(self.settings, self.name)

    def _lower(self) -> str:
        """Return what lies under the host's own layer."""
        layers = [path_of(self.settings, self.plan.release)]
        if self.plan.updates == "backports":
            layers.insert(0, repository.layer_of(self.settings, self.plan.release))
        return ":".join(map(str, layers))

    def wait_ready(self, patience: float = READY_S) -> None:
        """Wait until ssh and libvirt answer."""
        deadline = time.monotonic() + patience
        problem = "no answer"
        while time.monotonic() < deadline:
            try:
                done = self.ssh(READY, timeout=10)
            except LabError as error:
                problem = error.what
                continue
            if done.returncode == 0:
                return
            problem = last_words(done)
            time.sleep(0.2)
        log = self.settings.host_folder(self.name) / "console.log"
        raise LabError(f"{self.name}: not ready after {patience:g} s: {problem}", f"Look at the end of {log}.")

    def leader(self) -> int | None:
        """Return the host's PID 1 as the machine sees it."""
        pid = process.recall(container.nspawn_record(self.settings, self.name))
        below = process.children(pid) if pid else []
        return below[0] if below else None

    def power_off(self, patience: float = 90.0) -> None:
        """Shut the host down in good order, and wait until it is off."""
        leader = self.leader()
        if leader is not None:
            os.kill(leader, POWER_OFF)
            if not process.wait_gone(container.supervisor_record(self.settings, self.name), patience):
                raise LabError(f"{self.name}: still running {patience:g} s after power-off", "Use `fault crash`.")
        self.kill()

    def kill(self) -> None:
        """Take the power away: nothing of the host runs afterwards."""
        process.end(container.supervisor_record(self.settings, self.name))
        cgroup.remove(self.settings.control_group(self.name))
        nspawn_run.forget(self.settings, self.name)
        container.nspawn_record(self.settings, self.name).unlink(missing_ok=True)

    # ---- state -------------------------------------------------------------------------------------------------------

    def boot_id(self) -> str:
        """Return what differs from one boot of this host to the next."""
        # The kernel's boot id is the machine's; the host's own boot is that of its PID 1.
        leader = self.leader()
        return f"{leader}/{process.start_time(leader)}" if leader else "off"

    def wait_other_boot(self, before: str, patience: float = 120.0) -> None:
        """Wait until the host has begun another boot."""
        deadline = time.monotonic() + patience
        while self.boot_id() in (before, "off"):
            if time.monotonic() > deadline:
                raise LabError(f"{self.name}: no reboot within {patience:g} s", "Look at its console.log.")
            time.sleep(0.1)

    def forget(self, places: Sequence[str]) -> None:
        """Delete files or folders on the host."""
        if places:
            self.ssh(f"rm -rf -- {shlex.join(places)}", check=True)
