# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of guests that are devices of a storage server: iSCSI by tgtd, NBD by qemu-nbd.

The server is one more container of the lab, reached over the management network: what guests read and write does not
count as migration traffic.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from lab.layout.scenario import SERVED, GuestPlan

ISCSI_PORT = 3260
FIRST_NBD_PORT = 10809
TARGET = "iqn.2026-11.cluster.kvmops.lab"
FOLDER = "/srv/disks"

BEGIN = f"""set -e
mkdir -p {FOLDER}
systemctl is-active -q lab-tgtd || systemd-run -q --unit=lab-tgtd /usr/sbin/tgtd -f
for dummy in $(seq 100); do tgtadm --op show --mode sys >/dev/null 2>&1 && break; sleep 0.1; done
"""
#: An old device of the same guest goes first, with whatever is still connected to it.
ISCSI = """
tgtadm --lld iscsi --op delete --force --mode target --tid {number} 2>/dev/null || true
rm -f {file}; truncate -s {mib}M {file}
tgtadm --lld iscsi --op new --mode target --tid {number} -T {target}
tgtadm --lld iscsi --op new --mode logicalunit --tid {number} --lun 1 -b {file}
tgtadm --lld iscsi --op bind --mode target --tid {number} -I ALL
"""
#: Two clients at once: while a guest moves, both ends have its disk open.
NBD = """
systemctl stop {unit} 2>/dev/null || true
rm -f {file}; truncate -s {mib}M {file}
systemd-run -q --unit={unit} qemu-nbd -t -e 4 -f raw -x {name} -p {port} {file}
"""


def port(guest: GuestPlan) -> int:
    """Return the port on which a guest's device is offered."""
    return ISCSI_PORT if guest.disk_on == "iscsi" else FIRST_NBD_PORT + guest.number


def device_name(guest: GuestPlan) -> str:
    """Return what a definition calls the device: target and unit, or the name of the export."""
    return f"{_target(guest)}/1" if guest.disk_on == "iscsi" else guest.name


def _target(guest: GuestPlan) -> str:
    return f"{TARGET}:{guest.name}"


def offer_script(guests: Iterable[GuestPlan]) -> str:
    """Return the shell script that gives each of these guests a new, empty device, if its disk is one."""
    lines = [BEGIN]
    for guest in guests:
        if not guest.disk_mib or guest.disk_on not in SERVED:
            continue
        template = ISCSI if guest.disk_on == "iscsi" else NBD
        lines.append(
            template.format(
                number=guest.number,
                file=shlex.quote(f"{FOLDER}/{guest.name}.raw"),
                mib=guest.disk_mib,
                target=_target(guest),
                unit=f"lab-nbd-{guest.name}",
                name=guest.name,
                port=port(guest),
            )
        )
    return "".join(lines)
