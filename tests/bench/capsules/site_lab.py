# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab of two sites with a few guests, and disks that stand on a base which both sites have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.module_steps import Step, run
from harness.operator import Operator
from lab import Lab, LabError, agent_protocol

from .by_hand import IMAGES, Way

#: What the collection and the lab's guests leave on hosts.
LEFT = ("/var/lib/libvirt/capsules", "/var/lib/kvmops", "/run/kvmops", f"{IMAGES}/*", "/var/lib/libvirt/qemu/save/*")
#: The same on each host, and nothing in it compresses.
FILL = """
import random, sys
path, mib = sys.argv[1], int(sys.argv[2])
content = random.Random(11)
with open(path, "wb") as image:
    for piece in range(mib):
        image.write(content.randbytes(1 << 20))
"""


def scenario(hosts: Mapping[str, Any], sites: Mapping[str, Any], guests: Sequence[Mapping[str, Any]]) -> str:
    """Return the content of a scenario file."""
    return yaml.safe_dump({"hosts": dict(hosts), "sites": dict(sites), "guests": [dict(guest) for guest in guests]})


def fresh(lab: Lab, folder: Path, guests: Sequence[Mapping[str, Any]]) -> Lab:
    """Return the lab with these guests, new, and with hosts that know of no capsule."""
    original = yaml.safe_load((folder / "scenario.yml").read_text(encoding="utf-8"))
    path = folder / "guests.yml"
    path.write_text(scenario(original["hosts"], original["sites"], guests), encoding="utf-8")
    if {guest.get("system") for guest in guests} != {guest.plan.system for guest in lab.guests.values()}:
        lab = Lab.up(path)
    return lab.reset(path, forget=LEFT)


def put_on_base(lab: Lab, guest: str, hosts: Sequence[str]) -> Way:
    """Start a guest anew with a disk that stands on a base, which some hosts have; the first is its own."""
    plan = lab.guest(guest).plan
    base, disk = f"{IMAGES}/base-{plan.disk_mib}.raw", f"{IMAGES}/{guest}.qcow2"
    lab.host(hosts[0]).ssh(f"virsh -q destroy {guest}; rm -f {disk}", check=True)
    for host in hosts:
        lab.host(host).ssh_with(f"python3 - {base} {plan.disk_mib}", FILL, timeout=300)
    lab.host(hosts[0]).ssh(f"qemu-img create -q -f qcow2 -b {base} -F raw {disk} && virsh -q start {guest}", check=True)
    if agent_protocol.wait_ready(lab.guest(guest).address, 120.0) is None:
        raise LabError(f"{guest} does not start on its base", f"See virsh domstate {guest} on {hosts[0]}.")
    return Way(lab, guest, hosts[0], hosts[1], disk, plan.disk_mib or 0, base)


def seal(operator: Operator, way: Way, hosts: Sequence[str]) -> None:
    """Seal the base on each host, as an operator does once."""
    arguments = {"path": way.base, "format": "raw"}
    run(operator, "seal", [Step(f"base_{host}", host, "capsule_base", arguments) for host in hosts])


def verify(lab: Lab, guest: str) -> None:
    """Believe no move whose data is not there."""
    seen = lab.verify(guest, timeout=600.0)
    if not seen["memory_ok"] or seen["disk_ok"] is False:
        raise LabError(f"{guest}: memory or disk is damaged: {seen}", "Keep the lab, and report this.")
