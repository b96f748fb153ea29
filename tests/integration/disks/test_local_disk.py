# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest with disks of its own host leaves with copies of them, and comes home."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import actual_state, traffic
from harness.operator import Operator
from harness.session import lab_beside
from lab import Host, Lab, agent_protocol

SCENARIO = Path(__file__).with_name("local-disk.yml")
IMAGES = "/var/lib/libvirt/images"
#: A second disk beside that of the agent: data, zeros that take room, and a hole.
DATA = f"{IMAGES}/data.qcow2"
MIB = 1 << 20
DATA_MIB, ZEROS_MIB, SIZE_MIB = 48, 16, 256
MAKE_DATA = f"""
qemu-img create -q -f qcow2 {DATA} {SIZE_MIB}M
qemu-io -f qcow2 -c 'write -q -P 0x5a 0 {DATA_MIB}M' -c 'write -q -P 0 {DATA_MIB}M {ZEROS_MIB}M' {DATA}
virsh -q destroy store
virsh -q attach-disk store {DATA} vdb --targetbus virtio --driver qemu --subdriver qcow2 --cache none --config
virsh -q start store
"""
REST = f"{DATA_MIB}M {SIZE_MIB - DATA_MIB}M"
CHECK_DATA = f"qemu-io -r -U -f qcow2 -c 'read -q -P 0x5a 0 {DATA_MIB}M' -c 'read -q -P 0 {REST}' {DATA}"
COPY = {"allow_storage_copy": True}


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    """Two hosts without shared storage, and a guest with two disks on the first one."""
    with lab_beside(SCENARIO) as lab:
        lab.host("h1").ssh(MAKE_DATA, check=True)
        agent_protocol.wait_ready(lab.guest("store").address, 120.0)
        yield lab


@pytest.fixture
def operator(pair: Lab, tmp_path: Path) -> Iterator[Operator]:
    alice = Operator(pair, tmp_path)
    yield alice
    alice.leave()


def allocated_mib(host: Host, path: str) -> float:
    return int(host.ssh(f"stat --format=%b {path}", check=True).stdout) * 512 / MIB


def is_whole(host: Host) -> bool:
    done = host.ssh(CHECK_DATA, check=True)
    return "failed" not in done.stdout + done.stderr


def has(host: Host, path: str) -> bool:
    return host.ssh(f"test -e {path}").returncode == 0


def test_nothing_that_exists_is_overwritten(pair: Lab, operator: Operator) -> None:
    h2 = pair.host("h2")
    h2.ssh(f"echo precious > {DATA}", check=True)
    refused = operator.run_module(
        "h1", "domain_migrate", guest="store", destination="h2", destination_uri="qemu+ssh://root@h2/system", **COPY
    )
    kept = h2.ssh(f"cat {DATA}; rm {DATA}", check=True).stdout.strip()
    assert kept == "precious"
    assert f"{DATA} is on h2 already, where disk vdb of store would be copied" in refused.words
    assert pair.where("store") == ["h1"]
    assert not has(h2, f"{IMAGES}/store.qcow2")


@pytest.mark.soak
def test_a_check_tells_what_will_be_copied(pair: Lab, operator: Operator) -> None:
    checked = operator.run("drain_host", "--check", drain_host_name="h1", drain_host_intent=COPY)
    assert checked.status == 0, checked.text
    assert re.search(r"its disks are copied first: \d", checked.words)
    assert pair.where("store") == ["h1"]


def test_it_leaves_with_its_disks_and_what_was_sent_is_reported(pair: Lab, operator: Operator) -> None:
    boots, before = actual_state.boot_ids(pair), traffic.into(pair, ["h2"])
    drain = operator.run("drain_host", drain_host_name="h1", drain_host_intent=COPY)
    sent = traffic.into(pair, ["h2"]) - before
    assert drain.status == 0, drain.text
    assert pair.where("store") == ["h2"]
    assert re.search(r"disk \d+ %, memory \d+ %", drain.words), drain.text
    [report] = operator.reports()
    [row] = report["guests"]
    assert row["bytes"] == pytest.approx(sent, rel=0.03)
    assert sent < (DATA_MIB + 32 + 128) * MIB
    assert is_whole(pair.host("h2"))
    verified = pair.verify("store")
    assert (verified["memory_ok"], verified["disk_ok"]) == (True, True)
    assert actual_state.boot_ids(pair) == boots, "the guest was started again"
    # Zeros that took room at the source are a hole.
    assert allocated_mib(pair.host("h1"), DATA) > DATA_MIB + ZEROS_MIB - 1
    assert allocated_mib(pair.host("h2"), DATA) < DATA_MIB + ZEROS_MIB / 2
    assert sorted(copy["path"] for copy in row["left_copies"]) == [DATA, f"{IMAGES}/store.qcow2"]
    assert f"{DATA} on h1 (store, " in drain.words


def test_it_comes_home_to_its_old_copies(pair: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(pair)
    listed = operator.run("disk_copies")
    assert "2 copies of disks left behind" in listed.words
    home = operator.run("restore_host", restore_host_name="h1", restore_host_intent=COPY)
    assert home.status == 0, home.text
    assert pair.where("store") == ["h1"], home.text
    assert is_whole(pair.host("h1"))
    verified = pair.verify("store")
    assert (verified["memory_ok"], verified["disk_ok"]) == (True, True)
    assert actual_state.boot_ids(pair) == boots, "the guest was started again"


def test_what_nobody_needs_is_removed_and_nothing_else(pair: Lab, operator: Operator) -> None:
    young = operator.run("disk_copies", disk_copies_remove=True)
    assert "copies are kept for" in young.words
    assert has(pair.host("h2"), DATA)
    removed = operator.run("disk_copies", disk_copies_remove=True, disk_copies_keep_s=0)
    assert removed.status == 0, removed.text
    assert pair.where("store") == ["h1"], "it did not come home before"
    assert [has(pair.host("h2"), path) for path in (DATA, f"{IMAGES}/store.qcow2")] == [False, False]
    assert [has(pair.host("h1"), path) for path in (DATA, f"{IMAGES}/store.qcow2")] == [True, True]
    assert is_whole(pair.host("h1"))
    assert "No guest has left a copy of a disk behind." in operator.run("disk_copies").words
