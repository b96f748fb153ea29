# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scenarios: which hosts and guests a lab shall have. Read from YAML, checked against a schema, then by reason."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from jsonschema.exceptions import best_match

from lab.common.errors import LabError
from lab.common.settings import SOURCES

from .addresses import MOST_GUESTS, MOST_HOSTS

SCHEMA = Path(__file__).with_name("scenario.schema.json")
DEFAULT_SCENARIO = SOURCES / "scenarios" / "default.yml"

# A guest that has touched everything still needs this for its kernel.
GUEST_OVERHEAD_MIB = {"agent": 56, "debian": 320}

#: What a guest has as its disk where the scenario does not say: a file that all hosts see.
USUAL_DISK_MIB = 8
#: libvirt takes the folder that hosts share for local there, and has no setting that says otherwise.
WITHOUT_SHARED_FOLDER = ("bookworm",)

#: Writes, and reads, of a guest with a disk.
DISK_OPS_PER_S = 20

#: From one site of a country to another one, in one direction.
LINE_DELAY_MS = 40
#: What routers hold before they drop: some dozen packets on a slow line, and on a fast one what TCP needs to fill it.
SLOW_MBIT = 10
SLOW_QUEUE_MS = 400
FAST_QUEUE_MS = 100

STORAGE_SERVER = "san"
STORAGE_MEMORY_MIB = 1024
#: Kinds of disks that are devices of the storage server.
SERVED = ("iscsi", "nbd")


@dataclass(frozen=True)
class HostPlan:
    """What one host shall be."""

    name: str
    number: int
    release: str
    memory_mib: int
    link_mbit: int
    #: Whether it can be upgraded to the packages of its release's backports.
    updates: str = "none"
    #: Whether it sees the disk of the Debian guest, to make copies of it.
    has_debian: bool = False
    #: 1 or 2; migration traffic between two sites crosses the line.
    site: int = 1


@dataclass(frozen=True)
class LinePlan:
    """The line between the two sites, the same in both directions.

    Attributes:
        mbit: its rate; 0 for none.
        delay_ms: how long a bit is on the way, in one direction.
        queue_ms: a packet that would have to wait longer for those before it is dropped.
    """

    mbit: float
    delay_ms: float
    queue_ms: float


@dataclass(frozen=True)
class Phase:
    """What a guest does for some time, before it goes on to the next of its phases."""

    seconds: int
    hot_mib: int
    pages_per_s: int


@dataclass(frozen=True)
class GuestPlan:
    """What one guest shall be and do."""

    name: str
    number: int
    host: str
    memory_mib: int
    touched_mib: int
    hot_mib: int
    pages_per_s: int
    vcpus: int
    pattern: str
    disk_mib: int | None
    group: str | None
    policy: Mapping[str, Any] = field(default_factory=dict)
    content: str = "random"
    cold_pages_per_s: int = 0
    phases: tuple[Phase, ...] = ()
    #: Where its disk is: a file on its host (``local``) or in the folder that hosts share (``shared``), a block device
    #: that all hosts see (``block``), or a device of the storage server (``iscsi``, ``nbd``).
    disk_on: str = "shared"
    #: ``agent``: a kernel and the agent, nothing else. ``debian``: a whole Debian with a database, and the agent in it.
    system: str = "agent"
    #: ``uefi``: with an NVRAM file, and a TPM beside it. A Debian guest has both.
    firmware: str = "bios"
    #: What its network interface is attached to: a ``bridge``, or a ``network`` of libvirt's, which is on that bridge.
    attached_to: str = "bridge"
    #: Whether it has one more interface, on a bridge of its own.
    second_bridge: bool = False
    #: What it does with its disk: writes to the first `disk_hot_mib` of it (all, if None), and reads anywhere.
    disk_writes_per_s: float = DISK_OPS_PER_S
    disk_reads_per_s: float = DISK_OPS_PER_S
    disk_hot_mib: int | None = None
    #: Whether each block has content from the start, so that the loss of any is noticed.
    disk_filled: bool = False

    @property
    def has_own_file(self) -> bool:
        """Whether its disk is a file, which a host without shared storage must send along."""
        return self.system == "debian" or (self.disk_mib is not None and self.disk_on == "local")

    @property
    def has_firmware(self) -> bool:
        """Whether it boots by UEFI and has a TPM."""
        return self.system == "debian" or self.firmware == "uefi"

    @property
    def work_per_s(self) -> int:
        """How fast its count of written pages grows while nothing takes time from it; 0 if it does nothing."""
        cold = self.cold_pages_per_s if self.touched_mib > self.hot_mib else 0
        return (self.pages_per_s if self.hot_mib else 0) + cold


