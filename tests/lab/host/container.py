# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host is started: as a process of its own, in a session of its own, that outlives the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lab.common.errors import LabError
from lab.common.settings import SOURCES, Settings
from lab.image import debian_guest, repository
from lab.layout.scenario import HostPlan
from lab.machine import process

from .rootfs import BOOT_PLACE, DEBIAN_PLACE, SHARED_PLACE

#: What a supervisor is told once it is written down.
GO = b"go"


def supervisor_record(settings: Settings, host: str) -> Path:
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
        PYTHONPATH=str(SOURCES.parent),
        KVMOPS_LAB_STATE=str(settings.state),
        KVMOPS_LAB_CACHE=str(settings.cache),
        KVMOPS_LAB_INSTANCE=str(settings.instance),
    )
    told, tell = os.pipe()
    with log.open("ab") as output:
        first = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.supervisor", host, str(tell)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment,
            pass_fds=[tell],
            start_new_session=True,
        )
    os.close(tell)
    # The supervisor is the child of that child, which ends at once: no process here counts the work of guests.
    with os.fdopen(told) as answer:
        number = answer.readline()
    if not number:
        raise LabError(f"the supervisor of {host} did not start", f"See {log}.")
    supervisor = int(number)
    # It waits for its word: begun by a command that dies here, it would boot the host when another command already has.
    assert first.stdin is not None
    with first.stdin as word:
        process.remember(supervisor_record(settings, host), supervisor)
        word.write(GO)
    first.wait()


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
        # A real host lets its root have it; nspawn would not, whatever the capabilities.
        "--system-call-filter=pidfd_getfd",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
        "--console=pipe",
        "--bind=/dev/net/tun",
        f"--bind-ro={settings.guest_boot}:{BOOT_PLACE}",
        f"--bind={settings.shared}:{SHARED_PLACE}",
    ]
    if host.has_debian:
        words.append(f"--bind-ro={debian_guest.path_of(settings)}:{DEBIAN_PLACE}")
    if host.updates == "backports":
        words.append(f"--bind-ro={repository.path_of(settings, host.release)}:{repository.PLACE}")
    if Path("/dev/kvm").exists():
        words.append("--bind=/dev/kvm")
    return words


def environment_for(release: str) -> dict[str, str]:
    """Return the environment of nspawn; systemd from 258 on boots on the new control groups only."""
    extra = {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"} if release == "testing" else {}
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **extra}
