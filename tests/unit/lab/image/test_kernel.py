# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guests' drivers, out of the kernel packages of three Debian releases as they were recorded."""

from __future__ import annotations

import lzma
import re

import pytest

from lab.common.errors import LabError
from lab.image import boot_image, kernel

# Of each package: where its kernel and its modules are, what each module says it depends on, and what is built in.
BOOKWORM = {
    "image": "boot/vmlinuz-6.1.0-57-cloud-amd64",
    "folder": "lib/modules/6.1.0-57-cloud-amd64",
    "suffix": ".ko",
    "modules": {
        "kernel/drivers/virtio/virtio_pci": "virtio_ring,virtio_pci_modern_dev,virtio_pci_legacy_dev,virtio",
        "kernel/drivers/virtio/virtio_ring": "",
        "kernel/drivers/virtio/virtio_pci_modern_dev": "",
        "kernel/drivers/virtio/virtio_pci_legacy_dev": "",
        "kernel/drivers/virtio/virtio": "virtio_ring",
        "kernel/drivers/net/virtio_net": "virtio_ring,virtio,net_failover",
        "kernel/drivers/net/net_failover": "failover",
        "kernel/net/core/failover": "",
        "kernel/drivers/virtio/virtio_balloon": "virtio,virtio_ring",
        "kernel/drivers/block/virtio_blk": "virtio,virtio_ring",
        "kernel/drivers/acpi/button": "",
        "kernel/drivers/input/evdev": "",
    },
    "builtin": ["kernel/drivers/input/input-core.ko"],
    "order": [
        "virtio_ring.ko",
        "virtio_pci_modern_dev.ko",
        "virtio_pci_legacy_dev.ko",
        "virtio.ko",
        "virtio_pci.ko",
        "failover.ko",
        "net_failover.ko",
        "virtio_net.ko",
        "virtio_balloon.ko",
        "virtio_blk.ko",
        "button.ko",
        "evdev.ko",
    ],
}
TRIXIE = {
    "image": "boot/vmlinuz-6.12.117+deb13-cloud-amd64",
    "folder": "usr/lib/modules/6.12.117+deb13-cloud-amd64",
    "suffix": ".ko.xz",
    "modules": {
        "kernel/drivers/net/virtio_net": "net_failover",
        "kernel/drivers/net/net_failover": "failover",
        "kernel/net/core/failover": "",
        "kernel/drivers/virtio/virtio_balloon": "",
        "kernel/drivers/block/virtio_blk": "",
        "kernel/drivers/acpi/button": "",
        "kernel/drivers/input/evdev": "",
    },
    "builtin": ["kernel/drivers/virtio/virtio.ko", "kernel/drivers/virtio/virtio_pci.ko"],
    "order": [
        "failover.ko",
        "net_failover.ko",
        "virtio_net.ko",
        "virtio_balloon.ko",
        "virtio_blk.ko",
        "button.ko",
        "evdev.ko",
    ],
}
TESTING = {
    **TRIXIE,
    "image": "usr/lib/modules/7.2.12+deb14-cloud-amd64/vmlinuz",
    "folder": "usr/lib/modules/7.2.12+deb14-cloud-amd64",
}
RELEASES = [
    pytest.param(BOOKWORM, id="bookworm"),
    pytest.param(TRIXIE, id="trixie"),
    pytest.param(TESTING, id="testing"),
]

# What apt-cache says of the package of Debian 14, shortened.
PARTS = """\
linux-image-7.2.12+deb14-cloud-amd64
  PreDepends: linux-base
 |Depends: dracut
  Depends: <linux-initramfs-tool>
    dracut
  Depends: linux-base-7.2.12+deb14-cloud-amd64
  Depends: linux-binary-7.2.12+deb14-cloud-amd64
  Depends: linux-modules-7.2.12+deb14-cloud-amd64
  Suggests: linux-doc-7.2
"""


def unpack(root, recorded, *, without=(), suffix=None):
    """Lay out a package as recorded, except for some modules."""
    folder, suffix = root / recorded["folder"], suffix or recorded["suffix"]
    for name, needs in recorded["modules"].items():
        path = folder / f"{name}{suffix}"
        if path.name.partition(".")[0] in without:
            continue
        content = b"\x7fELF" + b"\0license=GPL\0depends=" + needs.encode() + b"\0name=x\0"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(lzma.compress(content) if suffix.endswith(".xz") else content)
    (folder / "modules.builtin").write_text("".join(f"{line}\n" for line in recorded["builtin"]), encoding="utf-8")
    image = root / recorded["image"]
    image.parent.mkdir(parents=True, exist_ok=True)
    image.write_bytes(b"kernel")
    return root


@pytest.mark.parametrize("recorded", RELEASES)
def test_each_driver_comes_after_what_it_needs(tmp_path, recorded):
    found = kernel.drivers(unpack(tmp_path, recorded), boot_image.DRIVERS)
    assert [name for name, dummy in found] == recorded["order"]
    assert all(content.startswith(b"\x7fELF") for dummy, content in found), "the guest loads what is not compressed"


@pytest.mark.parametrize("recorded", RELEASES)
def test_the_kernel_itself(tmp_path, recorded):
    assert kernel.image(unpack(tmp_path, recorded)) == tmp_path / recorded["image"]


@pytest.mark.parametrize("recorded", RELEASES)
def test_a_driver_that_is_nowhere_is_named(tmp_path, recorded):
    tree = unpack(tmp_path / "linux-image-x", recorded, without=("virtio_net", "button"))
    told = "linux-image-x lacks drivers that the guests need: virtio_net, button; "
    with pytest.raises(LabError, match=re.escape(told)) as error:
        kernel.drivers(tree, boot_image.DRIVERS)
    assert error.value.remedy.startswith(f"Delete {tree} and run `up` again")


def test_what_a_driver_needs_may_be_missing_too(tmp_path):
    tree = unpack(tmp_path, TRIXIE, without=("failover",))
    with pytest.raises(LabError, match=re.escape("failover (needed by net_failover)")):
        kernel.drivers(tree, boot_image.DRIVERS)


def test_a_tree_without_modules_lacks_them_all(tmp_path):
    told = "lacks drivers that the guests need: " + ", ".join(boot_image.DRIVERS)
    with pytest.raises(LabError, match=told):
        kernel.drivers(tmp_path, boot_image.DRIVERS)


def test_a_compression_that_debian_does_not_use_is_refused(tmp_path):
    tree = unpack(tmp_path, TRIXIE, suffix=".ko.zst")
    with pytest.raises(LabError, match=re.escape("virtio_net.ko.zst: a module compressed as .zst")):
        kernel.drivers(tree, boot_image.DRIVERS)


def test_a_tree_without_a_kernel(tmp_path):
    with pytest.raises(LabError, match="no kernel in it"):
        kernel.image(tmp_path)


@pytest.mark.parametrize(
    ("package", "said", "parts"),
    [
        ("linux-image-6.1.0-57-cloud-amd64", "  Depends: kmod\n  Depends: linux-base\n", []),
        (
            "linux-image-7.2.12+deb14-cloud-amd64",
            PARTS,
            [f"linux-{part}-7.2.12+deb14-cloud-amd64" for part in ("base", "binary", "modules")],
        ),
    ],
)
def test_the_packages_that_a_kernel_is_split_into(monkeypatch, package, said, parts):
    monkeypatch.setattr(kernel, "_dependencies", {package: said}.get)
    assert kernel._parts(package) == parts
