# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host with one guest, as far as saving and starting it goes: its disk is a raw file, and its layers are marks."""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

UUID = "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"
XML = """<domain type='qemu'><name>db1</name><uuid>0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10</uuid>
<os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os><devices>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{disk}'/><target dev='vda'/></disk>
</devices></domain>"""
CAPABILITIES = "<capabilities><host/></capabilities>"
MEMORY = b"LibvirtQemudSave" + b"memory" * 999


class Died(BaseException):
    """The module was killed."""


class LibvirtError(Exception):
    def get_error_code(self) -> int:
        return 1


LIBVIRT = SimpleNamespace(
    libvirtError=LibvirtError,
    VIR_ERR_NO_DOMAIN=42,
    VIR_DOMAIN_PAUSED=3,
    VIR_DOMAIN_JOB_NONE=0,
    VIR_DOMAIN_XML_SECURE=1,
    VIR_DOMAIN_XML_INACTIVE=2,
    VIR_DOMAIN_SAVE_PARAM_FILE="file",
    VIR_DOMAIN_SAVE_PARAM_IMAGE_FORMAT="image_format",
    VIR_DOMAIN_UNDEFINE_KEEP_NVRAM=1,
    VIR_DOMAIN_UNDEFINE_NVRAM=2,
    VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY=1,
    VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC=2,
    VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA=4,
    VIR_DOMAIN_SNAPSHOT_CREATE_QUIESCE=8,
)


class NoDomainError(LibvirtError):
    def get_error_code(self) -> int:
        return 42


class FakeHost:
    """libvirtd of a host with one guest; it is its own connection and its own domain.

    Args:
        folder: where its disk is.

    Attributes:
        active: whether the guest runs.
        defined: whether libvirt knows it.
        live: what it runs with; None: it is off.
        persistent: what it starts with.
        starts: with its host.
        fails: names of calls that libvirt refuses.
        calls: what was asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.disk = folder / "db1.img"
        self.disk.write_bytes(b"content" * 1000)
        self.persistent: str = XML.format(disk=self.disk)
        self.live: str | None = self.persistent
        self.starts = 1
        self.defined = True
        self.uuid, self.called = UUID, "db1"
        self.fails: set[str] = set()
        self.calls: list[str] = []

    @property
    def active(self) -> bool:
        return self.live is not None

    def paths(self, xml: str | None) -> list[str]:
        root = ET.fromstring(xml or "<domain/>")
        return [source.get("file", "") for source in root.findall("devices/disk/source")]

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.fails:
            raise LibvirtError(f"{name} does not work")

    # The connection

    def lookupByName(self, name: str) -> FakeHost:  # noqa: N802
        if not self.defined or name != self.called:
            raise NoDomainError("no such guest")
        return self

    def lookupByUUIDString(self, uuid: str) -> FakeHost:  # noqa: N802
        if not self.defined or uuid != self.uuid:
            raise NoDomainError("no such guest")
        return self

    def getLibVersion(self) -> int:  # noqa: N802
        return 11_003_000

    def getVersion(self) -> int:  # noqa: N802
        return 10_000_013

    def getCapabilities(self) -> str:  # noqa: N802
        return CAPABILITIES

    def defineXML(self, xml: str) -> FakeHost:  # noqa: N802
        self._call("define")
        self.persistent = xml
        self.defined = True
        self.called, self.uuid = str(ET.fromstring(xml).findtext("name")), str(ET.fromstring(xml).findtext("uuid"))
        return self

    def create(self) -> None:
        self._call("create")
        self.live = self.persistent

    def undefineFlags(self, flags: int) -> None:  # noqa: N802
        self.defined = False

    def saveImageGetXMLDesc(self, path: str, flags: int) -> str:  # noqa: N802
        return Path(path + ".xml").read_text(encoding="utf-8")

    def restoreFlags(self, path: str, xml: str, flags: int) -> None:  # noqa: N802
        self._call("restore")
        assert Path(path).read_bytes() == MEMORY
        assert not self.active
        self.live = xml

    def listAllDomains(self, flags: int = 0) -> list[FakeHost]:  # noqa: N802
        return [self] if self.defined else []

    # The guest

    def connect(self) -> FakeHost:
        return self

    def name(self) -> str:
        return self.called

    def UUIDString(self) -> str:  # noqa: N802
        return self.uuid

    def isActive(self) -> int:  # noqa: N802
        return int(self.active)

    def isPersistent(self) -> int:  # noqa: N802
        return 1

    def state(self) -> list[int]:
        return [1, 0]

    def autostart(self) -> int:
        return self.starts

    def setAutostart(self, value: int) -> None:  # noqa: N802
        self.starts = value

    def XMLDesc(self, flags: int) -> str:  # noqa: N802
        return self.persistent if flags & LIBVIRT.VIR_DOMAIN_XML_INACTIVE or self.live is None else self.live

    def hasManagedSaveImage(self, flags: int) -> int:  # noqa: N802
        return 0

    def jobInfo(self) -> list[int]:  # noqa: N802
        return [0]

    def blockJobInfo(self, target: str, flags: int) -> dict[str, t.Any]:  # noqa: N802
        return {}

    def listAllCheckpoints(self, flags: int) -> list[t.Any]:  # noqa: N802
        return []

    def memoryStats(self) -> dict[str, int]:  # noqa: N802
        return {"actual": 131072, "rss": 90000}

    def info(self) -> list[int]:
        return [1, 131072, 131072, 1, 0]

    def saveParams(self, parameters: dict[str, str], flags: int) -> None:  # noqa: N802
        self._call("save")
        path = Path(parameters["file"])
        path.write_bytes(MEMORY)
        Path(f"{path}.xml").write_text(self.live or "", encoding="utf-8")
        self.live = None

    def snapshotCreateXML(self, xml: str, flags: int) -> None:  # noqa: N802
        self._call("snapshot")
        path = ET.fromstring(xml).find("disks/disk/source").get("file")
        Path(path).write_bytes(b"")
        for name in ("live", "persistent"):
            root = ET.fromstring(getattr(self, name))
            root.find("devices/disk/source").set("file", path)
            setattr(self, name, ET.tostring(root, encoding="unicode"))
