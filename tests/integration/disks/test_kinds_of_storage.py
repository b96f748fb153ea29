# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests on storage that all hosts reach, and one with firmware, a TPM and a bridge that only one destination has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness import actual_state, traffic
from harness.ansible import Outcome
from harness.operator import Operator
from harness.session import lab_beside
from lab import Lab

SCENARIO = Path(__file__).with_name("kinds-of-storage.yml")
NVRAM = "/var/lib/libvirt/qemu/nvram/safe_VARS.fd"
VARIABLES = {
    "drain_host_measure_s": 2,
    # What the operator knows of this cluster: these are in an enclosure that all hosts are connected to.
    "kvmops_cluster_shared_devices": ["/dev/loop1????"],
}


class Drained(NamedTuple):
    """A host that was emptied, and what was seen of it."""

    lab: Lab
    before: dict[str, str]
    outcome: Outcome
    report: dict[str, Any]
    bytes_on_wire: int
    nvram: str

    def row(self, guest: str) -> dict[str, Any]:
        return next(row for row in self.report["guests"] if row["guest"] == guest)


def checksum(lab: Lab, host: str, path: str) -> str:
    return lab.host(host).ssh(f"sha256sum {path}", check=True).stdout.split()[0]


@pytest.fixture(scope="module")
def cluster_of_three() -> Iterator[Lab]:
    """Three hosts, a storage server, and five guests on the first host. The third host lacks their second bridge."""
    with lab_beside(SCENARIO) as lab:
        lab.host("h3").ssh("ip link delete brx", check=True)
        yield lab


@pytest.fixture(scope="module")
def drained(cluster_of_three: Lab, tmp_path_factory: pytest.TempPathFactory) -> Drained:
    lab = cluster_of_three
    operator = Operator(lab, tmp_path_factory.mktemp("alice"), variables=VARIABLES)
    try:
        boots, counted = actual_state.boot_ids(lab), traffic.into(lab, ("h2", "h3"))
        nvram = checksum(lab, "h1", NVRAM)
        outcome = operator.run("drain_host", drain_host_name="h1")
        counted = traffic.into(lab, ("h2", "h3")) - counted
        assert outcome.status == 0, outcome.text
        return Drained(lab, boots, outcome, operator.reports()[-1], counted, nvram)
    finally:
        operator.leave()


@pytest.fixture
def operator(cluster_of_three: Lab, tmp_path: Path) -> Iterator[Operator]:
    """Bob, whose inventory says nothing of shared devices."""
    bob = Operator(cluster_of_three, tmp_path, user="bob")
    yield bob
    bob.leave()


def test_a_block_device_of_no_known_network_is_refused_by_name(cluster_of_three: Lab, operator: Operator) -> None:
    order = {"guest": "device", "destination": "h2", "destination_uri": "qemu+ssh://root@h2/system"}
    refused = operator.run_module("h1", "domain_migrate", "--check", **order)
    assert (
        "disk vda (/dev/loop10004) is on local storage (local block device loop10004)".replace(
            "loop10004", device_name(cluster_of_three)
        )
        in refused.words
    )
    assert "if all hosts see this very device, say so in the inventory: kvmops_cluster_shared_devices:" in refused.words
    # Permission to copy is none to write over a device that is there.
    refused = operator.run_module("h1", "domain_migrate", "--check", **order, allow_storage_copy=True)
    assert "h2 has no storage pool" in refused.words
    assert cluster_of_three.where("device") == ["h1"]


def device_name(lab: Lab) -> str:
    return str(lab.host("h1").ssh("virsh -q domblklist device", check=True).stdout.split()[1]).rpartition("/")[2]


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
    assert (seen["memory_ok"], seen["disk_ok"], seen["boot_id"]) == (True, True, drained.before[guest])
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
    assert lab.host("h1").ssh(f"test -e {NVRAM} || test -e {state} || pgrep --full 'swtpm.*{uuid}'").returncode == 1


def test_a_guest_goes_to_the_destination_that_has_its_bridge(drained: Drained) -> None:
    assert drained.lab.where("safe") == ["h2"]
    assert "h3 has no bridge brx, to which safe is attached" in drained.outcome.words
