# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that make trouble: the guest runs on, nothing is left at the destination, and the text says what to do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import actual_state
from harness.ansible import Outcome
from harness.operator import Operator
from harness.session import lab_beside
from lab import Lab, agent_protocol

pytestmark = pytest.mark.soak

SCENARIO = Path(__file__).with_name("trouble.yml")
IMAGES = "/var/lib/libvirt/images"
READY_S = 180.0
#: A pool of 40 MiB at the destination, in memory. cache=writeback, because memory may not take O_DIRECT.
SMALL, SMALL_MIB, DATA_MIB = "/srv/small", 40, 24
MAKE_SMALL = f"""
mkdir -p {SMALL} && mount -t tmpfs -o size={SMALL_MIB}m tmpfs {SMALL}
virsh -q pool-create-as small dir --target {SMALL}
"""
MAKE_DATA = f"""
mkdir -p {SMALL}
dd if=/dev/urandom of=/srv/data.raw bs=1M count={DATA_MIB} status=none
qemu-img convert -f raw -O qcow2 /srv/data.raw {SMALL}/data.qcow2
virsh -q attach-disk grows {SMALL}/data.qcow2 vdb --targetbus virtio --subdriver qcow2 --cache writeback --config
"""
#: Relative names, the guest's disk on top. libvirt of trixie does not start a guest on a chain of 30: "failed to parse
#: JSON: nesting too deep".
CHAIN = 20
MAKE_CHAIN = f"""
cd {IMAGES} && mv chained.qcow2 layer0.qcow2
for n in $(seq 1 {CHAIN - 2}); do qemu-img create -q -f qcow2 -b layer$((n-1)).qcow2 -F qcow2 layer$n.qcow2; done
qemu-img create -q -f qcow2 -b layer{CHAIN - 2}.qcow2 -F qcow2 chained.qcow2
"""
LIKE_CHAIN = f"""
cd {IMAGES} && qemu-img create -q -f qcow2 layer0.qcow2 8M
for n in $(seq 1 {CHAIN - 2}); do qemu-img create -q -f qcow2 -b layer$((n-1)).qcow2 -F qcow2 layer$n.qcow2; done
for pool in $(virsh -q pool-list --name); do virsh -q pool-refresh $pool; done
"""
MAKE_LAYERED = f"""
mkdir -p {IMAGES}/base && mv {IMAGES}/layered.qcow2 {IMAGES}/base/layered.qcow2
cd {IMAGES} && qemu-img create -q -f qcow2 -b base/../base/layered.qcow2 -F qcow2 layered.qcow2
"""
MAKE_LINK = f"""
mkdir -p /srv/real && mv {IMAGES}/linked.qcow2 /srv/real/linked.qcow2
ln -s /srv/real/linked.qcow2 {IMAGES}/linked.qcow2
"""
#: 24 more disks, on a controller of their own.
MAKE_MANY = f"""
printf "<controller type='scsi' index='0' model='virtio-scsi'/>" > /run/controller.xml
virsh -q attach-device many /run/controller.xml --config
for letter in b c d e f g h i j k l m n o p q r s t u v w x y; do
    qemu-img create -q -f qcow2 {IMAGES}/many-$letter.qcow2 1M
    virsh -q attach-disk many {IMAGES}/many-$letter.qcow2 sd$letter --targetbus scsi --subdriver qcow2 --config
done
"""
OPEN = "open TCP 49152-49215 from h1 to h2"


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    """Two hosts without shared storage. Their guests run on disks as the tests have them."""
    with lab_beside(SCENARIO) as lab:
        h1, h2 = lab.host("h1"), lab.host("h2")
        changes = {
            "grows": MAKE_DATA,
            "linked": MAKE_LINK,
            "layered": MAKE_LAYERED,
            "chained": MAKE_CHAIN,
            "many": MAKE_MANY,
        }
        for guest, script in changes.items():
            h1.ssh(f"virsh -q destroy {guest}\nset -e\n{script}\nvirsh -q start {guest}", check=True, timeout=120)
        h2.ssh(MAKE_SMALL, check=True)
        for guest in changes:
            agent_protocol.wait_ready(lab.guest(guest).address, READY_S)
        yield lab


