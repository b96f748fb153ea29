# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guests boot: Debian's cloud kernel and an initial ramdisk with busybox, the drivers and the agent."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .command import run
from .errors import LabError
from .settings import SOURCES, Settings

META_PACKAGE = "linux-image-cloud-amd64"
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


def ensure_programs(settings: Settings) -> None:
    """Compile agent and prober, when their sources are newer."""
    programs = settings.cache / "programs"
    programs.mkdir(parents=True, exist_ok=True)
    _compile(SOURCES / "agent" / "agent.c", programs / "agent", ["-static", "-pthread"])
    _compile(SOURCES / "probe" / "prober.c", programs / "prober", [])


def _compile(source: Path, program: Path, options: list[str]) -> None:
    digest = _digest([source, SOURCES / "agent" / "protocol.h"])
    mark = program.with_suffix(".digest")
    if program.exists() and mark.exists() and mark.read_text(encoding="ascii") == digest:
        return
    run(["gcc", "-O2", "-Wall", *options, "-o", program, source])
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
    tree = _kernel_tree(settings)
    parts = [settings.cache / "programs" / "agent", SOURCES / "agent" / "init", Path(__file__)]
    digest = _digest(parts) + tree.name
    mark = folder / "digest"
    if mark.exists() and mark.read_text(encoding="ascii") == digest:
        return
    kernel = next(tree.glob("boot/vmlinuz-*"), None)
    if kernel is None:
        raise LabError(f"{tree}: no kernel in it", f"Delete {tree} and run `up` again.")
    shutil.copy(kernel, kernel_path(settings))
    draft = folder / "initrd.new"
    draft.write_bytes(gzip.compress(archive(_files(settings, tree)), 6))
    draft.replace(initrd_path(settings))
    mark.write_text(digest, encoding="ascii")


# ---- the kernel ------------------------------------------------------------------------------------------------------


def _kernel_tree(settings: Settings) -> Path:
    """Return Debian's cloud kernel, unpacked but never installed."""
    folder = settings.cache / "kernel"
    folder.mkdir(parents=True, exist_ok=True)
    trees = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.endswith(".draft"))
    if trees:
        return trees[-1]
    package = _kernel_package()
    draft = folder / f"{package}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    # apt-get download has no option for the place: it writes where it stands.
    run(["sh", "-c", 'cd "$1" && exec apt-get download "$2"', "sh", draft, package])
    deb = next(draft.glob("*.deb"))
    run(["dpkg-deb", "--extract", deb, draft])
    deb.unlink()
    return draft.rename(folder / package)


def _kernel_package() -> str:
    out = run(["apt-cache", "depends", META_PACKAGE]).stdout
    match = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", out)
    if not match:
        raise LabError(f"apt does not know {META_PACKAGE}", "Run apt-get update; the lab needs Debian's own sources.")
    return match[1]


# ---- the drivers -----------------------------------------------------------------------------------------------------


def _modules(tree: Path) -> dict[str, Path]:
    return {path.name.partition(".")[0].replace("-", "_"): path for path in tree.glob("lib/modules/**/*.ko*")}


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def depends(module: bytes) -> list[str]:
    """Return what a module says it needs, from its own .modinfo.

    >>> depends(b"x" + bytes([0]) + b"depends=virtio,virtio-ring" + bytes([0]))
    ['virtio', 'virtio_ring']
    """
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    names = match[1].decode("ascii").split(",") if match else []
    return [name.replace("-", "_") for name in names if name]


def _insert_order(modules: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    """Return each driver after all that it needs; what is not a module is built into the kernel."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[tuple[str, bytes]]:
        if name in done or name not in modules:
            return
        done.add(name)
        content = _content(modules[name])
        for needed in depends(content):
            yield from visit(needed)
        yield f"{name}.ko", content

    for driver in DRIVERS:
        yield from visit(driver)


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
    yield Entry("init", stat.S_IFREG | 0o755, (SOURCES / "agent" / "init").read_bytes())
    order = list(_insert_order(_modules(tree)))
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
