# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab keeps its things and how it names them, so that two labs can live on one machine.

KVMOPS_LAB_STATE     what belongs to the running lab (default /var/lib/kvmops-lab)
KVMOPS_LAB_CACHE     what is expensive to make and may be kept (default /var/cache/kvmops-lab)
KVMOPS_LAB_INSTANCE  0-15: names of links and address ranges; use another one, and another state, for a second lab
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .errors import LabError

SOURCES = Path(__file__).parents[1]
METADATA_NAMESPACE = "https://kvmops.cluster/xmlns/guest/1"
MOST_INSTANCES = 16


@dataclass(frozen=True)
class Settings:
    """Folders and names of one lab."""

    state: Path
    cache: Path
    instance: int

    @property
    def prefix(self) -> str:
        """Begins the name of every link, namespace, control group and container of this lab."""
        return f"kvl{self.instance:x}"

    @property
    def run(self) -> Path:
        """Records of the processes that were started."""
        return self.state / "run"

    @property
    def shared(self) -> Path:
        """The folder that all hosts see."""
        return self.state / "shared"

    @property
    def devices(self) -> Path:
        """The files behind the block devices that all hosts see."""
        return self.state / "devices"

    @property
    def guest_boot(self) -> Path:
        """Kernel and initial ramdisk of the guests."""
        return self.cache / "guest"

    @property
    def ssh_key(self) -> Path:
        return self.state / "ssh" / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.state / "ssh" / "known_hosts"

    def host_folder(self, name: str) -> Path:
        return self.state / "hosts" / name

    def host_root(self, name: str) -> Path:
        return self.host_folder(name) / "root"

    def control_group(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def network_namespace(self, name: str) -> str:
        return f"{self.prefix}-{name}"


def from_environment() -> Settings:
    """Read the three variables above."""
    number = os.environ.get("KVMOPS_LAB_INSTANCE", "0")
    if not number.isdigit() or int(number) >= MOST_INSTANCES:
        raise LabError(f"KVMOPS_LAB_INSTANCE is {number!r}", f"Set it to a number from 0 to {MOST_INSTANCES - 1}.")
    suffix = "" if number == "0" else f"-{number}"
    return Settings(
        state=Path(os.environ.get("KVMOPS_LAB_STATE", f"/var/lib/kvmops-lab{suffix}")),
        cache=Path(os.environ.get("KVMOPS_LAB_CACHE", "/var/cache/kvmops-lab")),
        instance=int(number),
    )
