# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How to reach a host: one connection a host, kept open and shared by all who ask, Ansible among them."""

from __future__ import annotations

import shlex

from lab.common.command import run
from lab.common.settings import Settings

#: A host answers at once; a guest without KVM on a busy machine may not.
CONNECT_S = 5


def options(settings: Settings, connect_s: int = CONNECT_S) -> list[str]:
    """Return ssh's options, apart from key and user."""
    return [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        f"UserKnownHostsFile={settings.known_hosts}",
        "-o",
        "LogLevel=ERROR",
        "-o",
        f"ConnectTimeout={connect_s}",
        "-o",
        "ServerAliveInterval=5",
        "-o",
        "ServerAliveCountMax=4",
        "-o",
        "ControlMaster=auto",
        "-o",
        "ControlPersist=60s",
        "-o",
        f"ControlPath={settings.state}/ssh/%C",
    ]


def option_text(settings: Settings) -> str:
    """Return the same as one string, for an inventory."""
    return shlex.join(options(settings))


def command(settings: Settings, address: str, connect_s: int = CONNECT_S) -> list[str]:
    """Return the beginning of an ssh command line to an address."""
    return ["ssh", "-F", "none", "-i", str(settings.ssh_key), *options(settings, connect_s), f"root@{address}"]


def close(settings: Settings) -> None:
    """End every shared connection of the lab."""
    for socket in (settings.state / "ssh").glob("*"):
        if socket.is_socket():
            run(["ssh", "-F", "none", "-o", f"ControlPath={socket}", "-O", "exit", "lab"], check=False, timeout=5)
            socket.unlink(missing_ok=True)
