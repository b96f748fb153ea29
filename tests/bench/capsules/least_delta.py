# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a delta costs beside what changed: 5 % of the blocks of 1 GiB, scattered, and the memory of a guest that writes.

All that crosses the line is counted, in both directions: digests, headers and acknowledgements too. What changed is
counted by comparing both images. None of it compresses.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from harness.module_steps import run
from harness.operator import Operator
from lab import Host, Lab

from . import by_hand, site_lab, thin_line, what_changed
from .by_hand import IMAGES

LINE_MBIT = 200
DISK_MIB = 1024
SCATTERED = {
    "name": "scattered",
    "host": "h1",
    "memory_mib": 96,
    "touched_mib": 1,
    "disk": DISK_MIB,
    "disk_on": "local",
    "disk_writes_per_s": 0,
}
DIRTYING = {
    "name": "dirtying",
    "host": "h1",
    "memory_mib": 192,
    "touched_mib": 96,
    "hot_mib": 48,
    "pages_per_s": 1000,
    "disk_on": "local",
    "disk_writes_per_s": 0,
}
WRITTEN = 0.05
DIRTY_S = 20.0
DISK_LIMIT, MEMORY_LIMIT = 1.08, 1.3
STORE = "/var/lib/libvirt/capsules/images"
#: Writes a share of the blocks of a disk anew, at random places.
SCATTER = """
import nbd, random, sys
path, mib, share = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
chance = random.Random(5)
image = nbd.NBD()
image.connect_systemd_socket_activation(["qemu-nbd", "--format=qcow2", path])
for block in chance.sample(range(mib * 256), int(mib * 256 * share)):
    image.pwrite(chance.randbytes(4096), block * 4096)
image.flush()
image.shutdown()
"""


def delta(lab: Lab, operator: Operator, folder: Path) -> list[dict[str, Any]]:
    """Both cases, and rsync of the same images beside each."""
    return [*_disk(lab, operator, folder), *_memory(lab, operator, folder)]


def _disk(lab: Lab, operator: Operator, folder: Path) -> list[dict[str, Any]]:
    lab = site_lab.fresh(lab, folder, [SCATTERED])
    way = site_lab.put_on_base(lab, "scattered", ["h1", "h2"])
    site_lab.seal(operator, way, ["h1", "h2"])
    host = lab.host("h1")
    host.ssh("virsh -q destroy scattered", check=True)
    lab.fault.slow_line(0)
    before = run(operator, "delta-disk", thin_line.seed("scattered", "h1", ["h2"]))["saved"]["disks"][0]
    top = host.ssh("virsh -q domblklist scattered | awk '{print $2}'", check=True).stdout.strip()
    host.ssh_with(f"python3 - {top} {DISK_MIB} {WRITTEN}", SCATTER, timeout=300)
    return _again(lab, operator, "delta-disk-again", "scattered", Case("5 % of 1 GiB, scattered", before, DISK_LIMIT))


class Case:
    """A disk or a memory of which the far end has an earlier image.

    Attributes:
        name: of the case.
        before: what capsule_save said of that image.
        limit: bytes over the line for each byte that changed.
    """

    def __init__(self, name: str, before: dict[str, Any], limit: float) -> None:
        self.name = name
        self.before = before
        self.limit = limit


def _memory(lab: Lab, operator: Operator, folder: Path) -> list[dict[str, Any]]:
    lab = site_lab.fresh(lab, folder, [DIRTYING])
    lab.fault.slow_line(0)
    before = run(operator, "delta-memory", thin_line.seed("dirtying", "h1", ["h2"]))["saved"]["memory"]
    time.sleep(DIRTY_S)
    return _again(
        lab, operator, "delta-memory-again", "dirtying", Case("memory of a guest that writes", before, MEMORY_LIMIT)
    )


def _again(lab: Lab, operator: Operator, name: str, guest: str, case: Case) -> list[dict[str, Any]]:
    lab.fault.slow_line(LINE_MBIT)
    start = lab.line().bytes
    found = run(operator, name, thin_line.seed(guest, "h1", ["h2"]))
    sent = _since(lab, start)
    memory = "format" in case.before
    after = found["saved"]["memory"] if memory else found["saved"]["disks"][0]
    kind = "raw" if memory else "qcow2"
    old, new = _path(case.before), _path(after)
    changed = what_changed.between(lab.host("h1"), old, new, kind)
    rows = [{"case": case.name, "way": "capsule_send", **sent, "sent": found["sent"]["hosts"]}]
    rows.append({"case": case.name, "way": "rsync", **_rsync(lab, old, new, kind)})
    for row in rows:
        row |= {"changed": changed, "limit": case.limit}
        row["told"] = told(row)
    return rows


def _path(image: dict[str, Any]) -> str:
    """The file of an image on the source: a disk is where the guest's chain is, memory is in the store."""
    return str(image.get("path") or f"{STORE}/{image['image'].partition(':')[2]}.raw")


def _since(lab: Lab, start: tuple[int, int]) -> dict[str, int]:
    there, back = (now - then for now, then in zip(lab.line().bytes, start, strict=True))
    return {"bytes_there": there, "bytes_back": back}


def _raw(host: Host, path: str, kind: str, target: str) -> None:
    host.ssh(f"rm -f {target}; qemu-img convert -U -f {kind} -O raw {path} {target}", check=True, timeout=600)


def _rsync(lab: Lab, old: str, new: str, kind: str) -> dict[str, int]:
    """Send the new image to a host that has the old one, both as raw files."""
    source, images = lab.host("h1"), (f"{IMAGES}/rsync-old.raw", f"{IMAGES}/rsync-new.raw")
    for path, target in zip((old, new), images, strict=True):
        _raw(source, path, kind, target)
    lab.fault.slow_line(0)
    source.ssh(f"rsync -aS {images[0]} root@h2:{images[0]}", check=True, timeout=600)
    lab.fault.slow_line(LINE_MBIT)
    start = lab.line().bytes
    source.ssh(f"{by_hand.RSYNC} {images[1]} root@h2:{images[0]}", check=True, timeout=1200)
    sent = _since(lab, start)
    for host in ("h1", "h2"):
        lab.host(host).ssh(f"rm -f {' '.join(images)}", check=True)
    return sent


def told(row: dict[str, Any]) -> str:
    """Return a row for people."""
    total, changed = row["bytes_there"] + row["bytes_back"], row["changed"]
    sent = f"{row['bytes_there'] / 1e6:.2f} MB there, {row['bytes_back'] / 1e6:.2f} back"
    least = f"{changed['bytes'] / 1e6:.2f} MB changed ({changed['compressed_bytes'] / 1e6:.2f} compressed)"
    ratio = f"{total / changed['bytes']:.3f} (limit {row['limit']})"
    return f"capsule: {row['case']}, {row['way']}: {sent}; {least}: {ratio}"
