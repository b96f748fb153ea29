# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process behind each host: it runs systemd-nspawn, and runs it again when the host reboots.

python3 -m lab.host.supervisor h1
"""

from __future__ import annotations

import signal
import subprocess
import sys

from lab.common.settings import Settings, from_environment
from lab.layout.scenario import HostPlan, Scenario
from lab.machine import background, cgroup, process

from .container import command, environment_for, nspawn_record

# nspawn's own exit status for "the container wants to be started again".
REBOOT = 133


def supervise(settings: Settings, host: HostPlan) -> int:
    """Run a host until it is switched off or dies."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    cgroup.join(settings.control_group(host.name), host.memory_mib)
    while True:
        child = subprocess.Popen(
            command(settings, host), stdin=subprocess.DEVNULL, env=environment_for(host.release), cwd="/"
        )
        process.remember(nspawn_record(settings, host.name), child.pid)
        status = child.wait()
        nspawn_record(settings, host.name).unlink(missing_ok=True)
        print(f"lab: nspawn ended with status {status}", flush=True)
        if status != REBOOT:
            return 0


def main() -> int:
    if not background.wait_for_word(int(sys.argv[2])):
        return 1
    settings = from_environment()
    scenario = Scenario.from_json((settings.state / "lab.json").read_text(encoding="utf-8"))
    return supervise(settings, scenario.host(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
