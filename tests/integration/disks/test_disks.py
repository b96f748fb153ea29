# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on each kind of storage, on a host that is drained once; and the way home of a guest with local disks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import actual_state, traffic
from harness.ansible import Outcome
from harness.operator import Operator
from harness.session import lab_beside
from lab import Host, Lab, agent_protocol

SCENARIO = Path(__file__).with_name("disks.yml")
IMAGES = "/var/lib/libvirt/images"
NVRAM = "/var/lib/libvirt/qemu/nvram/safe_VARS.fd"
#: A second disk beside that of the agent: data, zeros that take room, and a hole.
DATA = f"{IMAGES}/data.qcow2"
DATA_MIB, ZEROS_MIB, SIZE_MIB = 48, 16, 256
MAKE_DATA = f"""set -e
qemu-img create -q -f qcow2 {DATA} {SIZE_MIB}M
qemu-io -f qcow2 -c 'write -q -P 0x5a 0 {DATA_MIB}M' -c 'write -q -P 0 {DATA_MIB}M {ZEROS_MIB}M' {DATA}
virsh -q destroy store
virsh -q attach-disk store {DATA} vdb --targetbus virtio --driver qemu --subdriver qcow2 --cache none --config
virsh -q start store
"""
STORE = f"{IMAGES}/store.qcow2"
MIB = 1 << 20
BLOCK = 4096
REST = f"{DATA_MIB}M {SIZE_MIB - DATA_MIB}M"
CHECK_DATA = f"qemu-io -r -U -f qcow2 -c 'read -q -P 0x5a 0 {DATA_MIB}M' -c 'read -q -P 0 {REST}' {DATA}"
COPY = {"allow_storage_copy": True}
#: What the operator knows of this cluster: these devices are in an enclosure that all hosts are connected to.
DEVICES = ["/dev/disk/by-id/kvmops-lab-*"]


class Drained(NamedTuple):
    """A host that was emptied, and what was seen of it."""

    lab: Lab
    boots: dict[str, str]
    outcome: Outcome
    report: dict[str, Any]
    bytes_on_wire: int
    nvram: str

    def row(self, guest: str) -> dict[str, Any]:
        """The guest in the report."""
        return next(row for row in self.report["guests"] if row["guest"] == guest)


def checksum(lab: Lab, host: str, path: str) -> str:
    return lab.host(host).ssh(f"sha256sum {path}", check=True).stdout.split()[0]


def device_of(lab: Lab, guest: str) -> str:
    return lab.host("h1").ssh(f"virsh -q domblklist {guest}", check=True).stdout.split()[1]


@pytest.fixture(scope="module")
def disks() -> Iterator[Lab]:
    """Three hosts, a storage server, and six guests on the first host. The third host lacks the second bridge."""
    with lab_beside(SCENARIO) as lab:
        lab.host("h3").ssh("ip link delete brx", check=True)
        lab.host("h1").ssh(MAKE_DATA, check=True)
        agent_protocol.wait_ready(lab.guest("store").address, 120.0)
        yield lab


