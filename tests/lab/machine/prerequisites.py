# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine must have before a lab can start; Debian packages that are missing are installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from lab.common.command import last_words, run
from lab.common.errors import LabError
from lab.common.progress import Say
from lab.common.settings import Settings

# Program (or file) that must be there, and the package that brings it.
NEEDED = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "tc": "iproute2",
    "ss": "iproute2",
    "nft": "nftables",
    "busybox": "busybox-static",
    "gcc": "gcc",
    "/usr/include/stdlib.h": "libc6-dev",
    "openssl": "openssl",
    "sfdisk": "fdisk",
    "mke2fs": "e2fsprogs",
    "mcopy": "mtools",
    "ssh": "openssh-client",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
STATE_ROOM_MIB = 1024


def check_root() -> None:
    """Refuse to go on for anyone but root."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes containers, links and mounts", "Run it with sudo.")


def check_room(settings: Settings) -> None:
    """Refuse to start when the hosts' own layers would fill the disk."""
    settings.state.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(settings.state).free >> 20
    if free < STATE_ROOM_MIB:
        raise LabError(
            f"{settings.state}: {free} MiB free, the lab needs {STATE_ROOM_MIB}",
            "Make room, or point KVMOPS_LAB_STATE at a larger disk.",
        )


def missing(needed: Mapping[str, str]) -> list[str]:
    """Return the packages to install."""
    packages = {
        package
        for thing, package in needed.items()
        if not (Path(thing).exists() if thing.startswith("/") else shutil.which(thing))
    }
    return sorted(packages)


def ensure_packages(say: Say, needed: Mapping[str, str] | None = None) -> None:
    """Install what is missing, by default of `NEEDED`. apt's lists are only fetched when they do not suffice."""
    packages = missing(NEEDED if needed is None else needed)
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise LabError(
            f"missing: {', '.join(packages)}", "The lab installs them on Debian only; install them yourself."
        )
    say(f"installing {' '.join(packages)}")
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    # No service of these packages is wanted on the machine itself.
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
    if run(install, check=False, environment=environment).returncode == 0:
        return
    run(["apt-get", "update"])
    done = run(install, check=False, environment=environment)
    if done.returncode:
        raise LabError(f"apt-get install {' '.join(packages)}: {last_words(done)}", "See to apt, then run `up` again.")


def knows(package: str) -> bool:
    """Return whether apt has a package in its lists."""
    return bool(run(["apt-cache", "show", package], check=False).stdout)
