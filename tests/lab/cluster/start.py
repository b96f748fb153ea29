# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a lab comes up, step by step. Each step does only what is missing, so that it can be done again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from lab.common.errors import LabError
from lab.common.parallel import in_parallel
from lab.common.progress import Say
from lab.guest import agent_protocol, domain_xml, storage_server
from lab.guest.guest import Guest, clear_script, running_on, start_script
from lab.host import credentials
from lab.host.host import Host
from lab.image import accelerator, base_image, boot_image, debian_guest, repository
from lab.line import line
from lab.machine import loop_device, network, nspawn_run

from .cluster import Cluster

#: Read at each boot of a host, whose /dev is empty then.
DEVICES_AT_BOOT = "/etc/tmpfiles.d/kvmops-lab.conf"
#: Without KVM, a whole Debian takes a minute or two to boot.
GUEST_READY_S = {"agent": 180.0, "debian": 420.0}


def make_images(lab: Cluster, say: Say) -> bool:
    """Make what the hosts and guests boot from; return whether guests may use KVM."""
    boot_image.ensure_programs(lab.settings)
    releases = sorted({host.release for host in lab.scenario.hosts})
    with ThreadPoolExecutor(max_workers=1) as pool:
        kernel = pool.submit(boot_image.ensure, lab.settings)
        # One after the other: they share the machine's two cores.
        images = [base_image.ensure(lab.settings, release, say) for release in releases]
        kernel.result()
    for release in sorted({host.release for host in lab.scenario.hosts if host.updates == "backports"}):
        repository.ensure(lab.settings, release, say)
    if any(host.has_debian for host in lab.scenario.hosts):
        debian_guest.ensure(lab.settings, say)
    return accelerator.kvm_works(lab.settings, images[0])


def start_hosts(lab: Cluster, say: Say) -> None:
    """Start those hosts that are off, and wait until all answer."""
    off = [host for host in lab.machines if not host.is_running()]
    if off:
        say(f"starting {', '.join(host.name for host in off)}")
    credentials.ensure_ssh(lab.settings, lab.networks)
    credentials.ensure_authority(lab.settings)
    lab.settings.shared.mkdir(parents=True, exist_ok=True)
    network.make_bridges(lab.settings, lab.networks)
    if lab.scenario.line:
        line.start(lab.settings, lab.networks, lab.scenario.line)
    with nspawn_run.used(lab.settings):
        nspawn_run.ensure(lab.settings)
        for host in lab.machines:
            # Also those that run: a cable that was pulled or lost is put back.
            network.connect_host(lab.settings, lab.networks, host.plan)
            host.start(lab.scenario)
        in_parallel(lambda host: host.wait_ready(), lab.machines)
    if off:
        say(f"{len(lab.machines)} hosts answer")


def start_guests(lab: Cluster, say: Say, *, kvm: bool) -> None:
    """Start those guests that run nowhere, each at home."""
    present = set().union(*in_parallel(running_on, lab.hosts.values()))
    absent = [guest for guest in lab.guests.values() if guest.name not in present]
    if not absent:
        return
    say(f"starting {len(absent)} guests ({'KVM' if kvm else 'TCG'})")
    _offer_devices(lab, absent)
    if lab.storage:
        lab.storage.ssh_with(storage_server.offer_script(guest.plan for guest in absent), None)
    # A Debian needs the processors while it boots; once others are at work, it takes twice as long.
    for system in ("debian", "agent"):
        _start_all(lab, [guest for guest in absent if guest.plan.system == system], kvm=kvm)
    say(f"{len(absent)} guests answer")


def _start_all(lab: Cluster, guests: list[Guest], *, kvm: bool) -> None:
    """Start guests, each at home, and wait until they answer."""

    def start(home: str) -> None:
        mine = [guest for guest in guests if guest.home == home]
        lab.hosts[home].ssh_with(start_script(mine, lab.hosts[home], kvm=kvm), None, timeout=120)

    in_parallel(start, sorted({guest.home for guest in guests}))
    in_parallel(_wait_guest, guests)


def _offer_devices(lab: Cluster, absent: list[Guest]) -> None:
    """Make the block devices of guests anew, and let every host see them, also after a reboot."""
    plans = [guest.plan for guest in lab.guests.values() if guest.plan.disk_mib and guest.plan.disk_on == "block"]
    if not plans:
        return
    names = {guest.name for guest in absent}
    for plan in plans:
        if plan.name in names:
            loop_device.make(lab.settings, plan.number, plan.disk_mib or 0)
    lines = loop_device.boot_lines(lab.settings.instance, {plan.name: plan.number for plan in plans})
    command = f"cat > {DEVICES_AT_BOOT} && systemd-tmpfiles --create {DEVICES_AT_BOOT}"
    in_parallel(lambda host: host.ssh_with(command, lines), lab.hosts.values())


def _wait_guest(guest: Guest) -> None:
    patience = GUEST_READY_S[guest.plan.system]
    if agent_protocol.wait_ready(guest.address, patience) is None:
        raise LabError(
            f"guest {guest.name} ({guest.address}): no answer within {patience:g} s",
            f"See {domain_xml.console_place(guest.plan)} on {guest.home}.",
        )


def clear_guests(lab: Cluster, say: Say) -> None:
    """Remove every guest from every host."""
    say("removing all guests")
    for host, left in zip(lab.hosts.values(), in_parallel(_clear_host, lab.hosts.values()), strict=True):
        if left:
            raise LabError(f"{host.name}: these guests would not go: {left}", "Reset again, or take the lab down.")


def _clear_host(host: Host) -> str:
    return " ".join(host.ssh(clear_script(), timeout=120).stdout.split())