@pytest.fixture(scope="module")
def refused(disks: Lab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """What is said of moves that must not begin: by an operator whose inventory says nothing of shared devices."""
    operator = Operator(disks, tmp_path_factory.mktemp("bob"), user="bob")
    h2 = disks.host("h2")
    order = {"destination": "h2", "destination_uri": "qemu+ssh://root@h2/system"}
    try:
        h2.ssh(f"echo precious > {DATA}", check=True)
        found = {
            "device": operator.run_module("h1", "domain_migrate", "--check", guest="device", **order),
            "pattern": operator.run_module("h1", "host_info", shared_devices=["/dev/loop1????"]),
            "store": operator.run_module("h1", "domain_migrate", guest="store", **order, **COPY),
        }
        assert h2.ssh(f"cat {DATA}; rm {DATA}", check=True).stdout.strip() == "precious"
        assert disks.where("store") == disks.where("device") == ["h1"]
        assert h2.ssh(f"test -e {IMAGES}/store.qcow2").returncode == 1
        return found
    finally:
        operator.leave()


@pytest.fixture(scope="module")
def drained(disks: Lab, refused: dict[str, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Drained:
    """The first host, emptied by Alice."""
    assert refused, "what must not begin is tried before"
    known = {"drain_host_measure_s": 2, "kvmops_cluster_shared_devices": DEVICES}
    operator = Operator(disks, tmp_path_factory.mktemp("alice"), variables=known)
    try:
        boots, counted = actual_state.boot_ids(disks), traffic.into(disks, ("h2", "h3"))
        nvram = checksum(disks, "h1", NVRAM)
        outcome = operator.run("drain_host", drain_host_name="h1", drain_host_intent=COPY)
        counted = traffic.into(disks, ("h2", "h3")) - counted
        assert outcome.status == 0, outcome.text
        return Drained(disks, boots, outcome, operator.reports()[-1], counted, nvram)
    finally:
        operator.leave()


@pytest.fixture
def operator(disks: Lab, tmp_path: Path) -> Iterator[Operator]:
    alice = Operator(disks, tmp_path, variables={"kvmops_cluster_shared_devices": DEVICES})
    yield alice
    alice.leave()


def allocated_mib(host: Host, path: str) -> float:
    return int(host.ssh(f"stat --format=%b {path}", check=True).stdout) * 512 / MIB


def is_whole(host: Host) -> bool:
    done = host.ssh(CHECK_DATA, check=True)
    return "failed" not in done.stdout + done.stderr


def written_on(host: Host) -> int:
    """Bytes that the guest has written to its disk since its QEMU on this host was started."""
    counted = host.ssh("virsh domblkstat store vda", check=True).stdout
    return int(re.search(r"wr_bytes (\d+)", counted)[1])  # type: ignore[index]


def blocks_written(lab: Lab) -> int:
    """Blocks that the guest has written to its disk since it booted."""
    return agent_protocol.wait_ready(lab.guest("store").address, 30.0).disk_written


def has(host: Host, path: str) -> bool:
    return host.ssh(f"test -e {path}").returncode == 0


def test_nothing_that_exists_is_overwritten(refused: dict[str, Outcome]) -> None:
    assert f"{DATA} is on h2 already, where disk vdb of store would be copied" in refused["store"].words


@pytest.mark.soak
def test_a_check_tells_what_will_be_copied(disks: Lab, refused: dict[str, Outcome], operator: Operator) -> None:
    assert refused, "it is tried before"
    checked = operator.run("drain_host", "--check", drain_host_name="h1", drain_host_intent=COPY)
    assert checked.status == 0, checked.text
    assert re.search(r"its disks are copied first: \d", checked.words)
    assert disks.where("store") in (["h1"], ["h2"])


def test_a_block_device_of_no_known_network_is_refused_by_name(disks: Lab, refused: dict[str, Outcome]) -> None:
    device = device_of(disks, "device")
    said = refused["device"].words
    assert device == "/dev/disk/by-id/kvmops-lab-device"
    kernel = disks.host("h1").ssh(f"basename $(readlink -f {device})", check=True).stdout.strip()
    assert f"disk vda ({device}) is on local storage (local block device {kernel})" in said
    assert "if all hosts see this very device, say so in the inventory: kvmops_cluster_shared_devices:" in said


def test_a_pattern_that_matches_names_of_one_host_is_refused_where_it_is_read(refused: dict[str, Outcome]) -> None:
    assert "shared_devices has '/dev/loop1????', which can match /dev/loop...; the kernel gives such names" in (
        refused["pattern"].words
    )


@pytest.mark.parametrize("guest", ["lun", "export", "folder", "device", "safe"])
def test_a_guest_leaves_and_its_memory_and_disk_are_whole(drained: Drained, guest: str) -> None:
    lab = drained.lab
    [there] = lab.where(guest)
    assert there in ("h2", "h3")
    row = drained.row(guest)
    assert (row["outcome"], row["destination"]) == ("moved", there)
    # All of its disk is at hand there: nothing was copied, and nothing stays behind.
    assert not row.get("left_copies")
    seen = lab.verify(guest)
    assert (seen["memory_ok"], seen["disk_ok"], seen["boot_id"]) == (True, True, drained.boots[guest])
    assert guest not in actual_state.domains(lab.host("h1"))


def test_the_bytes_of_all_are_those_on_the_wire(drained: Drained) -> None:
    reported = sum(row["bytes"] for row in drained.report["guests"])
    assert reported == pytest.approx(drained.bytes_on_wire, rel=0.03)


def test_firmware_and_tpm_go_along(drained: Drained) -> None:
    lab = drained.lab
    uuid = lab.guest("safe").uuid
    state = f"/var/lib/libvirt/swtpm/{uuid}/tpm2/tpm2-00.permall"
    # The guest has written nothing to its NVRAM since it booted.
    assert checksum(lab, "h2", NVRAM) == drained.nvram
    assert lab.host("h2").ssh(f"test -s {state} && pgrep --full 'swtpm.*{uuid}'").returncode == 0
    assert lab.host("h1").ssh(f"test -e {state} || pgrep --full 'swtpm.*{uuid}'").returncode == 1
    # libvirt leaves the old file of the firmware, so it is told.
    assert f"safe: its old NVRAM file {NVRAM} (528 KiB) stays on h1, where nothing uses it" in drained.outcome.words


def test_a_guest_goes_to_the_destination_that_has_its_bridge(drained: Drained) -> None:
    assert drained.lab.where("safe") == ["h2"]
    assert "safe h2 is the only host that can take it (h3 has no bridge brx, to which safe is attached)" in (
        drained.outcome.words
    )


def test_it_leaves_with_its_disks(drained: Drained) -> None:
    lab, row = drained.lab, drained.row("store")
    assert lab.where("store") == ["h2"]
    assert re.search(r"disk \d+ %, memory \d+ %", drained.outcome.words), drained.outcome.text
    assert row["bytes"] < (DATA_MIB + 32 + 128) * MIB
    assert is_whole(lab.host("h2"))
    verified = lab.verify("store")
    assert (verified["memory_ok"], verified["disk_ok"]) == (True, True)
    assert verified["boot_id"] == drained.boots["store"], "the guest was started again"
    # Zeros that took room at the source are a hole.
    assert allocated_mib(lab.host("h1"), DATA) > DATA_MIB + ZEROS_MIB - 1
    assert allocated_mib(lab.host("h2"), DATA) < DATA_MIB + ZEROS_MIB / 2
    assert sorted(copy["path"] for copy in row["left_copies"]) == [DATA, STORE]
    assert f"{DATA} on h1 (store, " in drained.outcome.words


def test_it_comes_home_to_its_old_copies(drained: Drained, operator: Operator) -> None:
    lab = drained.lab
    stay = [name for name in lab.guests if name != "store"]
    # What QEMU has counted since it came to h2, and what it writes from now on until it is home.
    written = written_on(lab.host("h2")) - blocks_written(lab) * BLOCK
    home = operator.run(
        "restore_host",
        restore_host_name="h1",
        restore_host_intent=COPY,
        restore_host_exclude=stay,
        restore_host_measure_s=2,
    )
    assert home.status == 0, home.text
    assert lab.where("store") == ["h1"], home.text
    written += blocks_written(lab) * BLOCK
    row = next(row for row in operator.reports()[-1]["guests"] if row["guest"] == "store")
    assert [(disk["mode"], disk["full_because"]) for disk in row["disks"]] == [("delta", None)] * 2, home.text
    # All of it was some 80 MiB. Nobody has said that it may go by what differs.
    assert row["disk_bytes"] < 1.3 * written
    # Nothing but the two images is left of it.
    digests = [f"{name}.kvmops-digests" for name in ("data.qcow2", "store.qcow2")]
    for host, expected in (("h1", []), ("h2", digests)):
        names = lab.host(host).ssh(f"cd {IMAGES} && ls data.* store.*", check=True).stdout.split()
        assert sorted(names) == sorted(["data.qcow2", "store.qcow2", *expected])
    assert is_whole(lab.host("h1"))
    verified = lab.verify("store")
    assert (verified["memory_ok"], verified["disk_ok"]) == (True, True)
    assert verified["boot_id"] == drained.boots["store"], "the guest was started again"


def test_what_nobody_needs_is_removed_and_nothing_else(disks: Lab, operator: Operator) -> None:
    assert disks.where("store") == ["h1"], "it did not come home before"
    young = operator.run("disk_copies", disk_copies_remove=True)
    assert "copies are kept for" in young.words
    assert has(disks.host("h2"), DATA)
    removed = operator.run("disk_copies", disk_copies_remove=True, disk_copies_keep_s=0)
    assert removed.status == 0, removed.text
    gone = (DATA, STORE, f"{DATA}.kvmops-digests", f"{STORE}.kvmops-digests")
    assert [has(disks.host("h2"), path) for path in gone] == [False] * 4
    assert [has(disks.host("h1"), path) for path in (DATA, STORE)] == [True, True]
    assert is_whole(disks.host("h1"))


@pytest.mark.soak
def test_when_all_is_removed_nothing_is_listed(disks: Lab, operator: Operator) -> None:
    assert disks.where("store") == ["h1"], "it did not come home before"
    operator.run("disk_copies", disk_copies_remove=True, disk_copies_keep_s=0)
    assert "No guest has left a copy of a disk behind." in operator.run("disk_copies").words