@pytest.fixture
def operator(pair: Lab, tmp_path: Path) -> Iterator[Operator]:
    alice = Operator(pair, tmp_path)
    yield alice
    alice.leave()


def order(guest: str, **more: Any) -> dict[str, Any]:
    """What `domain_migrate` is given."""
    to = {"destination": "h2", "destination_uri": "qemu+ssh://root@h2/system"}
    return {"guest": guest, **to, "allow_storage_copy": True, **more}


def move(operator: Operator, guest: str, **more: Any) -> Outcome:
    return operator.run_module("h1", "domain_migrate", **order(guest, **more))


def files(lab: Lab, *folders: str) -> list[str]:
    """The files of these folders of the destination."""
    found = lab.host("h2").ssh(f"find {' '.join(folders or (IMAGES,))} -mindepth 1 | sort", check=True)
    return found.stdout.split()


def check(lab: Lab, guest: str, host: str, boots: dict[str, str]) -> None:
    """See that a guest runs at one place, whole, and was not started again."""
    assert lab.where(guest) == [host]
    seen = lab.verify(guest)
    assert (seen["memory_ok"], seen["disk_ok"], seen["boot_id"]) == (True, True, boots[guest])
    other = "h2" if host == "h1" else "h1"
    assert guest not in actual_state.domains(lab.host(other))


def test_a_pool_that_is_not_active(pair: Lab, operator: Operator) -> None:
    boots, h2 = actual_state.boot_ids(pair, ["plain"]), pair.host("h2")
    h2.ssh("virsh -q pool-destroy images", check=True)
    try:
        refused = move(operator, "plain")
    finally:
        h2.ssh("virsh -q pool-start images", check=True)
    assert "storage pool images of h2, where disk vda of plain would be copied, is not active" in refused.words
    assert "start it on h2: virsh pool-start images" in refused.words
    check(pair, "plain", "h1", boots)
    assert files(pair) == []


