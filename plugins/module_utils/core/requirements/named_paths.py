# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Files, directories, sockets and programs of a host that a guest's definition names.

What QEMU or libvirt makes anew at the destination is not among them; the directory that it is made in is.
"""

from __future__ import annotations

import posixpath
import typing as t
import xml.etree.ElementTree as ET

#: Where swtpm is on the distributions that have it; libvirt looks for it along its own path.
SWTPM = "/usr/bin/swtpm"
NUMAD = "/usr/bin/numad"
PASST = "/usr/bin/passt"
VHOST_VSOCK = "/dev/vhost-vsock"
#: The kernel's control of caches and memory bandwidth.
RESCTRL = "/sys/fs/resctrl/schemata"
#: How a socket, or a directory, begins to be described.
SOCKET, DIRECTORY, SHARED_DIRECTORY = "socket", "directory", "shared directory"

#: Sources of random numbers that every kernel has.
_RANDOM = frozenset(("/dev/random", "/dev/urandom"))
#: Directories that libvirt makes itself.
_OF_LIBVIRT = frozenset(("/var/lib/libvirt/qemu/nvram", "/var/lib/libvirt/qemu/varstore", "/var/log/libvirt/qemu"))

#: Where the XML names a file that must exist, the attribute that names it, and what it is for the guest.
_FILES = (
    ("os/loader", None, "firmware"),
    ("os/nvram", "template", "template of the firmware's variables"),
    ("os/varstore", "template", "template of the firmware's variables"),
    ("os/kernel", None, "kernel"),
    ("os/shim", None, "shim of the kernel"),
    ("os/initrd", None, "initrd"),
    ("os/dtb", None, "device tree"),
    ("os/acpi/table", None, "ACPI table"),
    ("sysinfo/entry", "file", "fw_cfg file"),
    ("blkiotune/device/path", None, "device with I/O limits"),
    ("devices/disk/source/identity", "keyfile", "SSH key of a disk"),
    ("devices/disk/source/identity", "knownHosts", "list of SSH hosts of a disk"),
    ("devices/filesystem/source", "dir", SHARED_DIRECTORY),
    ("devices/filesystem/source", "socket", f"{SOCKET} of a {SHARED_DIRECTORY}"),
    ("devices/filesystem/binary", "path", "virtiofsd"),
    ("devices/graphics/gl", "rendernode", "GPU of a display"),
    ("devices/hostdev/rom", "file", "ROM of a device"),
    ("devices/interface/backend", "tap", "device of an interface"),
    ("devices/interface/backend", "vhost", "device of an interface"),
    ("devices/interface/downscript", "path", "script of an interface"),
    ("devices/interface/rom", "file", "ROM of an interface"),
    ("devices/interface/script", "path", "script of an interface"),
    ("devices/interface[@type='vdpa']/source", "dev", "vDPA device"),
    ("devices/shmem/server", "path", f"{SOCKET} of shared memory"),
    ("devices/video/model/acceleration", "rendernode", "GPU of a display"),
)
#: The same for what is made anew in its directory.
_MADE = (
    ("os/nvram", None, "the firmware's variables"),
    ("os/nvram/source", "file", "the firmware's variables"),
    ("os/varstore", "path", "the firmware's variables"),
    ("devices/console[@type='file']/source", "path", "the output of a port"),
    ("devices/channel[@type='file']/source", "path", "the output of a port"),
    ("devices/parallel[@type='file']/source", "path", "the output of a port"),
    ("devices/serial[@type='file']/source", "path", "the output of a port"),
    ("devices/*/log", "file", "the output of a port"),
    ("devices/memory/source/path", None, "memory in a file"),
    ("devices/pstore/path", None, "the persistent store"),
)
#: Sockets that QEMU connects to, and does not make.
_CONNECTED = ("devices//source[@mode='connect']", "devices/interface[@type='vhostuser']/source[@mode='client']")

Named = tuple[str, str, str]


def named_paths(root: ET.Element) -> t.Iterator[Named]:
    """(kind, path, what it is for the guest) of each; the kind is C(file), or C(program) for what may be elsewhere."""
    for path, attribute, what in _FILES:
        for name in _names(root, path, attribute):
            yield "file", name, what
    for path, attribute, what in _MADE:
        for name in _names(root, path, attribute):
            yield from _made(name, what)
    yield from _sockets(root)
    for backend in root.iterfind("devices/rng/backend[@model='random']"):
        name = (backend.text or "").strip()
        if name.startswith("/") and name not in _RANDOM:
            yield "file", name, "source of random numbers"
    if root.find("devices/vsock") is not None:
        yield "file", VHOST_VSOCK, "device for vsock"
    if root.find("cputune/cachetune") is not None or root.find("cputune/memorytune") is not None:
        yield "file", RESCTRL, "control of caches"
    yield from _programs(root)


def _names(root: ET.Element, path: str, attribute: str | None) -> t.Iterator[str]:
    for element in root.iterfind(path):
        name = ((element.get(attribute) if attribute else element.text) or "").strip()
        if name.startswith("/"):
            yield name


def _made(name: str, what: str) -> t.Iterator[Named]:
    if name.startswith("/dev/"):
        yield "file", name, f"device of {what}"
        return
    directory = posixpath.dirname(posixpath.normpath(name))
    if directory not in _OF_LIBVIRT:
        yield "file", directory, f"{DIRECTORY} of {what}"


def _sockets(root: ET.Element) -> t.Iterator[Named]:
    for path in _CONNECTED:
        for source in root.iterfind(path):
            again = source.find("reconnect")
            name = source.get("path") or ""
            # Who connects again and again starts without it.
            if name.startswith("/") and (again is None or again.get("enabled") != "yes"):
                yield "file", name, f"{SOCKET} of a device"


def _programs(root: ET.Element) -> t.Iterator[Named]:
    if root.find("devices/tpm/backend[@type='emulator']") is not None:
        yield "program", SWTPM, "emulator of the TPM"
    if any(root.find(path) is not None for path in ("vcpu[@placement='auto']", "numatune/memory[@placement='auto']")):
        yield "program", NUMAD, "chooser of NUMA cells"
    if root.find("devices/interface/backend[@type='passt']") is not None:
        yield "program", PASST, "network program"
