# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders that take no byte more. Before the run they are put on small file systems, so that nothing else fills up."""

from __future__ import annotations

from .scene import Scene

STATE = "/var/lib/kvmops"
IMAGES = "/var/lib/libvirt/images"
ROOT = (STATE, "/root/.ansible", "/tmp", "/var/tmp")  # noqa: S108 - of the host of a lab
STATE_KIB, IMAGES_KIB = 2048, 65536
FILLER = "faults-filler"


def small_state(scene: Scene) -> None:
    """Put the state folder of the source on a file system of its own."""
    _small(scene, scene.source, [STATE], STATE_KIB)


def small_root(scene: Scene) -> None:
    """Put the folders of the source that a run writes to on file systems of their own."""
    _small(scene, scene.source, ROOT, STATE_KIB)


def small_images(scene: Scene) -> None:
    """Put the image folders of the possible destinations on file systems of their own."""
    for host in scene.lab.hosts:
        if host != scene.source:
            _small(scene, host, [IMAGES], IMAGES_KIB)


def _small(scene: Scene, host: str, folders: list[str] | tuple[str, ...], kib: int) -> None:
    for folder in folders:
        mount = f"mkdir -p {folder} && mount -t tmpfs -o size={kib}k,mode=0755 tmpfs {folder}"
        scene.lab.host(host).ssh(mount, check=True)


def unmount(scene: Scene) -> None:
    """Take the file systems away again."""
    for name in scene.lab.hosts:
        for folder in (*ROOT, IMAGES):
            scene.lab.host(name).ssh(f"! mountpoint -q {folder} || umount -l {folder}")


def fill_state(scene: Scene) -> None:
    """Fill the state folder of the source."""
    _fill(scene, scene.source, [STATE])


def fill_root(scene: Scene) -> None:
    """Fill all folders of the source that a run writes to."""
    _fill(scene, scene.source, ROOT)


def fill_images(scene: Scene) -> None:
    """Fill the image folder of the destination."""
    _fill(scene, scene.destination, [IMAGES])


def _fill(scene: Scene, host: str, folders: list[str] | tuple[str, ...]) -> None:
    files = [f"{folder}/{FILLER}" for folder in folders]
    # To the last byte: blocks first, then what is left of the last one.
    fill = "; ".join(
        f"dd if=/dev/zero of={file} bs=64k; dd if=/dev/zero of={file} bs=1 oflag=append conv=notrunc count=4096"
        for file in files
    )
    scene.mend.append(lambda: scene.shells.run(host, f"rm -f {' '.join(files)}", wait=True))
    scene.shells.run(host, fill, wait=True)
