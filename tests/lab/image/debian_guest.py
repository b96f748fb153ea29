# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk of the lab's Debian guest: UEFI boot, systemd, a guest agent, and PostgreSQL with pgbench at work.

It is made once and kept in the cache: a raw file with a GPT, a system partition with systemd-boot, and an ext4 root.
Nothing is mounted to write the partitions, so a killed run leaves only a draft.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from lab.common.command import run
from lab.common.errors import LabError
from lab.common.progress import Say
from lab.common.settings import Settings
from lab.machine import mount

from . import base_image

RELEASE = "trixie"
SETUP = Path(__file__).with_name("debian-guest.sh")
MIB = 1 << 20
SECTORS = MIB // 512
#: The system partition begins after the first MiB, as every partitioning tool does it.
ESP_START_MIB, ESP_MIB = 1, 96
#: Room on the root for what the database writes.
SPARE_MIB = 384
PARTITIONS = """label: gpt
start={esp_start}, size={esp_size}, type=uefi
start={root_start}, size={root_size}, type=linux
"""
LOADER = "timeout 0\ndefault debian.conf\n"
ENTRY = """title Debian
linux /vmlinuz
initrd /initrd.img
options root=LABEL=lab-root rw console=ttyS0 quiet panic=-1 mitigations=off
"""


def path_of(settings: Settings) -> Path:
    """Return the folder that has the disk."""
    return settings.cache / "debian-guest"


def disk_of(settings: Settings) -> Path:
    return path_of(settings) / "disk.raw"


def _digest(agent: Path) -> str:
    parts = (SETUP, Path(__file__), agent)
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


def ensure(settings: Settings, say: Say) -> None:
    """Make the disk, if it is missing or its recipe has changed. The agent must have been compiled."""
    folder, agent = path_of(settings), settings.cache / "programs" / "agent"
    mark = folder / "digest"
    if mark.exists() and mark.read_text(encoding="ascii") == _digest(agent):
        return
    say("Debian guest: making its disk (once, about three minutes)")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    root = folder / "root"
    packages = settings.cache / "packages" / RELEASE
    packages.mkdir(parents=True, exist_ok=True)
    base_image.bootstrap(RELEASE, root, packages)
    shutil.copy(agent, root / "usr/local/bin/lab-agent")
    _set_up(root, packages)
    say("Debian guest: writing its partitions")
    _write_disk(folder, root)
    shutil.rmtree(root)
    mark.write_text(_digest(agent), encoding="ascii")


def _set_up(root: Path, packages: Path) -> None:
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    script = root / "root/setup"
    shutil.copy(SETUP, script)
    archives = root / "var/cache/apt/archives"
    mounts: list[list[str | Path]] = [
        ["--bind", packages, archives],
        ["-t", "proc", "proc", root / "proc"],
        ["-t", "tmpfs", "shm", root / "dev/shm"],
    ]
    places = [Path(words[-1]) for words in mounts]
    (root / "dev/shm").mkdir(exist_ok=True)
    try:
        for words in mounts:
            run(["mount", *words])
        with base_image.nothing_started(root):
            run(["chroot", root, "/bin/sh", "/root/setup"], environment=base_image.plain_environment())
    finally:
        for place in reversed(places):
            mount.unmount(place)
    script.unlink()
    (root / base_image.APT_OPTIONS).unlink()
    (root / "etc/resolv.conf").unlink()


def _write_disk(folder: Path, root: Path) -> None:
    esp, system, draft = folder / "esp.img", folder / "root.img", folder / "disk.new"
    _write_esp(esp, root)
    # The boot loader reads them from the system partition.
    for path in (root / "boot").iterdir():
        path.unlink() if path.is_file() or path.is_symlink() else shutil.rmtree(path)
    used = int(run(["du", "--summarize", "--block-size=1M", root]).stdout.split()[0])
    root_mib = used * 5 // 4 + SPARE_MIB
    run(["truncate", f"--size={root_mib}M", system])
    run(["mke2fs", "-q", "-t", "ext4", "-L", "lab-root", "-d", root, system])
    root_start_mib = ESP_START_MIB + ESP_MIB
    run(["truncate", f"--size={root_start_mib + root_mib + 1}M", draft])
    table = PARTITIONS.format(
        esp_start=ESP_START_MIB * SECTORS,
        esp_size=ESP_MIB * SECTORS,
        root_start=root_start_mib * SECTORS,
        root_size=root_mib * SECTORS,
    )
    run(["sfdisk", "--quiet", draft], given=table)
    for part, start_mib in ((esp, ESP_START_MIB), (system, root_start_mib)):
        run(["dd", f"if={part}", f"of={draft}", "bs=1M", f"seek={start_mib}", "conv=notrunc,sparse", "status=none"])
        part.unlink()
    draft.rename(folder / "disk.raw")


def _write_esp(esp: Path, root: Path) -> None:
    """Write the system partition: the boot loader where every firmware looks for one, the kernel and its ramdisk."""
    files: dict[str, Path | str] = {
        "EFI/BOOT/BOOTX64.EFI": root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi",
        "vmlinuz": _newest(root / "boot", "vmlinuz-*"),
        "initrd.img": _newest(root / "boot", "initrd.img-*"),
        "loader/loader.conf": LOADER,
        "loader/entries/debian.conf": ENTRY,
    }
    run(["truncate", f"--size={ESP_MIB}M", esp])
    run(["mformat", "-i", esp, "-F", "::"])
    for folder in ("EFI", "EFI/BOOT", "loader", "loader/entries"):
        run(["mmd", "-i", esp, f"::{folder}"])
    for place, content in files.items():
        if isinstance(content, Path):
            run(["mcopy", "-i", esp, content, f"::{place}"])
        else:
            run(["mcopy", "-i", esp, "-", f"::{place}"], given=content)


def _newest(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise LabError(f"{folder} has no {pattern}", "Delete the image in the cache, and run `up` again.")
    return found[-1]
