# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests' kernel: Debian's package for clouds, unpacked but never installed, and the drivers in it.

The packages differ from release to release. Debian 12 has its modules, plain, under lib/modules. Debian 13 has them
compressed under usr/lib/modules, and some drivers built in. Debian 14 has the kernel itself there as well, and splits
it all into several packages.
"""

from __future__ import annotations

import lzma
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from lab.common.command import run
from lab.common.errors import LabError
from lab.common.settings import Settings

META_PACKAGE = "linux-image-cloud-amd64"
PLACES = ("lib/modules", "usr/lib/modules")


# ---- the package -----------------------------------------------------------------------------------------------------


def ensure(settings: Settings) -> Path:
    """Return the folder with the unpacked package; downloaded when it is missing."""
    folder = settings.cache / "kernel"
    folder.mkdir(parents=True, exist_ok=True)
    trees = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.endswith(".draft"))
    if trees:
        return trees[-1]
    package = _package()
    draft = folder / f"{package}.draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    # apt-get download has no option for the place: it writes where it stands.
    run(["sh", "-c", 'cd "$1" && shift && exec apt-get download "$@"', "sh", draft, package, *_parts(package)])
    for deb in draft.glob("*.deb"):
        run(["dpkg-deb", "--extract", deb, draft])
        deb.unlink()
    return draft.rename(folder / package)


def _package() -> str:
    match = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", _dependencies(META_PACKAGE))
    if not match:
        raise LabError(f"apt does not know {META_PACKAGE}", "Run apt-get update; the lab needs Debian's own sources.")
    return match[1]


def _parts(package: str) -> list[str]:
    """Return the packages of the same kernel that a package is only the head of: none before Debian 14."""
    version = package.removeprefix("linux-image-")
    return re.findall(rf"Depends: (linux-[a-z]+-{re.escape(version)})$", _dependencies(package), re.M)


def _dependencies(package: str) -> str:
    return run(["apt-cache", "depends", package]).stdout


def image(tree: Path) -> Path:
    """Return the kernel itself in an unpacked package.

    Raises:
        LabError: there is none.
    """
    found = [*tree.glob("boot/vmlinuz-*"), *(path for place in PLACES for path in tree.glob(f"{place}/*/vmlinuz"))]
    if not found:
        raise LabError(f"{tree}: no kernel in it", _afresh(tree))
    return found[0]


def _afresh(tree: Path) -> str:
    return f"Delete {tree} and run `up` again: it downloads the kernel afresh."


# ---- the drivers -----------------------------------------------------------------------------------------------------


def drivers(tree: Path, wanted: Iterable[str]) -> list[tuple[str, bytes]]:
    """Return name and content of the modules to load, each after all that it needs.

    What is built into the kernel needs no loading and is left out.

    Raises:
        LabError: a driver is neither a module nor built in; all such are named.
    """
    modules, builtin = _modules(tree), _builtin(tree)
    loaded: dict[str, bytes] = {}
    missing: list[str] = []

    def visit(name: str, reason: str) -> None:
        if name in loaded or name in builtin:
            return
        if name not in modules:
            missing.append(name + reason)
            return
        content = _content(modules[name])
        for needed in depends(content):
            visit(needed, f" (needed by {name})")
        loaded[name] = content

    for driver in wanted:
        visit(driver, "")
    if missing:
        raise LabError(
            f"{tree.name} lacks drivers that the guests need: {', '.join(missing)}; "
            f"there is no such module under {' or '.join(PLACES)}, and modules.builtin does not list it",
            f"{_afresh(tree)} If that changes nothing, guests cannot use this kernel: report it.",
        )
    return [(f"{name}.ko", content) for name, content in loaded.items()]


def _plain(name: str) -> str:
    """Return a module's name as the kernel spells it."""
    return name.partition(".")[0].replace("-", "_")


def _modules(tree: Path) -> dict[str, Path]:
    return {_plain(path.name): path for place in PLACES for path in tree.glob(f"{place}/**/*.ko*")}


def _builtin(tree: Path) -> set[str]:
    lists = [path for place in PLACES for path in tree.glob(f"{place}/*/modules.builtin")]
    return {_plain(Path(line).name) for path in lists for line in path.read_text(encoding="utf-8").splitlines()}


def _content(path: Path) -> bytes:
    if path.suffix == ".ko":
        return path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    raise LabError(f"{path}: a module compressed as {path.suffix}", "The lab reads .ko and .ko.xz, as Debian has them.")


def depends(module: bytes) -> list[str]:
    """Return what a module says it needs, from its own .modinfo.

    >>> depends(b"x" + bytes([0]) + b"depends=virtio,virtio-ring" + bytes([0]))
    ['virtio', 'virtio_ring']
    """
    match = re.search(rb"\0depends=([^\0]*)\0", module)
    names = match[1].decode("ascii").split(",") if match else []
    return [_plain(name) for name in names if name]
