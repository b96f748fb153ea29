# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one tmpfs that all labs of a machine share: systemd-nspawn insists on one where /run is an ordinary disk.

The first lab that comes up mounts it, and the last one that goes down unmounts it. A lab uses it while it has hosts
(control groups), and while a command brings its hosts up or takes them down. Such a command is written down. So two
labs that go down at once do not both leave the tmpfs to the other, and none takes it from a lab that is coming up.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from lab.common.command import run
from lab.common.settings import MOST_INSTANCES, Settings

from . import cgroup, mount, process

PLACE = Path("/run/systemd/nspawn")
#: The source of the mount, by which it is known as the lab's.
MARK = "kvmops-lab"
#: Where it is written down who uses it.
RECORDS = Path("/run")


def _record(instance: int) -> Path:
    return RECORDS / f"kvmops-lab-{instance}.nspawn"


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other labs from looking or changing meanwhile."""
    with (RECORDS / "kvmops-lab.lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_mounted() -> bool:
    return any(place == PLACE and source == MARK for source, place, dummy in mount.mounted())


def _others_use_it(settings: Settings) -> bool:
    commands = (_record(number) for number in range(MOST_INSTANCES) if number != settings.instance)
    return bool(cgroup.of_other_labs(settings)) or any(process.recall(record) for record in commands)


@contextlib.contextmanager
def used(settings: Settings) -> Iterator[None]:
    """Use it: no other lab unmounts it meanwhile."""
    with _alone():
        process.remember(_record(settings.instance), os.getpid())
    try:
        yield
    finally:
        _record(settings.instance).unlink(missing_ok=True)


def left_by(settings: Settings, host: str = "") -> list[Path]:
    """Return the mounts that killed containers of a lab, or of one of its hosts, have left there.

    From version 256 on, nspawn mounts a folder for the sockets of each container, and refuses to start one whose folder
    is mounted already.
    """
    machine = f"{settings.prefix}-{host}"
    places = (place for dummy, place, dummy in mount.mounted() if place.is_relative_to(PLACE))
    return [place for place in places if (place.name == machine if host else place.name.startswith(machine))]


def forget(settings: Settings, host: str = "") -> None:
    """Unmount what killed containers have left. None of them may run."""
    for place in left_by(settings, host):
        mount.unmount(place)


def ensure(settings: Settings) -> None:
    """Mount it unless there is a tmpfs already. Only while it is used."""
    with _alone():
        PLACE.mkdir(parents=True, exist_ok=True)
        kind = run(["stat", "-f", "-c", "%T", PLACE]).stdout.strip()
        if kind != "tmpfs":
            run(["mount", "-t", "tmpfs", "-o", "mode=0755", MARK, PLACE])


def let_go(settings: Settings) -> None:
    """Say that this lab, whose hosts are gone, does not use it any more; the last lab unmounts it."""
    with _alone():
        _record(settings.instance).unlink(missing_ok=True)
        if _is_mounted() and not _others_use_it(settings):
            mount.unmount(PLACE)


def is_left(settings: Settings) -> bool:
    """Return whether it is still mounted although no other lab uses it."""
    with _alone():
        return _is_mounted() and not _others_use_it(settings)
