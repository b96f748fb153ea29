# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests of a running lab: define, start, find, and remove them."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from lab.host import rootfs
from lab.host.host import Host
from lab.layout.addresses import Networks, guest_uuid
from lab.layout.scenario import GuestPlan

from . import domain_xml

#: Where a guest's disk is a file.
FILES = ("local", "shared")
# Held on a host by whoever changes its guests.
LOCK = "/run/lab-guests.lock"

# Connections and QEMU go first: a migration that hangs holds libvirt's lock, and `destroy` would wait for it, half a
# minute as a rule, and two minutes for one that is still connecting into a cut.
CLEAR_ALL = """
exec 9>{lock}; flock 9
ss -K -t 'dport >= :49152 and dport <= :49215' >/dev/null
for record in /run/libvirt/qemu/*.pid; do
    # driver.pid is the daemon's own.
    [ -e "$record" ] && [ "${{record##*/}}" != driver.pid ] && kill -KILL "$(cat "$record")" 2>/dev/null
done
for name in $(virsh -q list --all --name); do
    virsh -q destroy "$name" >/dev/null 2>&1
    virsh -q undefine "$name" --nvram --managed-save --snapshots-metadata --checkpoints-metadata >/dev/null 2>&1 ||
        virsh -q undefine "$name" >/dev/null 2>&1
done
rm -f {disks}/*.qcow2 {shared}/*.qcow2 {consoles}/*.log
virsh -q list --all --name
"""


@dataclass(frozen=True)
class Guest:
    """A guest: where it answers and where it belongs."""

    plan: GuestPlan
    networks: Networks
    instance: int

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def home(self) -> str:
        """The host that the scenario puts it on."""
        return self.plan.host

    @property
    def address(self) -> str:
        return self.networks.guests.guest(self.plan.number)

    @property
    def uuid(self) -> str:
        return guest_uuid(self.instance, self.name)


def start_script(guests: Iterable[Guest], host: Host, *, kvm: bool) -> str:
    """Return the shell script that defines and starts guests on a host; it stops at the first that fails.

    Those that run are left alone: a killed `up` may have left a script like this one at work, and this one then waits
    for its end and does the rest.
    """
    lines = ["set -e", "exec 2>&1", f"exec 9>{LOCK}; flock 9"]
    for guest in guests:
        lines += [f'if [ "$(virsh -q domstate {guest.name} 2>/dev/null)" != running ]; then']
        lines += [*_start_one(guest, host, kvm=kvm), "fi"]
    return "\n".join(lines)


def _start_one(guest: Guest, host: Host, *, kvm: bool) -> list[str]:
    plan = guest.plan
    key = (
        host.settings.ssh_key.with_suffix(".pub").read_text(encoding="ascii").strip() if plan.system == "debian" else ""
    )
    xml = domain_xml.definition(plan, guest.networks, instance=guest.instance, kvm=kvm, ssh_key=key)
    place = f"/run/lab-{plan.name}.xml"
    # A guest that is there but does not run, paused by a broken migration for one, is of no use to anybody.
    lines = [f"virsh -q destroy {plan.name} >/dev/null 2>&1 || true"]
    disk = shlex.quote(domain_xml.file_of_disk(plan))
    if plan.system == "debian":
        lines.append(f"rm -f {disk}; qemu-img convert -O qcow2 {rootfs.DEBIAN_PLACE}/disk.raw {disk}")
    elif plan.disk_mib and plan.disk_on in FILES:
        lines.append(f"rm -f {disk}; qemu-img create -q -f qcow2 {disk} {plan.disk_mib}M")
    return [
        *lines,
        f"printf %s {shlex.quote(xml)} > {place}",
        f"virsh -q define {place}",
        f"virsh -q start {plan.name}",
    ]


def clear_script() -> str:
    """Return the shell script that removes every guest from a host and prints those that would not go."""
    return CLEAR_ALL.format(
        lock=LOCK, disks=rootfs.DISK_PLACE, shared=rootfs.SHARED_PLACE, consoles=rootfs.CONSOLE_PLACE
    )


def running_on(host: Host, timeout: float = 15.0) -> set[str]:
    """Return the guests that a host's libvirtd shows as running."""
    if not host.is_running():
        return set()
    out = host.ssh("virsh -q list --state-running --name", check=True, timeout=timeout).stdout
    return set(out.split())
