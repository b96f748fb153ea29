# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host is started: as a process of its own, in a session of its own, that outlives the command."""

from __future__ import annotations

from pathlib import Path

from lab.common.settings import Settings
from lab.image import debian_guest, repository
from lab.layout.scenario import HostPlan
from lab.machine import background

from .rootfs import BOOT_PLACE, DEBIAN_PLACE, SHARED_PLACE


def supervisor_record(settings: Settings, host: str) -> Path:
    """Return where a host's supervisor is written down."""
    return settings.run / f"{host}.supervisor"


def nspawn_record(settings: Settings, host: str) -> Path:
    """Return where a host's systemd-nspawn is written down."""
    return settings.run / f"{host}.nspawn"


def start(settings: Settings, host: str) -> None:
    """Begin a host, in the background."""
    background.begin(
        settings,
        f"the supervisor of {host}",
        f"{__package__}.supervisor",
        [host],
        record=supervisor_record(settings, host),
        log=settings.host_folder(host) / "console.log",
    )


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