def test_closed_ports(pair: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(pair, ["plain"])
    pair.fault.cut_migration("h2", silent=True)
    refused = move(operator, "plain")
    # QEMU would wait for two minutes, and the guest stand still.
    assert "no answer from h2 (h2) port 49215" in refused.words, refused.text
    assert OPEN in refused.words
    pair.fault.cut_migration("h2")
    failed = move(operator, "plain")
    pair.fault.mend("h2")
    assert "It still runs where it was." in failed.words, failed.text
    assert OPEN in failed.words, failed.text
    check(pair, "plain", "h1", boots)
    assert files(pair) == []
    moved = move(operator, "plain")
    assert moved.status == 0, moved.text
    check(pair, "plain", "h2", boots)


def test_the_disk_of_the_destination_becomes_full_in_the_middle(pair: Lab, operator: Operator) -> None:
    boots, h2 = actual_state.boot_ids(pair, ["grows"]), pair.host("h2")
    before = files(pair, IMAGES, SMALL)
    pair.fault.slow_link("h2", 30)
    moving = operator.start_module("h1", "domain_migrate", **order("grows"))
    try:
        moving.await_text(r"disk +\d+ %", 120)
        h2.ssh(f"dd if=/dev/zero of={SMALL}/other bs=64k count=100000 status=none")
    finally:
        pair.fault.mend("h2")
    failed = moving.finish()
    h2.ssh(f"rm {SMALL}/other", check=True)
    assert "No space left on device" in failed.words, failed.text
    assert "make room in the storage pool on h2 that the disks are copied to, then run it again" in failed.words
    check(pair, "grows", "h1", boots)
    assert files(pair, IMAGES, SMALL) == before
    moved = move(operator, "grows")
    assert moved.status == 0, moved.text
    check(pair, "grows", "h2", boots)


def test_an_image_that_is_a_link(pair: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(pair, ["linked"])
    moved = move(operator, "linked")
    assert moved.status == 0, moved.text
    check(pair, "linked", "h2", boots)
    assert pair.host("h2").ssh(f"test -f {IMAGES}/linked.qcow2 -a ! -L {IMAGES}/linked.qcow2").returncode == 0
    listed = operator.run("disk_copies", disk_copies_remove=True, disk_copies_keep_s=0)
    assert f"{IMAGES}/linked.qcow2 on h1 is a symbolic link to /srv/real/linked.qcow2" in listed.words
    # On the way home, the link is not replaced, and what it leads to is not lost from sight.
    back = {"guest": "linked", "destination": "h1", "destination_uri": "qemu+ssh://root@h1/system"}
    refused = operator.run_module("h2", "domain_migrate", **back, allow_storage_copy=True)
    assert f"{IMAGES}/linked.qcow2 is on h1 already, where disk vda of linked would be copied" in refused.words
    check(pair, "linked", "h2", boots)
    assert pair.host("h1").ssh(f"test -L {IMAGES}/linked.qcow2 -a -f /srv/real/linked.qcow2").returncode == 0


def test_a_relative_backing_file(pair: Lab, operator: Operator) -> None:
    boots, before = actual_state.boot_ids(pair, ["layered"]), files(pair)
    refused = move(operator, "layered")
    assert f"disk vda rests on {IMAGES}/base/layered.qcow2, which no storage pool of h2 has" in refused.words
    assert "virsh blockpull layered vda --wait" in refused.words
    check(pair, "layered", "h1", boots)
    assert files(pair) == before
    pair.host("h1").ssh("virsh blockpull layered vda --wait", check=True, timeout=120)
    moved = move(operator, "layered")
    assert moved.status == 0, moved.text
    check(pair, "layered", "h2", boots)


def test_a_long_chain(pair: Lab, operator: Operator) -> None:
    boots, before = actual_state.boot_ids(pair, ["chained"]), files(pair)
    refused = move(operator, "chained")
    layers = ", ".join(f"{IMAGES}/layer{number}.qcow2" for number in (CHAIN - 2, CHAIN - 3, CHAIN - 4))
    assert f"disk vda rests on {layers} and {CHAIN - 4} more, which no storage pool of h2 has" in refused.words
    check(pair, "chained", "h1", boots)
    assert files(pair) == before
    pair.host("h2").ssh(LIKE_CHAIN, check=True, timeout=120)
    moved = move(operator, "chained")
    assert moved.status == 0, moved.text
    check(pair, "chained", "h2", boots)


def test_25_disks_and_one_that_is_plugged_in_after_the_plan(pair: Lab, operator: Operator) -> None:
    h1, boots, before = pair.host("h1"), actual_state.boot_ids(pair, ["many"]), files(pair)
    planned = operator.run(
        "drain_host",
        "--check",
        drain_host_name="h1",
        drain_host_save_plan=str(operator.folder / "plan.json"),
        drain_host_exclude="domains[?name!='many']",
        drain_host_intent={"allow_storage_copy": True},
    )
    assert planned.status == 0, planned.text
    assert re.search(r"its disks are copied first: \d", planned.words), planned.text
    # The pool of the destination is not at this path.
    h1.ssh("mkdir -p /srv/odd && qemu-img create -q -f raw /srv/odd/new.raw 1M", check=True)
    h1.ssh("virsh -q attach-disk many /srv/odd/new.raw sdz --targetbus scsi --subdriver raw --live", check=True)
    replay = {"drain_host_name": "h1", "drain_host_plan": str(operator.folder / "plan.json")}
    refused = operator.run("drain_host", **replay)
    assert "h2 has no storage pool at /srv/odd, where disk sdz of many would be copied" in refused.words, refused.text
    check(pair, "many", "h1", boots)
    assert files(pair) == before
    h1.ssh("virsh -q detach-disk many sdz --live", check=True)
    moved = operator.run("drain_host", **replay)
    assert pair.where("many") == ["h2"], moved.text
    check(pair, "many", "h2", boots)
    assert len(files(pair)) - len(before) == 25