@dataclass(frozen=True)
class Scenario:
    """All hosts and guests of a lab."""

    hosts: tuple[HostPlan, ...]
    guests: tuple[GuestPlan, ...]
    #: None where all hosts are at one site.
    line: LinePlan | None = None

    @property
    def storage_server(self) -> HostPlan | None:
        """One more host, which no inventory has, where a guest's disk is a device of a storage server."""
        if not any(guest.disk_mib and guest.disk_on in SERVED for guest in self.guests):
            return None
        return HostPlan(STORAGE_SERVER, MOST_HOSTS, self.hosts[0].release, STORAGE_MEMORY_MIB, 0)

    @property
    def machines(self) -> tuple[HostPlan, ...]:
        """The hosts, and the storage server where there is one."""
        return (*self.hosts, self.storage_server) if self.storage_server else self.hosts

    def host(self, name: str) -> HostPlan:
        return next(host for host in self.machines if host.name == name)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Scenario:
        data = json.loads(text)
        line = data.get("line")
        return Scenario(
            line=LinePlan(**line) if line else None,
            hosts=tuple(HostPlan(**host) for host in data["hosts"]),
            guests=tuple(
                GuestPlan(**{**guest, "phases": tuple(Phase(**phase) for phase in guest.get("phases", ()))})
                for guest in data["guests"]
            ),
        )


