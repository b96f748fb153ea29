# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Between two strategies: guests come home over links without limits, and go on with their work."""

from __future__ import annotations

import shlex
import time

from harness import actual_state
from harness.tidy import CORDON_UUID, tidy
from lab import Lab, LabError

#: Where a host notes the driver that moves its guests away (peers.py).
DRIVER_PID = "/run/kvmops-bench.pid"
#: Nobody moves guests any more who was left over from a bench that was killed. The host is open again, and its runs are
#: forgotten; what it has learned about guests and paths stays.
REOPEN = f"""
if [ -e {DRIVER_PID} ]; then
    pid=$(cat {DRIVER_PID})
    if grep -q python3 /proc/$pid/cmdline 2>/dev/null; then
        kill -KILL $pid
        for name in $(virsh -q list --name); do virsh -q domjobabort "$name" >/dev/null 2>&1; done
    fi
    rm -f {DRIVER_PID}
fi
rm -rf /var/lib/kvmops/maintenance.json /var/lib/kvmops/runs /etc/ansible/facts.d/kvmops.fact /root/.ansible_async
virsh -q secret-undefine {CORDON_UUID} >/dev/null 2>&1
true
"""
#: After which guests are taken to be at their usual work again.
SETTLE_S = 2.0


def bring_home(lab: Lab) -> Lab:
    """Bring all guests home, open all hosts, and limit the links again as the scenario says."""
    for host in lab.hosts.values():
        host.ssh(REOPEN)
        lab.fault.slow_link(host.name, 0)
    for name in lab.hosts:
        _send_home(lab, name)
    if actual_state.places(lab) != {guest.name: guest.home for guest in lab.guests.values()}:
        lab = tidy(lab)
    limit(lab, None)
    time.sleep(SETTLE_S)
    return lab


def limit(lab: Lab, mbit: float | None) -> None:
    """Limit the migration links of all hosts; None: as the scenario says."""
    for host in lab.hosts.values():
        lab.fault.slow_link(host.name, host.plan.link_mbit if mbit is None else mbit)


def _send_home(lab: Lab, host: str) -> None:
    for guest in actual_state.active_on(lab, host):
        home = lab.guests[guest].home if guest in lab.guests else host
        if home == host:
            continue
        words = ["virsh", "-q", "migrate", "--live", "--p2p", "--persistent", "--undefinesource", "--timeout", "20",
                 guest, f"qemu+tcp://{home}/system"]  # fmt: skip
        try:
            lab.host(host).ssh(shlex.join(words), timeout=60)
        except LabError:
            # What does not come home is started anew there, by tidy.
            continue
