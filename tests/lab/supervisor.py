# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process behind each host: it runs systemd-nspawn, and runs it again when the host reboots.

It is a process of its own, in a session of its own, because a host outlives the command that started it:

    python3 -m lab.supervisor h1
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from . import cgroup, process
from .rootfs import BOOT_PLACE, SHARED_PLACE
from .scenario import HostPlan, Scenario
from .settings import Settings, from_environment

# nspawn's own exit status for "the container wants to be started again".
REBOOT = 133


def record(settings: Settings, host: str) -> Path:
    """Return where a host's supervisor is written down."""
    return settings.run / f"{host}.supervisor"


def nspawn_record(settings: Settings, host: str) -> Path:
    """Return where a host's systemd-nspawn is written down."""
    return settings.run / f"{host}.nspawn"


def start(settings: Settings, host: str) -> None:
    """Begin a host, in the background."""
    log = settings.host_folder(host) / "console.log"
    environment = dict(
        os.environ,
        PYTHONPATH=str(Path(__file__).parent.parent),
        KVMOPS_LAB_STATE=str(settings.state),
        KVMOPS_LAB_CACHE=str(settings.cache),
        KVMOPS_LAB_INSTANCE=str(settings.instance),
    )
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.supervisor", host],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    process.remember(record(settings, host), child.pid)


def command(settings: Settings, host: HostPlan) -> list[str]:
    """Return the command line that boots a host."""
    words = [
        "systemd-nspawn",
        "--quiet",
        f"--directory={settings.host_root(host.name)}",
        "--boot",
        "--register=no",
        "--keep-unit",
        f"--machine={settings.prefix}-{host.name}",
        f"--hostname={host.name}",
        f"--network-namespace-path=/run/netns/{settings.network_namespace(host.name)}",
        "--capability=all",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
        "--bind=/dev/net/tun",
        f"--bind-ro={settings.guest_boot}:{BOOT_PLACE}",
    ]
    if host.storage == "shared":
        words.append(f"--bind={settings.shared}:{SHARED_PLACE}")
    if Path("/dev/kvm").exists():
        words.append("--bind=/dev/kvm")
    return words


def environment_for(release: str) -> dict[str, str]:
    """Return the environment of nspawn; systemd from 258 on boots on the new control groups only."""
    extra = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"} if release == "testing" else {}
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **extra}


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
    settings = from_environment()
    scenario = Scenario.from_json((settings.state / "lab.json").read_text(encoding="utf-8"))
    return supervise(settings, scenario.host(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
