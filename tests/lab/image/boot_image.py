# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guests boot: Debian's cloud kernel and an initial ramdisk with busybox, the drivers and the agent."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab.common.command import run
from lab.common.settings import SOURCES, Settings

from . import kernel

DRIVERS = ("virtio_pci", "virtio_net", "virtio_balloon", "virtio_blk", "button", "evdev")
# What busybox's acpid does when the power button is pressed.
POWER_BUTTON = "etc/acpi/PWRF/00000080"
BUSYBOX = Path("/bin/busybox")


def kernel_path(settings: Settings) -> Path:
    return settings.guest_boot / "vmlinuz"


def initrd_path(settings: Settings) -> Path:
    return settings.guest_boot / "initrd.gz"


def prober_path(settings: Settings) -> Path:
    return settings.cache / "programs" / "prober"


def relay_path(settings: Settings) -> Path:
    return settings.cache / "programs" / "relay"


def ensure_programs(settings: Settings) -> None:
    """Compile agent, prober and relay, when their sources are newer."""
    programs = settings.cache / "programs"
    programs.mkdir(parents=True, exist_ok=True)
    _compile(SOURCES / "guest/agent/agent.c", programs / "agent", ["-static", "-pthread"])
    _compile(SOURCES / "probe" / "prober.c", programs / "prober", [])
    _compile(SOURCES / "line" / "relay.c", programs / "relay", [])


def _compile(source: Path, program: Path, options: list[str]) -> None:
    digest = _digest([source, SOURCES / "guest/agent/protocol.h"])
    mark = program.with_suffix(".digest")
    if program.exists() and mark.exists() and mark.read_text(encoding="ascii") == digest:
        return
    # Another lab may be running the old one.
    draft = program.with_suffix(f".{os.getpid()}")
    run(["gcc", "-O2", "-Wall", *options, "-o", draft, source])
    draft.replace(program)
    mark.write_text(digest, encoding="ascii")


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()


def ensure(settings: Settings) -> None:
    """Make kernel and ramdisk, when they are missing or out of date. The programs must be there."""
    folder = settings.guest_boot
    folder.mkdir(parents=True, exist_ok=True)
    tree = kernel.ensure(settings)
    parts = [settings.cache / "programs" / "agent", SOURCES / "guest/agent/init", Path(__file__), Path(kernel.__file__)]
    digest = _digest(parts) + tree.name
    mark = folder / "digest"
    if mark.exists() and mark.read_text(encoding="ascii") == digest:
        return
    shutil.copy(kernel.image(tree), kernel_path(settings))
    draft = folder / "initrd.new"
    draft.write_bytes(gzip.compress(archive(_files(settings, tree)), 6))
    draft.replace(initrd_path(settings))
    mark.write_text(digest, encoding="ascii")


# ---- the ramdisk -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One file of a ramdisk."""

    path: str
    mode: int
    content: bytes = b""


def _files(settings: Settings, tree: Path) -> Iterator[Entry]:
    for folder in ("bin", "dev", "proc", "sys", "modules", "etc", "etc/acpi", "etc/acpi/PWRF"):
        yield Entry(folder, stat.S_IFDIR | 0o755)
    yield Entry(POWER_BUTTON, stat.S_IFREG | 0o755, b"#!/bin/sh\nexec /bin/busybox poweroff -f\n")
    yield Entry("bin/busybox", stat.S_IFREG | 0o755, BUSYBOX.read_bytes())
    yield Entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    yield Entry("bin/agent", stat.S_IFREG | 0o755, (settings.cache / "programs" / "agent").read_bytes())
    yield Entry("init", stat.S_IFREG | 0o755, (SOURCES / "guest/agent/init").read_bytes())
    order = kernel.drivers(tree, DRIVERS)
    for name, content in order:
        yield Entry(f"modules/{name}", stat.S_IFREG | 0o644, content)
    yield Entry("modules/order", stat.S_IFREG | 0o644, "".join(f"{name}\n" for name, dummy in order).encode("ascii"))


def archive(entries: Iterable[Entry]) -> bytes:
    """Return a cpio archive of the kind that the kernel unpacks ("newc")."""
    parts: list[bytes] = []
    for inode, entry in enumerate(entries, start=1):
        parts.append(_member(inode, entry))
    parts.append(_member(0, Entry("TRAILER!!!", 0)))
    return b"".join(parts)


def _member(inode: int, entry: Entry) -> bytes:
    name = entry.path.encode("utf-8") + b"\0"
    numbers = [inode, entry.mode, 0, 0, 1, 0, len(entry.content), 0, 0, 0, 0, len(name), 0]
    head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name
    return _padded(head) + _padded(entry.content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