def load(path: Path) -> Scenario:
    """Read a scenario file."""
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LabError(
            f"{path}: {error.strerror}", "Give the path of a scenario file, or none for the default."
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise LabError(f"{where}: not YAML: {getattr(error, 'problem', error)}", "Correct the scenario file.") from None
    return parse(data, str(path))


def parse(data: Any, origin: str = "scenario") -> Scenario:
    """Turn the content of a scenario file into a scenario, or say in one line what is wrong where."""
    _check_schema(data, origin)
    sites = data.get("sites")
    planned = tuple(_at_sites(_hosts(data["hosts"], origin), sites, origin))
    can_share = all(host.release not in WITHOUT_SHARED_FOLDER for host in planned)
    guests = tuple(_guests(data.get("guests", []), origin, USUAL_DISK_MIB if can_share else None))
    has_debian = any(guest.system == "debian" for guest in guests)
    hosts = tuple(replace(host, has_debian=has_debian) for host in planned)
    _check_sense(hosts, guests, origin)
    return Scenario(hosts, guests, _line(sites) if sites else None)


def _check_schema(data: Any, origin: str) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    validator = jsonschema.Draft202012Validator(schema)
    error = best_match(validator.iter_errors(data))
    if error is not None:
        raise _wrong(origin, _place(error.absolute_path), error.message)


def _place(path: Iterable[str | int]) -> str:
    """Return a path such as guests[2].hot_mib.

    >>> _place(["guests", 2, "hot_mib"])
    'guests[2].hot_mib'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".")


def _wrong(origin: str, place: str, message: str) -> LabError:
    return LabError(
        f"{origin}: {place + ': ' if place else ''}{message}",
        f"Correct the scenario; {SCHEMA.name} says what may stand there.",
    )


def _each(value: Any, count: int, default: Any) -> list[Any]:
    """Spread an option that is one value for all hosts, or a list of one a host."""
    if isinstance(value, list):
        return value
    return [default if value is None else value] * count


def _hosts(data: Mapping[str, Any], origin: str) -> Iterable[HostPlan]:
    count = data.get("count", 3)
    releases = _each(data.get("release"), count, "trixie")
    if len(releases) != count:
        raise _wrong(origin, "hosts.release", f"{len(releases)} releases for {count} hosts")
    for number, release in enumerate(releases, start=1):
        yield HostPlan(
            name=f"h{number}",
            number=number,
            release=release,
            memory_mib=data.get("memory_mib", 4096),
            link_mbit=data.get("link_mbit", 0),
            updates=data.get("updates", "none"),
        )


def _at_sites(hosts: Iterable[HostPlan], sites: Mapping[str, Any] | None, origin: str) -> Iterable[HostPlan]:
    """Put each host at its site: each host of the scenario is at one of the two."""
    if sites is None:
        yield from hosts
        return
    named = [name for site in sites["hosts"] for name in site]
    planned = list(hosts)
    if sorted(named) != sorted(host.name for host in planned):
        known = ", ".join(host.name for host in planned)
        raise _wrong(origin, "sites.hosts", f"each of {known} must stand there once")
    for host in planned:
        yield replace(host, site=1 if host.name in sites["hosts"][0] else 2)


def _line(sites: Mapping[str, Any]) -> LinePlan:
    mbit = sites.get("mbit", 0)
    delay = sites.get("delay_ms", LINE_DELAY_MS)
    return LinePlan(mbit=mbit, delay_ms=delay, queue_ms=sites.get("queue_ms", usual_queue_ms(mbit)))


def usual_queue_ms(mbit: float) -> float:
    """Return how long packets may wait before a line of this rate."""
    return SLOW_QUEUE_MS if mbit < SLOW_MBIT else FAST_QUEUE_MS


def _guests(data: Iterable[Mapping[str, Any]], origin: str, usual_disk: int | None) -> Iterable[GuestPlan]:
    number = 0
    for position, entry in enumerate(data):
        count = entry.get("count")
        names = [entry["name"]] if count is None else [f"{entry['name']}{i}" for i in range(1, count + 1)]
        for name in names:
            number += 1
            yield _guest(name, number, entry, usual_disk, f"{origin}: guests[{position}]")


def _guest(name: str, number: int, entry: Mapping[str, Any], usual_disk: int | None, origin: str) -> GuestPlan:
    memory = entry.get("memory_mib", 192 if entry.get("system") != "debian" else 384)
    touched = entry.get("touched_mib", 32)
    phases = tuple(Phase(**phase) for phase in entry.get("phases", ()))
    # Its work is counted in pages of the first phase.
    hot = phases[0].hot_mib if phases else entry.get("hot_mib", 0)
    system = entry.get("system", "agent")
    own = GUEST_OVERHEAD_MIB[system]
    if touched + own > memory:
        raise _wrong(origin, "touched_mib", f"{touched} MiB and the guest's own {own} do not fit into {memory}")
    if system == "debian" and entry.keys() & {"disk", "disk_on", "firmware"}:
        raise _wrong(origin, "system", "a Debian guest boots by UEFI from a file of its host: no disk, no firmware")
    hottest = max([hot, *(phase.hot_mib for phase in phases)])
    if hottest > touched:
        raise _wrong(origin, "hot_mib", f"{hottest} is more than touched_mib, {touched}")
    disk = entry.get("disk", usual_disk if system == "agent" else None)
    return GuestPlan(
        name=name,
        number=number,
        host=entry["host"],
        memory_mib=memory,
        touched_mib=touched,
        hot_mib=hot,
        pages_per_s=phases[0].pages_per_s if phases else entry.get("pages_per_s", 0),
        vcpus=entry.get("vcpus", 1),
        pattern=entry.get("pattern", "sparse"),
        disk_mib=None if disk in (None, "none") else int(disk),
        group=entry.get("group"),
        policy=dict(entry.get("policy", {})),
        content=entry.get("content", "random"),
        cold_pages_per_s=entry.get("cold_pages_per_s", 0),
        phases=phases,
        disk_on=entry.get("disk_on", "local" if system == "debian" else "shared"),
        system=system,
        firmware=entry.get("firmware", "bios"),
        attached_to=entry.get("attached_to", "bridge"),
        second_bridge=entry.get("second_bridge", False),
        disk_writes_per_s=entry.get("disk_writes_per_s", DISK_OPS_PER_S),
        disk_reads_per_s=entry.get("disk_reads_per_s", DISK_OPS_PER_S),
        disk_hot_mib=entry.get("disk_hot_mib"),
        disk_filled=entry.get("disk_filled", False),
    )


def _check_sense(hosts: tuple[HostPlan, ...], guests: tuple[GuestPlan, ...], origin: str) -> None:
    """Check what a schema cannot say."""
    for host in hosts:
        if host.updates == "backports" and host.release == "testing":
            raise _wrong(origin, "hosts.updates", "testing has no backports")
    known = {host.name for host in hosts}
    seen: set[str] = set()
    if len(guests) > MOST_GUESTS:
        raise _wrong(origin, "guests", f"{len(guests)} guests; the address range has room for {MOST_GUESTS}")
    for guest in guests:
        if guest.host not in known:
            raise _wrong(
                origin, f"guest {guest.name}: host", f"{guest.host!r} is not one of {', '.join(sorted(known))}"
            )
        if guest.name in seen:
            raise _wrong(origin, f"guest {guest.name}", "the name is used twice")
        seen.add(guest.name)
