# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest does not need stays behind, it keeps its memory whatever breaks off, and commands run around a move."""

from __future__ import annotations

import json
import re
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from harness import actual_state
from harness.ansible import Running
from harness.operator import Operator
from lab import Host, Lab, agent_protocol

#: What freeing memory pays on, however slowly an emulated guest gives it.
SLOW_MBIT = 100
SLOW_MIB_S = 11.4
MEMORY_KIB = 512 << 10
MIB = 1 << 20
#: Before its init, the guest fills memory with what does not compress and frees it again, so that it has some to give.
LITTER = (
    "b=/bin/busybox; $b mount -t devtmpfs dev /dev; $b dd if=/dev/urandom of=/b0 bs=1M count=20;"
    " for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14; do $b cat /b0 > /b$i; done; $b rm -f /b0"
    " /b1 /b2 /b3 /b4 /b5 /b6 /b7 /b8 /b9 /b10 /b11 /b12 /b13 /b14; exec /init"
)
PLAN = "balloon-test"
GUEST = "spare"


@dataclass(frozen=True)
class Spare:
    """A guest of half a GiB that has used most of it, and needs little."""

    lab: Lab
    uuid: str
    address: str

    def balloon(self, host: str = "h1") -> dict[str, int]:
        """What libvirt on a host says of its memory, in KiB."""
        said = self.lab.host(host).ssh(f"virsh -q dommemstat {GUEST}").stdout
        return {name: int(number) for name, number in re.findall(r"^(\w+) (\d+)$", said, re.MULTILINE)}

    def has_all_its_memory(self, host: str) -> bool:
        return self.balloon(host).get("actual") == MEMORY_KIB


def definition(lab: Lab, its_uuid: str, address: str) -> str:
    """The idle guest's definition, without what makes a guest give back what it frees."""
    root = ET.fromstring(lab.host("h1").ssh("virsh dumpxml --inactive idle", check=True).stdout)
    for path, text in (("name", GUEST), ("uuid", its_uuid), ("memory", str(MEMORY_KIB))):
        element = root.find(path)
        assert element is not None
        element.text = text
    now = root.find("currentMemory")
    if now is not None:
        root.remove(now)
    words = root.find("os/cmdline")
    assert words is not None
    left_out = ("init_on_free", "lab.address", "lab.disk")
    kept = [word for word in (words.text or "").split() if not word.startswith(left_out)]
    words.text = " ".join([*kept, f"lab.address={address}", "rdinit=/bin/busybox", "--", "sh", "-c", f'"{LITTER}"'])
    for mac in root.iter("mac"):
        mac.set("address", f"{mac.get('address', '')[:-2]}e6")
    for source in root.iter("source"):
        if source.get("path"):
            source.set("path", f"/var/log/kvmops-lab/{GUEST}.log")
    devices = root.find("devices")
    assert devices is not None
    for disk in devices.findall("disk"):
        # It is the other guest's.
        devices.remove(disk)
    for balloon in root.iter("memballoon"):
        balloon.attrib.pop("freePageReporting", None)
    return ET.tostring(root, encoding="unicode")


@pytest.fixture
def spare(lab: Lab) -> Iterator[Spare]:
    """The guest, running on h1 and ready, behind a slow link."""
    lab.fault.slow_link("h1", SLOW_MBIT, both=True)
    h1 = lab.host("h1")
    address = lab.guest("idle").address.rpartition(".")[0] + ".230"
    made = Spare(lab, str(uuid.uuid4()), address)
    h1.ssh_with("cat > /root/spare.xml && virsh define /root/spare.xml", definition(lab, made.uuid, address))
    h1.ssh(f"virsh start {GUEST}", check=True)
    assert agent_protocol.wait_ready(address, 120.0) is not None
    actual_state.wait_until("it reports its memory", lambda: "usable" in made.balloon())
    yield made
    for name in ("h1", "h2"):
        lab.host(name).ssh(f"virsh -q destroy {GUEST}; virsh -q undefine {GUEST}")
    lab.fault.mend("h1")


def host_entry(host: Host) -> dict[str, Any]:
    capabilities = ET.fromstring(host.ssh("virsh capabilities", check=True).stdout)
    return {
        "host_uuid": capabilities.findtext("host/uuid"),
        "connect_uri": f"qemu+ssh://root@{host.name}/system",
        "migration_address": host.migration_address,
        "bandwidth_mib_s": SLOW_MIB_S,
    }


def plan(lab: Lab, name: str, its_uuid: str, number: int) -> dict[str, Any]:
    intent = {
        "max_downtime_ms": 2000,
        "max_slowdown_pct": None,
        "deadline_s": None,
        "allow_postcopy": False,
        "allow_suspend": False,
        "allow_shutdown": False,
        "allow_storage_copy": False,
        "bandwidth_mib_s": None,
        "encryption": "off",
    }
    step = {
        "id": "s001",
        "guest": {"name": name, "uuid": its_uuid},
        "source": "h1",
        "destination": "h2",
        "memory_bytes": MEMORY_KIB << 10,
        "intent": intent,
        "reason": "the test wants it there",
        "strategy": None,
        "forecast": None,
        "after": [],
    }
    return {
        "schema": "kvmops.plan/1",
        "id": f"{PLAN}-{number}",
        "goal": {"kind": "drain", "hosts": ["h1"]},
        "created_at": "2026-11-24T02:00:00Z",
        "intent": {},
        "snapshots": {},
        "hosts": {host: host_entry(lab.host(host)) for host in ("h1", "h2")},
        "steps": [step],
        "stays": [],
        "off": [],
        "expected": {"seconds": None, "bytes": None, "fits_window": None},
    }


