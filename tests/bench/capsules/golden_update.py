# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian machine that three hosts of another site have: a package is installed in it, and the update is distributed.

What goes to each host is counted outside of the hosts, on the cables and on the line between the sites. Beside it
stands what must travel at least (the 4 KiB blocks in which both disks differ, compressed), the size of the package
itself, and what rsync sends of the same disk.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import traffic
from harness.module_steps import Step, run
from harness.operator import Operator
from lab import Lab, LabError, debian

from . import by_hand, what_changed
from .site_lab import LEFT

SCENARIO = Path(__file__).resolve().parents[1] / "scenarios" / "update.yml"
GUEST, SOURCE, CANARY, FAR = "golden", "h1", "h2", ("h2", "h3", "h4")
LINE_MBIT = 200
#: Installed in the guest from a file: 6 MB, 16 MB unpacked, needs no other package. The lab's hosts have it, so the lab
#: has fetched it, and checked it against the archive's signatures.
PACKAGE = "ovmf"
#: The file is in memory, and apt keeps no index: what is on the disk afterwards is what the package wants there.
INSTALL = """set -e
base64 -d >/run/package.deb
apt-get install --yes --no-install-recommends -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= /run/package.deb
rm /run/package.deb
sync
"""
#: A golden machine does nothing by itself.
QUIET = "systemctl stop pgbench postgresql && sync"
#: What a host may be sent: for what changed, compressed, and for the size of the package; of one copy, for three hosts.
FACTOR, PACKAGE_FACTOR, ONE_COPY_FACTOR = 1.2, 2.0, 1.2
RAW = "/root/golden-{}.raw"


@contextmanager
def wide_lab(lab: Lab, folder: Path) -> Iterator[Lab]:
    """Bring up the lab of this part, and then the one of the bench again."""
    there = Lab.up(SCENARIO)
    # Without KVM the guest boots for minutes, so it is not started anew for nothing.
    if there.host(SOURCE).ssh(f"test -e {LEFT[0]}").returncode == 0:
        there = there.reset(SCENARIO, forget=LEFT)
    yield there
    if there.scenario.machines != lab.scenario.machines:
        Lab.up(folder / "scenario.yml")


def update(lab: Lab, _operator: Operator, folder: Path) -> list[dict[str, Any]]:
    """Distribute the machine, install the package, distribute the update; return a row for it, and one for rsync."""
    with wide_lab(lab, folder) as there:
        operator = Operator(there, folder)
        try:
            return _update(there, operator)
        finally:
            operator.leave()


def _update(lab: Lab, operator: Operator) -> list[dict[str, Any]]:
    debian.shell(lab.settings, lab.guest(GUEST).address, QUIET)
    lab.fault.slow_line(0)
    distribute(operator, "first")
    return _updated(lab, operator)


def _updated(lab: Lab, operator: Operator) -> list[dict[str, Any]]:
    guest, before = lab.guest(GUEST), newest(operator, "before")
    package = _package(lab)
    content = base64.b64encode(package.read_bytes()).decode("ascii")
    debian.shell(lab.settings, guest.address, INSTALL, given=content)
    lab.fault.slow_line(LINE_MBIT)
    counted = Counters(lab)
    seconds = distribute(operator, "update")
    sent = counted.since()
    after = newest(operator, "after")
    changed = what_changed.between(lab.host(SOURCE), before, after, "qcow2")
    size = package.stat().st_size
    rows = [
        {"case": "update", "way": "distribute", "seconds": seconds, "package_bytes": size, "changed": changed, **sent}
    ]
    rows.append({"case": "update", "way": "rsync", **by_rsync(lab, before, after)})
    for row in rows:
        row["told"] = told(row, changed, size)
    return rows


def distribute(operator: Operator, name: str) -> float:
    """Run the playbook; return the seconds that it took."""
    done = operator.run(
        "distribute",
        distribute_guest=GUEST,
        distribute_source=SOURCE,
        distribute_destinations=list(FAR),
        distribute_canary=CANARY,
        distribute_save=True,
    )
    operator.write(f"distribute-{name}.log", done.text)
    if done.status:
        raise LabError(f"distribute ({name}) failed", f"See {operator.folder}/distribute-{name}.log.")
    return round(done.seconds, 1)


