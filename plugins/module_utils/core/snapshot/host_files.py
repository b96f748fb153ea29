# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Parse files of a host: qemu.conf, /proc/self/mountinfo, /proc/meminfo and pressure (PSI)."""

from __future__ import annotations

import re
import typing as t

#: File systems of several hosts that libvirt takes for shared (virFileIsSharedFS, by the kernel's magic numbers).
SHARED_TYPES = frozenset(
    (
        "nfs",
        "nfs4",
        "ceph",
        "gfs",
        "gfs2",
        "ocfs2",
        "gpfs",
        "beegfs",
        "afs",
        "acfs",
        "fuse.glusterfs",
        "fuse.quobyte",
    )
)

#: File systems of several hosts too, but libvirt takes them for local ones, and refuses to migrate, unless qemu.conf
#: names the directory in shared_filesystems.
UNDECLARED_TYPES = frozenset(
    (
        "cifs",
        "smb3",
        "lustre",
        "glusterfs",
        "orangefs",
        "pvfs2",
        "vxfs",
        "weka",
        "wekafs",
        "prl_fs",
        "fuse.beegfs",
        "fuse.ceph",
        "fuse.ceph-fuse",
        "fuse.juicefs",
        "fuse.lizardfs",
        "fuse.mfs",
        "fuse.moosefs",
        "fuse.saunafs",
        "fuse.seaweedfs",
        "fuse.sshfs",
    )
)

#: The first libvirt that takes BeeGFS for shared.
LIBVIRT_BEEGFS = (9, 6, 0)

#: File systems that hold no guest's disk.
PSEUDO_TYPES = frozenset(
    (
        "autofs",
        "binfmt_misc",
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "fuse.gvfsd-fuse",
        "fuse.lxcfs",
        "hugetlbfs",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "ramfs",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "squashfs",
        "sysfs",
        "tracefs",
    )
)

#: Where no guest's disk is.
PSEUDO_PATHS = ("/proc", "/sys", "/dev", "/run")

#: The first libvirt that reads shared_filesystems in qemu.conf.
LIBVIRT_SHARED_FILESYSTEMS = (10, 10, 0)

#: libvirt takes the ports of migrations from this range, lowest first (migration_port_min and _max in qemu.conf).
FIRST_PORT, LAST_PORT = PORTS = (49152, 49215)

Setting = t.Union[str, int, list[str]]

_STRING = r'"((?:[^"\\]|\\.)*)"'
_COMMENT = r"#[^\n]*"
_SETTING = re.compile(
    rf'^[ \t]*(\w+)\s*=\s*(?:{_STRING}|(-?\d+)|\[((?:{_STRING}|{_COMMENT}|[^\]"#])*)\])', re.MULTILINE
)
_ITEM = re.compile(f"{_COMMENT}|{_STRING}")


def qemu_conf(text: str) -> dict[str, Setting]:
    """The settings of a libvirt configuration file; what cannot be read is left out.

    >>> qemu_conf('user = "root"\\n#group = "kvm"\\nshared_filesystems = [\\n  "/a", # one ]\\n  "/b"\\n]\\nmax = 1\\n')
    {'user': 'root', 'shared_filesystems': ['/a', '/b'], 'max': 1}
    """
    settings: dict[str, Setting] = {}
    for found in _SETTING.finditer(text):
        key, string, number, items = found.group(1, 2, 3, 4)
        if string is not None:
            settings[key] = _unquoted(string)
        elif number is not None:
            settings[key] = int(number)
        else:
            # An item without a string is a comment.
            settings[key] = [_unquoted(item) for item in _ITEM.findall(items or "") if item]
    return settings


def _unquoted(string: str) -> str:
    return re.sub(r"\\(.)", r"\1", string)


class _Mount(t.TypedDict):
    path: str
    type: str
    source: str
    shared: bool


class Mount(_Mount, total=False):
    """One mount. ``undeclared``: several hosts can share it, but libvirt takes it for local."""

    undeclared: bool


def mounts(mountinfo: str, overrides: t.Sequence[str] = (), *, libvirt: tuple[int, ...] | None = None) -> list[Mount]:
    """The mounts that can hold a guest's disk, in the order of their paths.

    A pseudo file system is left out, unless it is mounted below shared storage and so hides a part of it.

    Args:
        mountinfo: the text of /proc/self/mountinfo.
        overrides: directories that the operator declared shared (shared_filesystems in qemu.conf). Each is listed
            under a source that says so, because device names may differ between hosts that share it.
        libvirt: its version; None: not known.
    """
    found: dict[str, Mount] = {}
    for line in mountinfo.splitlines():
        mount = _mount(line, libvirt)
        if mount is None:
            continue
        if mount["type"] in PSEUDO_TYPES:
            above = mount_of(mount["path"], list(found.values()))
            if above is None or not (above["shared"] or above.get("undeclared")):
                continue
        # The later mount lies on top of the earlier one.
        found[mount["path"]] = mount
    for directory in overrides:
        path = directory.rstrip("/") or "/"
        below = mount_of(path, list(found.values()))
        found[path] = {
            "path": path,
            "type": below["type"] if below else "unknown",
            "source": f"{path} (shared_filesystems)",
            "shared": True,
        }
    return [found[path] for path in sorted(found)]