def start(operator: Operator, document: dict[str, Any], **options: Any) -> Running:
    return operator.start_module("h1", "plan_apply", "-v", plan=document, **options)


def journal(lab: Lab, number: int) -> dict[str, dict[str, Any]]:
    """The last event of each name in a run's journal: its data."""
    text = lab.host("h1").ssh(f"cat /var/lib/kvmops/runs/{PLAN}-{number}/journal.jsonl", check=True).stdout
    return {entry["event"]: entry["data"] for entry in map(json.loads, text.splitlines())}


@pytest.mark.soak
def test_what_a_guest_does_not_need_stays_behind(lab: Lab, operator: Operator, spare: Spare) -> None:
    outcome = start(operator, plan(lab, GUEST, spare.uuid, 1)).finish()
    assert outcome.status == 0, outcome.text
    as_it_is = journal(lab, 1)
    assert "memory.freed" not in as_it_is
    lab.host("h2").ssh(f"virsh migrate --live --p2p --persistent --undefinesource {GUEST} qemu+tcp://h1/system", True)
    outcome = start(operator, plan(lab, GUEST, spare.uuid, 2), free_memory="auto").finish()
    assert outcome.status == 0, outcome.text
    freed = journal(lab, 2)
    assert freed["memory.freed"]["returned"], freed["memory.freed"]
    assert freed["memory.freed"]["freed_bytes"] > 100 * MIB
    sent = [one["step.finished"]["result"]["bytes"] for one in (as_it_is, freed)]
    assert sent[0] > 250 * MIB
    assert sent[1] < sent[0] - 100 * MIB
    assert spare.has_all_its_memory("h2")
    checked = agent_protocol.verify(spare.address, 60.0)
    assert (checked.memory_found_bad, checked.memory_checked > 0) == (0, True)


@pytest.mark.soak
def test_a_guest_gets_its_memory_back_after_its_run_was_killed(lab: Lab, operator: Operator, spare: Spare) -> None:
    h1 = lab.host("h1")
    taking = start(operator, plan(lab, GUEST, spare.uuid, 3), free_memory="auto")
    actual_state.wait_until("memory is taken", lambda: spare.balloon()["actual"] < MEMORY_KIB * 0.9, period=0.1)
    taking.kill()
    h1.ssh("""kill -KILL "$(sed 's/.*"pid": *\\([0-9]*\\).*/\\1/' /var/lib/kvmops/apply.lease)" """, check=True)
    actual_state.wait_until("nobody gives it back", lambda: spare.balloon()["actual"] < MEMORY_KIB * 0.6)
    outcome = start(operator, plan(lab, GUEST, spare.uuid, 4)).finish()
    assert outcome.status == 0, outcome.text
    assert journal(lab, 4)["memory.returned"]["outcome"] == "returned"
    assert spare.has_all_its_memory("h2")
    assert h1.ssh("ls /var/lib/kvmops/taken_memory/*.json").stdout == ""


def test_commands_run_around_a_move_and_one_that_fails_keeps_the_guest(lab: Lab, operator: Operator) -> None:
    h1, idle = lab.host("h1"), lab.host("h1").ssh("virsh domuuid idle", check=True).stdout.strip()
    tell = [
        "/bin/sh",
        "-c",
        'echo "$0: $KVMOPS_GUEST $KVMOPS_SOURCE $KVMOPS_DESTINATION $KVMOPS_OUTCOME" >> /root/hooks',
    ]
    before, after = [*tell, "before"], {"command": [*tell, "after"], "when": "after"}
    fails = {"command": ["/bin/sh", "-c", "echo the load balancer says no; exit 4"]}
    h1.ssh("rm -f /root/hooks")
    refused = start(operator, plan(lab, "idle", idle, 5), hooks=[{"command": before}, fails, after]).finish()
    assert refused.status != 0
    assert "it ended with status 4, the load balancer says no, and idle must not move without it" in refused.words
    assert lab.where("idle") == ["h1"]
    moved = start(
        operator, plan(lab, "idle", idle, 6), hooks=[{"command": before}, {**fails, "on_failure": "go_on"}, after]
    ).finish()
    assert moved.status == 0, moved.text
    assert lab.where("idle") == ["h2"]
    assert h1.ssh("cat /root/hooks; rm /root/hooks").stdout.splitlines() == [
        "before: idle h1 h2 before",
        "after: idle h1 h2 refused",
        "before: idle h1 h2 before",
        "after: idle h1 h2 moved",
    ]
