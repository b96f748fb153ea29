# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fresh minimal Debian in a folder, entered like a machine of its own, and removed without a trace.

What runs in it has a PID namespace and a mount namespace of its own. When the first process in there dies, the kernel
ends all others and drops all mounts; and it dies with whoever entered, however that one ends. Only control groups and
network links are the machine's: these are found by the names that the lab gives them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.common.command import run
from lab.common.errors import LabError
from lab.common.settings import Settings
from lab.image import base_image
from lab.machine import cgroup, mount, network, ownership, prerequisites, process

from . import carried

ROOM_MIB = 10 * 1024
READY = "ready\n"
#: Begins a program with processes and mounts of its own, and ends it with whoever began it.
NAMESPACES = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"),
)
#: Bash gives up as at Ctrl-C when its time is over, and for certain a minute later.
IN_TIME = ("timeout", "--signal=INT", "--kill-after=60")
TIMED_OUT = (124, 137)
#: Makes a folder a root, with the machine's devices and its own processes, and stays to collect orphans.
ENTER = f"""
set -eu
root=$1
shift
mount --bind "$root" "$root"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/run"
for folder; do
    mkdir -p "$root$folder"
    mount --bind -o ro "$folder" "$root$folder"
done
exec chroot "$root" sh -c 'echo {READY.strip()}; while true; do sleep 3600 & wait; done'
"""


def place_of(settings: Settings) -> Path:
    """Return the folder of all roots; beside the state of the lab, which may be on a larger disk."""
    place = settings.state.with_name(f"{settings.state.name}-releases")
    place.mkdir(parents=True, exist_ok=True)
    return place


@dataclass(frozen=True)
class Root:
    """The root of one release."""

    settings: Settings
    release: str

    @property
    def folder(self) -> Path:
        """Where it is."""
        return place_of(self.settings) / self.release

    @property
    def lab(self) -> Settings:
        """The lab in it, as the machine sees it: by number, with all folders in the root."""
        return Settings(state=self.folder, cache=self.folder, instance=self.settings.instance)

    @property
    def record(self) -> Path:
        """The process that holds it, written down for whoever comes after one that was killed."""
        return self.folder.with_suffix(".process")

    # ---- made and removed --------------------------------------------------------------------------------------------

    def make(self) -> None:
        """Make it afresh, from an archive in the cache where there is one."""
        free = shutil.disk_usage(self.folder.parent).free >> 20
        if free < ROOM_MIB:
            raise LabError(
                f"{self.folder.parent}: {free} MiB free, a root needs up to {ROOM_MIB}",
                "Make room, or point KVMOPS_LAB_STATE at a larger disk.",
            )
        archive = self.settings.cache / "roots" / f"{self.release}.tar"
        if not archive.exists():
            self._bootstrap(archive)
        ownership.claim(self.lab)
        self.folder.mkdir()
        run(["tar", "--extract", "--numeric-owner", "--file", archive, "--directory", self.folder])
        carried.copy_into(self.folder, self.release, *carried.of_this_user())

    def _bootstrap(self, archive: Path) -> None:
        packages = self.settings.cache / "packages" / self.release
        packages.mkdir(parents=True, exist_ok=True)
        archive.parent.mkdir(parents=True, exist_ok=True)
        prerequisites.ensure_packages(print, {"debootstrap": "debootstrap"})
        environment = base_image.plain_environment()
        words = [*NAMESPACES, "--mount-proc", "debootstrap", "--variant=minbase", f"--cache-dir={packages}"]
        run([*words, self.release, self.folder, base_image.mirror()], environment=environment)
        run(["chroot", self.folder, "apt-get", "clean"], environment=environment)
        draft = archive.with_suffix(".draft")
        pack: list[str | Path] = ["tar", "--create", "--one-file-system", "--numeric-owner", "--directory", self.folder]
        run([*pack, "--file", draft, "."])
        draft.rename(archive)
        self.remove()

    def remove(self) -> None:
        """Remove it and all that was made in it, also what a killed run left.

        Raises:
            LabError: another lab of this number is up on this machine, or something would not go.
        """
        ownership.check(self.lab)
        outer = process.recall(self.record)
        if outer is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(outer, signal.SIGKILL)
            process.wait_gone(self.record, 10.0)
        self.record.unlink(missing_ok=True)
        for name in cgroup.of_lab(self.lab):
            cgroup.remove(name)
        network.remove_all(self.lab)
        for place in mount.of_lab(self.lab):
            mount.unmount(place)
        run(["rm", "-rf", "--one-file-system", self.folder])
        left = [*cgroup.of_lab(self.lab), *network.links(self.lab)]
        if left:
            raise LabError(f"not gone: {', '.join(left)}", "Run it again; if they stay, see what holds them.")
        ownership.release(self.lab)

    # ---- used --------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def entered(self) -> Iterator[Entered]:
        """Hold it as a machine of its own, and end all that runs in it."""
        mine, home = carried.of_this_user()
        words = [*NAMESPACES, "sh", "-c", ENTER, "sh", str(self.folder)]
        words += [str(folder) for folder in carried.folders(mine, home)]
        outer = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        with outer:
            try:
                process.remember(self.record, outer.pid)
                assert outer.stdout is not None
                if outer.stdout.readline() != READY:
                    raise LabError(f"{self.folder} cannot be entered", "The lines above say why.")
                yield Entered(process.children(outer.pid)[0], self._environment(carried.environment(mine)))
            finally:
                outer.kill()
        self.record.unlink(missing_ok=True)

    def _environment(self, settings: dict[str, str]) -> dict[str, str]:
        return {
            **settings,
            **base_image.plain_environment(),
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "TERM": "dumb",
            "KVMOPS_LAB_INSTANCE": str(self.settings.instance),
        }


@dataclass(frozen=True)
class Entered:
    """A root that is held.

    Attributes:
        first: the first process in it, as the machine sees it.
        environment: the variables that a command there gets.
    """

    first: int
    environment: dict[str, str]

    def run(self, command: str, folder: str, log: Path, limit_s: float) -> int | None:
        """Run a command for bash in a folder of the root; return its exit status, None if it took too long."""
        words = ["nsenter", f"--target={self.first}", "--mount", "--pid", "--root", "--wd"]
        words += [*IN_TIME, f"{limit_s:g}", "bash", "-c", f'cd "$0" && {command}', folder]
        with log.open("wb") as output:
            child = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment,
                start_new_session=True,
            )
            try:
                status = child.wait()
            finally:
                # What it began in there ends with the root.
                child.kill()
                child.wait()
        return None if status in TIMED_OUT else status