def newest(operator: Operator, name: str) -> str:
    """Return the file on the source with the guest's disk as the newest capsule has it."""
    found = run(operator, name, [Step("info", SOURCE, "capsule_info", {"guest": GUEST})])["info"]
    last = max(found["capsules"], key=lambda capsule: int(capsule["number"]))
    image = last["disks"][0]["image"]
    return str(next(each["path"] for each in found["images"] if each["image"] == image))


class Counters:
    """Bytes to and from each host since now."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._before = self._now()

    def _now(self) -> dict[str, tuple[int, int]]:
        hosts = {host: (traffic.into(self._lab, [host]), traffic.out_of(self._lab, [host])) for host in FAR}
        return {**hosts, "line": self._lab.line().bytes}

    def since(self) -> dict[str, Any]:
        """Return the bytes over the line, there and back, and for each host those of its own copy, in both directions.

        The first host gets its copy over the line and passes it on, so of its cable only what is the line's is its own.
        """
        now = self._now()
        counted = {
            name: tuple(after - before for after, before in zip(now[name], self._before[name], strict=True))
            for name in now
        }
        copies = {host: sum(counted["line" if host == CANARY else host]) for host in FAR}
        return {"bytes_there": counted["line"][0], "bytes_back": counted["line"][1], "copies": copies}


def by_rsync(lab: Lab, before: str, after: str) -> dict[str, Any]:
    """Send the same update of a raw image to one host with rsync; return the bytes over the line."""
    source, far = lab.host(SOURCE), lab.host(CANARY)
    old, new = RAW.format("old"), RAW.format("new")
    source.ssh(
        f"qemu-img convert -U -O raw {before} {old} && qemu-img convert -U -O raw {after} {new}",
        check=True,
        timeout=600,
    )
    lab.fault.slow_line(0)
    source.ssh(f"rsync -aS {old} root@{CANARY}:{old}", check=True, timeout=600)
    lab.fault.slow_line(LINE_MBIT)
    start = lab.line().bytes
    source.ssh(f"{by_hand.RSYNC} {new} root@{CANARY}:{old}", check=True, timeout=1200)
    there, back = (now - then for now, then in zip(lab.line().bytes, start, strict=True))
    source.ssh(f"rm {old} {new}", check=True)
    far.ssh(f"rm {old}", check=True)
    return {"bytes_there": there, "bytes_back": back, "copies": {CANARY: there + back}}


def _package(lab: Lab) -> Path:
    release = lab.host(SOURCE).plan.release
    found = sorted((lab.settings.cache / "packages" / release).glob(f"{PACKAGE}_*.deb"))
    if not found:
        raise LabError(
            f"the lab's cache has no package {PACKAGE}",
            f"Delete images/{release} in {lab.settings.cache}, and run `up` again.",
        )
    return found[-1]


def told(row: dict[str, Any], changed: dict[str, Any], package_bytes: int) -> str:
    """Return a row for people: a copy beside what changed and the package, and the line beside a copy."""
    most, least = max(row["copies"].values()), min(row["copies"].values())
    mb, compressed = 1e6, changed["compressed_bytes"]
    text = (
        f"capsule: update, {row['way']}: {most / mb:.2f} MB to a host at most; {changed['blocks']} blocks changed,"
        f" {compressed / mb:.2f} MB compressed ({most / compressed:.3f}, limit {FACTOR});"
        f" the package has {package_bytes / mb:.2f} MB ({most / package_bytes:.2f}, limit {PACKAGE_FACTOR:g})"
    )
    if len(row["copies"]) > 1:
        copies = row["bytes_there"] / least
        text += f"; the source sent {copies:.3f} of one copy for {len(row['copies'])} hosts (limit {ONE_COPY_FACTOR})"
    return text
