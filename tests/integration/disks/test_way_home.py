# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way home over an old copy of the disk, when something has happened: no write is lost, and it is said why."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import actual_state
from harness.module_steps import Step, Steps, run
from harness.operator import Operator
from harness.session import lab_beside
from lab import Lab

pytestmark = pytest.mark.soak

SCENARIO = Path(__file__).with_name("way_home.yml")
IMAGES = "/var/lib/libvirt/images"
DISK = f"{IMAGES}/store.qcow2"
DIGESTS = f"{DISK}.kvmops-digests"
PATIENCE_S = 120.0
#: The images of a host in a file system with little room.
TO_SMALL = f"""set -e
mkdir -p /srv/small && mount -t tmpfs -o size=150m tmpfs /srv/small
cp -a {IMAGES}/. /srv/small/ && mount --bind /srv/small {IMAGES}
virsh -q pool-refresh images
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with lab_beside(SCENARIO) as lab:
        yield lab


@pytest.fixture
def operator(pair: Lab, tmp_path: Path) -> Iterator[Operator]:
    alice = Operator(pair, tmp_path)
    yield alice
    alice.leave()


def move(source: str, destination: str, **more: Any) -> Step:
    order = {
        "guest": "store",
        "destination": destination,
        "destination_uri": f"qemu+ssh://root@{destination}/system",
        "allow_storage_copy": True,
        "max_downtime_ms": 30000,
        **more,
    }
    return Step("moved", source, "domain_migrate", order)


def digests() -> Step:
    """What restore_host does before guests come back."""
    return Step("digests", "h1", "disk_copies", {"digests": True})


@pytest.fixture
def away(pair: Lab, operator: Operator) -> Lab:
    """The guest is on h2, and its old copy with digests on h1."""
    if pair.where("store") == ["h1"]:
        result = run(operator, "leave", [move("h1", "h2"), digests()])
        assert result["digests"]["digests"][0]["state"] in ("there", "computed"), result
    assert pair.where("store") == ["h2"]
    return pair


def come_home(operator: Operator, **more: Any) -> dict[str, Any]:
    """How the disk came home, as the result has it."""
    result: dict[str, Any] = run(operator, "home", [digests(), move("h2", "h1", **more)])["moved"]["migration"]
    [disk] = result["disks"]
    return {**disk, "disk_bytes": result["disk_bytes"]}


def check(lab: Lab, host: str, boots: dict[str, str], *files: str) -> None:
    """The guest runs at one place, whole, was not started again, and the files of both hosts are these."""
    assert lab.where("store") == [host]
    seen = lab.verify("store", timeout=300.0)
    assert (seen["memory_ok"], seen["disk_ok"], seen["boot_id"]) == (True, True, boots["store"])
    names = lab.host(host).ssh(f"cd {IMAGES} && ls store*", check=True).stdout.split()
    assert [name for name in names if "kvmops-home" in name] == []
    disk = lab.host(host).ssh("virsh -q domblklist store", check=True).stdout.split()
    assert disk == ["vda", DISK]


def test_it_sends_what_differs(away: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(away)
    disk = come_home(operator)
    assert (disk["mode"], disk["full_because"]) == ("delta", None)
    assert disk["disk_bytes"] < 48 << 20
    check(away, "h1", boots)


def test_a_copy_that_somebody_has_written_to_is_neither_used_nor_overwritten(away: Lab, operator: Operator) -> None:
    boots, h1 = actual_state.boot_ids(away), away.host("h1")
    h1.ssh(f"dd if=/dev/urandom of={DISK} bs=4k seek=600 count=9 conv=notrunc status=none", check=True)
    before = h1.ssh(f"sha256sum {DISK}", check=True).stdout
    words = Steps(operator, "home", [digests(), move("h2", "h1")]).finish()[0].words
    assert f"{DISK} on h1 is the old copy of disk vda of store, and is not as it was left" in words
    assert "remove it if nobody does: virsh vol-delete store.qcow2 --pool images" in words
    check(away, "h2", boots)
    assert h1.ssh(f"sha256sum {DISK}", check=True).stdout == before
    h1.ssh("virsh -q vol-delete store.qcow2 --pool images", check=True)
    assert come_home(operator)["mode"] == "copy"
    check(away, "h1", boots)


def test_a_write_that_was_hidden_is_found_by_digest_and_mended(away: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(away)
    script = f"""set -e
    touch -r {DISK} /run/times
    for block in $(seq 600 100 9000); do
        dd if=/dev/urandom of={DISK} bs=4k seek=$block count=1 conv=notrunc status=none
    done
    touch -r /run/times {DISK}
    """
    away.host("h1").ssh(script, check=True)
    disk = come_home(operator)
    assert (disk["mode"], disk["full_because"]) == ("delta", None)
    check(away, "h1", boots)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (f"rm {DIGESTS}; virsh -q pool-refresh images", f"nobody has computed the digests of {DISK} on h1"),
        (f"printf xxxx | dd of={DIGESTS} conv=notrunc status=none", f"the digests of {DISK} on h1 are of no use"),
        # An entry of the index: so a row is asked for, and is not what the index says.
        (f"printf '%048d' 7 | dd of={DIGESTS} bs=1 seek=80 conv=notrunc status=none", "the file of digests is damaged"),
    ],
    ids=["gone", "another-kind", "damaged"],
)
def test_without_good_digests_it_is_copied_whole(away: Lab, operator: Operator, harm: str, why: str) -> None:
    boots = actual_state.boot_ids(away)
    away.host("h1").ssh(harm, check=True)
    # Nobody computes them again meanwhile.
    result = run(operator, "home", [move("h2", "h1")])["moved"]["migration"]
    [disk] = result["disks"]
    assert disk["mode"] == "copy"
    assert why in disk["full_because"]
    check(away, "h1", boots)


def test_a_disk_that_has_grown_meanwhile_is_copied_whole(away: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(away)
    away.host("h2").ssh("virsh -q blockresize store vda 128M", check=True)
    disk = come_home(operator)
    assert disk["mode"] == "copy"
    assert "the disk has 134217728 bytes now, and had 100663296" in disk["full_because"]
    check(away, "h1", boots)


def in_the_middle(lab: Lab, operator: Operator, harm: Callable[[Steps], None]) -> str:
    """Do something while what differs is sent; returns what the operator was told."""
    lab.fault.slow_link("h1", 3)
    home = Steps(operator, "home", [digests(), move("h2", "h1")])
    try:
        home.running.await_text("sends what differs of disk vda", PATIENCE_S)
        harm(home)
        return home.finish()[0].words
    finally:
        lab.fault.mend("h1")


def test_a_run_that_is_killed_in_the_middle_is_run_again(away: Lab, operator: Operator) -> None:
    boots, h2 = actual_state.boot_ids(away), away.host("h2")

    def kill(_home: Steps) -> None:
        h2.ssh("pkill -KILL -f [A]nsiballZ_domain_migrate", check=True)

    in_the_middle(away, operator, kill)
    assert away.where("store") == ["h2"]
    assert "kvmops-home" in h2.ssh("virsh -q domblklist store", check=True).stdout
    disk = come_home(operator)
    assert (disk["mode"], disk["full_because"]) == ("delta", None)
    check(away, "h1", boots)


def test_a_line_that_is_cut_in_the_middle_leaves_the_guest_where_it_is(away: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(away)

    def cut(home: Steps) -> None:
        away.fault.cut_link("h1")
        home.running.await_text("fatal|FAILED|UNREACHABLE", 600)

    words = in_the_middle(away, operator, cut)
    assert "h1" in words
    check(away, "h2", boots)
    disk = come_home(operator)
    assert (disk["mode"], disk["full_because"]) == ("delta", None), json.dumps(disk)
    check(away, "h1", boots)


def test_a_disk_at_home_that_becomes_full_is_named(away: Lab, operator: Operator) -> None:
    boots, h1 = actual_state.boot_ids(away), away.host("h1")
    h1.ssh(TO_SMALL, check=True)

    def fill(_home: Steps) -> None:
        h1.ssh("dd if=/dev/zero of=/srv/small/other bs=64k status=none; true", check=True)

    try:
        words = in_the_middle(away, operator, fill)
        assert "No space left on device" in words or "has no room" in words, words
        check(away, "h2", boots)
    finally:
        h1.ssh(f"rm -f /srv/small/other; umount {IMAGES}; umount /srv/small; virsh -q pool-refresh images")
    disk = come_home(operator)
    assert (disk["mode"], disk["full_because"]) == ("delta", None)
    check(away, "h1", boots)
