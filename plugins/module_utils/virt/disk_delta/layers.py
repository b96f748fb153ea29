# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: lays overlays over the disks of a running guest, so that what is below them stays as it is,
# and takes them away again.

from __future__ import annotations

import contextlib
import os
import subprocess
import time
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.disk_delta.overlay_file import Changes, OverlayFile
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

POLL_S = 0.05
#: What an overlay takes of its file system that holds nothing yet: header, reference counts, first table.
EMPTY_BYTES = 4 * 4096


class Layer(t.NamedTuple):
    """An overlay that is laid over a disk.

    Attributes:
        target: of the disk.
        path: where the overlay will be; nothing is there.
        below: path of the image that the guest writes to now.
        form: its format.
        size_bytes: of the disk, as the guest sees it.
    """

    target: str
    path: str
    below: str
    form: str
    size_bytes: int


def lay(domain: t.Any, layers: t.Sequence[Layer]) -> None:
    """Lay overlays over disks of a running guest, all at one moment.

    Raises: libvirtError, or OSError where an overlay cannot be made. Then the guest writes to none of them.
    """
    made: list[str] = []
    try:
        for layer in layers:
            _make(layer)
            made.append(layer.path)
        lib = virt.libvirt
        flags = (
            lib.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY
            | lib.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
            | lib.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA
            | lib.VIR_DOMAIN_SNAPSHOT_CREATE_REUSE_EXT
        )
        domain.snapshotCreateXML(_snapshot_xml(domain, layers), flags)
    except (OSError, virt.libvirt.libvirtError):
        in_use = set(sources(domain).values())
        for path in made:
            if path not in in_use:
                with contextlib.suppress(OSError):
                    os.unlink(path)
        raise


def _make(layer: Layer) -> None:
    """Make an overlay that holds nothing. Its clusters have subclusters, so that a small write allocates little."""
    overlay = OverlayFile(layer.size_bytes, layer.below, layer.form, Changes(()))
    descriptor = os.open(layer.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as file:
        at = 0
        for piece in overlay.pieces():
            if piece.kind == "bytes":
                file.seek(at)
                file.write(piece.content)
            at += piece.length
        file.truncate(overlay.length)
        file.flush()
        os.fsync(file.fileno())


def _snapshot_xml(domain: t.Any, layers: t.Sequence[Layer]) -> str:
    wanted = {layer.target: layer.path for layer in layers}
    root = ET.Element("domainsnapshot")
    disks = ET.SubElement(root, "disks")
    # libvirt lays one over each disk that is not named.
    for target in sources(domain):
        path = wanted.get(target)
        disk = ET.SubElement(disks, "disk", name=target, snapshot="external" if path else "no")
        if path:
            ET.SubElement(disk, "driver", type="qcow2")
            ET.SubElement(disk, "source", file=path)
    return ET.tostring(root, encoding="unicode")


def sources(domain: t.Any) -> dict[str, str]:
    """The image that a guest writes to, by the disk's target; empty for a disk without one."""
    found = {}
    for disk in xml_text.parsed(domain.XMLDesc(0)).findall("devices/disk"):
        target, source = disk.find("target"), disk.find("source")
        if target is not None:
            found[str(target.get("dev"))] = "" if source is None else str(source.get("file") or "")
    return found


def merge(domain: t.Any, target: str, base: str, waiting: t.Callable[[], None] = lambda: None) -> None:
    """Merge all overlays of a running guest's disk into the image below them, which the guest uses then.

    A merge that another run has begun is brought to its end.

    Args:
        domain: a running guest.
        target: of the disk.
        base: path of the image below the overlays.
        waiting: called again and again while it lasts; raises to leave it.

    Raises: libvirtError, or VirtError where it ended without the guest on its image.
    """
    lib = virt.libvirt
    if not domain.blockJobInfo(target, 0):
        if sources(domain).get(target) == base:
            return
        domain.blockCommit(target, base, None, 0, lib.VIR_DOMAIN_BLOCK_COMMIT_ACTIVE)
    while domain.blockJobInfo(target, 0):
        if _is_ready(domain, target):
            domain.blockJobAbort(target, lib.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)
        waiting()
        time.sleep(POLL_S)
    if sources(domain).get(target) != base:
        raise virt.VirtError(
            refusal(
                "overlay_not_merged",
                f"disk {target} of {domain.name()} still has an overlay over {base}: merging it has ended too early",
                f"see what libvirt says (journalctl -u libvirtd), and merge it: virsh blockcommit {domain.name()} "
                f"{target} --active --pivot --base {base}",
            )
        )


def _is_ready(domain: t.Any, target: str) -> bool:
    for disk in xml_text.parsed(domain.XMLDesc(0)).findall("devices/disk"):
        name, mirror = disk.find("target"), disk.find("mirror")
        if name is not None and name.get("dev") == target:
            return mirror is not None and mirror.get("ready") == "yes"
    return False


def merge_left(overlays: t.Sequence[str], base: str) -> None:
    """Merge the overlays of a disk that no guest uses any more into the image below them, and remove them.

    Args:
        overlays: their paths, the lowest one first. Those that are gone were merged before.
        base: path of the image below them.

    Raises: VirtError where that cannot be; nothing is lost then.
    """
    there = [path for path in overlays if os.path.lexists(path)]
    if not there:
        return
    command = ["qemu-img", "commit", "-q", "-f", "qcow2", "-d", "-b", base, there[-1]]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        why = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        why = str(error)
    if why:
        raise virt.VirtError(
            refusal(
                "overlay_not_merged",
                f"{there[-1]} could not be merged into {base}: {why}",
                f"see what keeps it (fuser {there[-1]}), and run this again",
            )
        )
    # The upper ones first: what is left of a chain must be whole.
    for path in reversed(there):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
