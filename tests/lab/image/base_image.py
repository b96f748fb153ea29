# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Base images of the hosts: Debian with systemd, sshd, libvirtd and QEMU, made once a release and then shared."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from lab.common.command import run
from lab.common.errors import LabError
from lab.common.progress import Say
from lab.common.settings import Settings
from lab.machine import mount

FIRST = ("systemd", "systemd-sysv", "dbus", "ca-certificates")
PACKAGES = (
    # The server of testing no longer brings the client along, which libvirtd starts.
    "openssh-client",
    "openssh-server",
    "python3",
    "python3-libvirt",
    "libvirt-daemon-system",
    "libvirt-clients",
    "qemu-system-x86",
    "qemu-utils",
    # QEMU's own initiator of iSCSI, and what the storage server offers it with.
    "qemu-block-extra",
    "tgt",
    # What a guest with UEFI and a TPM needs.
    "ovmf",
    "swtpm",
    "swtpm-tools",
    # What capsules are read, written and compressed with, and what their bench is held against.
    "python3-libnbd",
    "python3-zstandard",
    "zstd",
    "iproute2",
    # Which Debian installs by default.
    "nftables",
    # What a user who is not root does as root, one command at a time.
    "sudo",
    "rsync",
)
# Changes with what goes into an image, so that an old one in the cache is not taken for a new one.
REVISION = "6"
ROOM_MIB = 4096
#: In an image: how its apt reaches the mirror, and what its dpkg unpacks.
APT_OPTIONS = "etc/apt/apt.conf.d/90lab"
DPKG_CONFIGURATION = "etc/dpkg/dpkg.cfg.d/lab"
#: An image that is half made is thrown away, so nothing need be written to the disk at once. Nobody reads its manuals.
DPKG_OPTIONS = """force-unsafe-io
path-exclude=/usr/share/doc/*
path-exclude=/usr/share/man/*
path-exclude=/usr/share/locale/*
"""


def mirror() -> str:
    """Return the Debian mirror that this machine itself uses."""
    folder = Path("/etc/apt")
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        for address in re.findall(r"^(?:URIs:|deb )\s*(?:\[[^]]*\]\s*)?(\S+)", path.read_text(encoding="utf-8"), re.M):
            if address.rstrip("/").endswith("/debian"):
                return str(address).rstrip("/")
    raise LabError("no Debian mirror in /etc/apt", "The lab makes Debian hosts; run it on a Debian machine.")


def path_of(settings: Settings, release: str) -> Path:
    return settings.cache / "images" / release


def ensure(settings: Settings, release: str, say: Say) -> Path:
    """Return the base image of a release; made when it is missing."""
    image = path_of(settings, release)
    mark = image.with_suffix(".revision")
    if mark.exists() and mark.read_text(encoding="ascii") == REVISION:
        return image
    _check_room(settings.cache)
    say(f"image {release}: making it (once, about a minute)")
    draft = image.with_suffix(".draft")
    _discard(settings, draft)
    draft.parent.mkdir(parents=True, exist_ok=True)
    packages = settings.cache / "packages" / release
    packages.mkdir(parents=True, exist_ok=True)
    bootstrap(release, draft, packages, PACKAGES)
    shutil.copy("/etc/resolv.conf", draft / "etc/resolv.conf")
    for host_key in (draft / "etc/ssh").glob("ssh_host_*"):
        host_key.unlink()
    mark.unlink(missing_ok=True)
    _discard(settings, image)
    draft.rename(image)
    mark.write_text(REVISION, encoding="ascii")
    return image


def _check_room(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free >> 20
    if free < ROOM_MIB:
        raise LabError(
            f"{folder}: {free} MiB free, a base image needs up to {ROOM_MIB}",
            "Make room, or point KVMOPS_LAB_CACHE at a larger disk.",
        )


def _discard(settings: Settings, folder: Path) -> None:
    """Delete an image, after whatever a killed run left mounted in it."""
    for place in mount.of_lab(settings):
        if place.is_relative_to(folder):
            mount.unmount(place)
    shutil.rmtree(folder, ignore_errors=True)


def bootstrap(release: str, root: Path, packages: Path, wanted: Iterable[str] = ()) -> None:
    """Make a minimal Debian in a folder that does not exist, with more packages.

    Args:
        release: code name.
        root: where.
        packages: a folder that keeps what was downloaded.
        wanted: packages beside those of a minimal system.
    """
    with tempfile.TemporaryDirectory(prefix="kvmops-lab-") as scratch:
        settings = Path(scratch)
        (settings / "apt").write_text(apt_options(), encoding="utf-8")
        (settings / "dpkg").write_text(DPKG_OPTIONS, encoding="ascii")
        prepare = (
            f'set -e; archives="$1/var/cache/apt/archives"; mkdir -p "$archives" "$1/etc/dpkg/dpkg.cfg.d"; '
            f'cp {settings}/apt "$1/{APT_OPTIONS}"; cp {settings}/dpkg "$1/{DPKG_CONFIGURATION}"; '
            f'mount --bind {shlex.quote(str(packages))} "$archives"'
        )
        run(
            [
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                "--quiet",
                f"--include={','.join((*FIRST, *wanted))}",
                "--skip=download/empty,essential/unlink,cleanup/apt/cache",
                "--aptopt=APT::Keep-Downloaded-Packages true",
                # The list of testing is valid for a week, and the mirror of a machine may be frozen.
                f"--aptopt=Acquire::Check-Valid-Until {str(release != 'testing').lower()}",
                # bookworm has /usr merged by links that a package would make too late.
                "--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr",
                f"--setup-hook={prepare}",
                '--customize-hook=umount "$1/var/cache/apt/archives"',
                # Else apt in the host keeps what it downloads, which Debian's own does not.
                '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
                release,
                root,
                mirror(),
            ],
            environment=plain_environment(),
        )


def plain_environment() -> dict[str, str]:
    """Return what apt needs of an environment, and nothing of the caller's."""
    return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}


@contextlib.contextmanager
def nothing_started(root: Path) -> Iterator[None]:
    """Keep packages from starting anything while they are configured in a folder that is not running."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def apt_options() -> str:
    """Return how this machine's apt reaches the mirror (a proxy, a frozen date), but none of its hooks."""
    lines = run(["apt-config", "dump"]).stdout.splitlines()
    return "".join(f"{line}\n" for line in lines if line.startswith(("Acquire::http", "Acquire::Check-")))


def copy_apt_options(root: Path) -> None:
    """Let apt in a root reach the mirror as this machine does."""
    (root / APT_OPTIONS).write_text(apt_options(), encoding="utf-8")


def remove(settings: Settings, release: str) -> None:
    """Forget a base image."""
    image = path_of(settings, release)
    image.with_suffix(".revision").unlink(missing_ok=True)
    _discard(settings, image)


def versions(image: Path) -> dict[str, str]:
    """Return the versions of libvirt and QEMU in an image, from its package database."""
    found: dict[str, str] = {}
    status = (image / "var/lib/dpkg/status").read_text(encoding="utf-8")
    for paragraph in status.split("\n\n"):
        name = re.search(r"^Package: (.*)$", paragraph, re.M)
        version = re.search(r"^Version: (?:\d+:)?([0-9.]+)", paragraph, re.M)
        if name and version and name[1] in ("libvirt-daemon", "qemu-system-x86"):
            found["libvirt" if "libvirt" in name[1] else "qemu"] = version[1].rstrip(".")
    return found
