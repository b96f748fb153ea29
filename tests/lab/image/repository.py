# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are to be upgraded: what they begin with, and a small package repository with what is newer.

They have no way out of the lab to fetch anything. apt itself fetches it once, through an image of the release, and
checks it against the archive's signatures; hosts then see it as a folder.

They begin with the QEMU of the release's security archive. That of trixie itself, 10.0.13, gives every virtio device
queues of 1024 entries, which QEMU 11.1 refuses to take over: "VQ 0 vring.num 1024 exceeds allocated max 256". No guest
with such a device that was started on it can move on.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from lab.common.command import run
from lab.common.errors import LabError
from lab.common.progress import Say
from lab.common.settings import Settings
from lab.machine import mount

from . import base_image

#: Where hosts see it.
PLACE = "/srv/packages"
NEWER = ("qemu-system-x86", "qemu-utils", "qemu-block-extra")
#: All that must be of one version.
TOGETHER = (*NEWER, "qemu-system-common", "qemu-system-data")
# Ansible's module for apt installs it when it is missing.
TOOLS = ("python3-apt",)
# Changes with what goes into a repository.
REVISION = "2"
# Like real backports: nothing of it is installed unless somebody asks for this suite by its name.
RELEASE_FILE = """Origin: kvmops lab
Suite: {suite}
Codename: {suite}
Date: Tue, 24 Nov 2026 00:00:00 UTC
NotAutomatic: yes
SHA256:
 {digest} {size} Packages
"""


def suite_of(release: str) -> str:
    """Return the name of a release's backports."""
    return f"{release}-backports"


def path_of(settings: Settings, release: str) -> Path:
    """Return where the packages are."""
    return settings.cache / "repositories" / suite_of(release)


def layer_of(settings: Settings, release: str) -> Path:
    """Return the layer over a release's image that has the QEMU to begin with."""
    return settings.cache / "repositories" / f"{release}-security.layer"


def source_line() -> str:
    """Return the line of sources.list with which a host finds it."""
    return f"deb [trusted=yes] file:{PLACE} ./\n"


def ensure(settings: Settings, release: str, say: Say) -> None:
    """Make the repository and the layer of a release, if they are missing."""
    folder, older = path_of(settings, release), layer_of(settings, release)
    mark = folder.with_suffix(".revision")
    if mark.exists() and mark.read_text(encoding="ascii") == REVISION:
        return
    say(f"packages of {suite_of(release)}: fetching them (once)")
    mark.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    work = folder.with_suffix(".work")
    with _layer(settings, release, work, folder) as root:
        _fetch(root, release)
    _write_index(folder, suite_of(release))
    shutil.rmtree(older, ignore_errors=True)
    with _layer(settings, release, work, None) as root:
        _go_back(root, release)
        (work / "upper").rename(older)
    mark.write_text(REVISION, encoding="ascii")


@contextlib.contextmanager
def _layer(settings: Settings, release: str, work: Path, archives: Path | None) -> Iterator[Path]:
    """Mount an empty layer over a release's image, and a folder for what apt fetches; nothing of it stays."""
    shutil.rmtree(work, ignore_errors=True)
    mount.overlay(str(base_image.path_of(settings, release)), work)
    root = work / "root"
    place = root / "var/cache/apt/archives"
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    try:
        run(["mount", "--bind", archives, place] if archives else ["mount", "-t", "tmpfs", "tmpfs", place])
        yield root
    finally:
        for each in (place, root):
            mount.unmount(each)
        shutil.rmtree(work, ignore_errors=True)


def _apt(root: Path, *words: str) -> str:
    return run(["chroot", root, *words], environment=base_image.plain_environment()).stdout


def _use(root: Path, archive: str, suite: str) -> Path:
    """Let apt know one more suite."""
    sources = root / "etc/apt/sources.list.d/lab.list"
    sources.write_text(f"deb {archive} {suite} main\n", encoding="ascii")
    _apt(root, "apt-get", "update")
    return sources


def _fetch(root: Path, release: str) -> None:
    """Fetch what is newer in the backports, and what a host needs to install it."""
    _use(root, base_image.mirror(), suite_of(release))
    get = ("apt-get", "install", "--yes", "--no-install-recommends", "--download-only")
    _apt(root, *get, "--target-release", suite_of(release), *NEWER)
    _apt(root, *get, *TOOLS)
    archives = root / "var/cache/apt/archives"
    shutil.rmtree(archives / "partial", ignore_errors=True)
    (archives / "lock").unlink(missing_ok=True)


def _go_back(root: Path, release: str) -> None:
    """Install the QEMU of the security archive."""
    sources = _use(root, f"{base_image.mirror()}-security", f"{release}-security")
    known = _apt(root, "apt-cache", "madison", NEWER[0])
    versions = [line.split("|")[1].strip() for line in known.splitlines() if f" {release}-security/" in line]
    if not versions:
        raise LabError(f"{release}-security has no {NEWER[0]}", "Ask for a release that was upgraded for security.")
    wanted = [f"{package}={versions[0]}" for package in TOGETHER]
    with base_image.nothing_started(root):
        _apt(root, "apt-get", "install", "--yes", "--no-install-recommends", "--allow-downgrades", *wanted)
    sources.unlink()


def _write_index(folder: Path, suite: str) -> None:
    """Write what apt reads of a repository: one paragraph a package, and a file that vouches for them."""
    packages = sorted(folder.glob("*.deb"))
    if not any(package.name.startswith(NEWER[0]) for package in packages):
        raise LabError(f"{suite} has no newer {NEWER[0]}", "Ask for a release whose backports have one.")
    index = "\n".join(_paragraph(package) for package in packages).encode()
    (folder / "Packages").write_bytes(index)
    digest = hashlib.sha256(index).hexdigest()
    text = RELEASE_FILE.format(suite=suite, digest=digest, size=len(index))
    (folder / "Release").write_text(text, encoding="ascii")


def _paragraph(package: Path) -> str:
    fields = run(["dpkg-deb", "--field", package]).stdout
    content = package.read_bytes()
    place = f"Filename: ./{package.name}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
    return fields + place