def _mount(line: str, libvirt: tuple[int, ...] | None) -> Mount | None:
    left, separator, right = line.partition(" - ")
    fields, tail = left.split(" "), right.split(" ")
    if not separator or len(fields) < 5 or len(tail) < 2:
        return None
    path, kind = _unescaped(fields[4]), tail[0]
    if any(path == pseudo or path.startswith(pseudo + "/") for pseudo in PSEUDO_PATHS):
        return None
    options = tail[2].split(",") if len(tail) > 2 else []
    shared = kind in SHARED_TYPES or (kind == "cifs" and "vers=1.0" in options)
    if kind == "beegfs" and libvirt is not None and libvirt < LIBVIRT_BEEGFS:
        shared = False
    mount: Mount = {"path": path, "type": kind, "source": _unescaped(tail[1]), "shared": shared}
    if not shared and (kind in UNDECLARED_TYPES or kind == "beegfs"):
        mount["undeclared"] = True
    if shared or mount.get("undeclared"):
        mount["source"] = _with_root(mount["source"], _unescaped(fields[3]), kind)
    return mount


def _with_root(source: str, root: str, kind: str) -> str:
    """The source of a mount, with the directory of the file system that is bound there.

    The kernel's source of NFS has it already, and that of SMB if the directory was named when it was mounted.

    >>> _with_root("10.9.0.1:/", "/vms", "ceph"), _with_root("//nas/g/vms", "/vms", "cifs")
    ('10.9.0.1:/vms', '//nas/g/vms')
    """
    if root == "/" or kind in ("nfs", "nfs4") or source.rstrip("/").endswith(root):
        return source
    return source.rstrip("/") + root


def mount_of(path: str, among: t.Sequence[Mount]) -> Mount | None:
    """The mount a path lies on: the deepest of those above it."""
    above = [m for m in among if path == m["path"] or path.startswith(m["path"].rstrip("/") + "/")]
    return max(above, key=lambda m: len(m["path"]), default=None)


def mounted_devices(mountinfo: str) -> dict[str, str]:
    """Where block devices are mounted: by their number, or by their path where the file system tells no number.

    >>> mounted_devices("26 1 8:17 / /mnt rw - ext4 /dev/sdb1 rw\\n27 1 0:44 / /srv rw - btrfs /dev/sdc rw\\n")
    {'8:17': '/mnt', '/dev/sdc': '/srv'}
    """
    found: dict[str, str] = {}
    for line in mountinfo.splitlines():
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if not separator or len(fields) < 5 or len(tail) < 2:
            continue
        # Of Btrfs and others, a mount has a number of its own (major 0).
        device = fields[2] if not fields[2].startswith("0:") else _unescaped(tail[1])
        if device == fields[2] or device.startswith("/dev/"):
            found.setdefault(device, _unescaped(fields[4]))
    return found


def meminfo(text: str) -> dict[str, int]:
    """/proc/meminfo in bytes; counts (HugePages_*) stay counts.

    >>> meminfo("MemAvailable:    2048 kB\\nHugePages_Total:       3\\n")
    {'MemAvailable': 2097152, 'HugePages_Total': 3}
    """
    result = {}
    for line in text.splitlines():
        found = re.match(r"(\S+):\s+(\d+)( kB)?", line)
        if found:
            result[found.group(1)] = int(found.group(2)) * (1024 if found.group(3) else 1)
    return result


def _unescaped(text: str) -> str:
    """Mountinfo writes blanks as octal numbers.

    >>> _unescaped("/my\\\\040guests")
    '/my guests'
    """
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), text)


def pressure(text: str | None) -> float | None:
    """The share of the last minute for which something was stalled, from a file of the kernel's PSI.

    None where the kernel does not tell (Documentation/accounting/psi.rst: the line C(some), in percent).

    >>> pressure("some avg10=15.10 avg60=33.07 avg300=68.33 total=13243669393"), pressure(None)
    (0.3307, None)
    """
    found = re.search(r"^some .*\bavg60=([0-9.]+)", text or "", re.MULTILINE)
    return round(float(found[1]) / 100, 4) if found else None


#: What tells one kind of CPU from another in /proc/cpuinfo: of ARM, of s390x, of POWER, of RISC-V.
_CPU_IDENTITY = (
    "CPU implementer",
    "CPU architecture",
    "CPU variant",
    "CPU part",
    "CPU revision",
    "Features",
    "features",
    "cpu",
    "revision",
    "isa",
    "marchid",
    "mimpid",
    "mvendorid",
)


def cpu_identity(cpuinfo: str | None) -> list[str] | None:
    """What /proc/cpuinfo says of the kinds of CPUs of a host; None where it says nothing.

    >>> cpu_identity("processor\\t: 0\\nCPU part\\t: 0xd0c\\n\\nprocessor\\t: 1\\nCPU part\\t: 0xd0c\\n")
    ['CPU part: 0xd0c']
    """
    pairs = (line.partition(":") for line in (cpuinfo or "").splitlines())
    return (
        sorted({f"{key.strip()}: {value.strip()}" for key, _colon, value in pairs if key.strip() in _CPU_IDENTITY})
        or None
    )
