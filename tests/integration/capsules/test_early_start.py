# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest goes on from a capsule before its disk has come; what breaks meanwhile costs it no write and no error.

The guest has content in every block of its disk, and verifies all of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import actual_state
from harness.capsule_faults import MIB, in_the_middle, refused
from harness.module_steps import Step, Steps, run
from harness.operator import Operator
from lab import Lab

SCENARIO = Path(__file__).with_name("lazy.yml")
GUEST = "early"
DISK_MIB = 24
FORGET = ("/var/lib/libvirt/capsules", "/var/lib/kvmops", "/run/kvmops", "/var/lib/libvirt/images/*")
#: QEMU waits five minutes for a disk before the guest sees that it is not there.
AWAY_S = 600.0
FILES = ["/usr/share/kvmops-lab/*", "/var/log/kvmops-lab/*"]

#: The memory and the definition go to h2, and h2 may read the disk.
SEND = [
    Step("offered", "h1", "capsule_export"),
    Step("permitted", "h2", "capsule_export", {"offer": "{{ offered.offer }}"}),
    Step("saved", "h1", "capsule_save", {"guest": GUEST, "then": "stop"}),
    Step("sent", "h1", "capsule_send", {"guest": GUEST, "to": ["h2"], "disks": "later"}),
    Step("exported", "h1", "capsule_export", {"guest": GUEST, "ticket": "{{ permitted.ticket }}"}),
]
BLOCKS = '{"execute": "query-named-block-nodes", "arguments": {"flat": true}}'


def start(results: dict[str, Any], **options: Any) -> Step:
    """Return the step that starts the guest at h2."""
    given = {"stopped": results["saved"]["stopped"], "lazy": results["exported"]["export"], "allow_files": FILES}
    return Step("started", "h2", "capsule_start", {"guest": GUEST, **given, **options})


def fill(**options: Any) -> Step:
    return Step("filled", "h2", "capsule_fill", {"guest": GUEST, **options})


@pytest.fixture(scope="module")
def site(lab_with: Callable[[Path], Lab]) -> Lab:
    return lab_with(SCENARIO)


@pytest.fixture
def operator(site: Lab, tmp_path: Path) -> Iterator[Operator]:
    site.fault.mend_line()
    alice = Operator(site, tmp_path)
    yield alice
    alice.leave()


def check_whole(lab: Lab, boots: dict[str, str], sent: dict[str, Any]) -> None:
    """The guest goes on at h2 only, saw no error and has every block; nothing of its disk is at the source any more."""
    assert actual_state.everywhere(lab)[GUEST]["h2"] == "running"
    assert actual_state.everywhere(lab)[GUEST].get("h1", "shut off") == "shut off"
    verified = lab.verify(GUEST, timeout=300)
    assert (verified["memory_ok"], verified["disk_ok"], verified["disk_errors"]) == (True, True, 0)
    assert verified["disk_blocks_checked"] == DISK_MIB * 256
    assert verified["boot_id"] == boots[GUEST]
    for question in (f"dumpxml {GUEST}", f"dumpxml --inactive {GUEST}", f"qemu-monitor-command {GUEST} '{BLOCKS}'"):
        assert "nbd" not in lab.host("h2").ssh(f"virsh -q {question}", check=True).stdout
    ticket = sent["permitted"]["ticket"]["ticket"]
    assert ticket not in lab.host("h1").ssh("cat /root/.ssh/authorized_keys", check=True).stdout
    assert ticket not in lab.host("h2").ssh("systemctl list-units --no-legend 'kvmops-fill-*'", check=True).stdout


@pytest.mark.soak
def test_a_guest_goes_on_before_its_disk_has_come(site: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(site)
    sent = run(operator, "send", SEND)
    started = run(operator, "start", [start(sent)])["started"]
    assert [disk["lazy"] for disk in started["disks"]] == [True]
    early = Step("early", "h2", "capsule_save", {"guest": GUEST, "consistency": "crash"})
    refusal = refused(Steps(operator, "early", [early]).finish()[1], "early")
    assert (refusal["code"], "capsule_fill" in refusal["remedy"]) == ("fill_unfinished", True)
    steps = Steps(operator, "fill", [fill(rate="40mbit")])
    in_the_middle(site, steps)
    site.host("h1").ssh("pkill -KILL -x qemu-nbd", check=True)
    site.host("h2").ssh("systemctl kill -s KILL --kill-whom=main 'kvmops-fill-*'", check=True)
    outcome, results = steps.finish()
    assert outcome.status == 0, outcome.text
    [disk] = results["filled"]["fill"]["disks"]
    assert disk["checked"] is True
    assert disk["pulled_bytes"] >= (DISK_MIB - 2) * MIB
    check_whole(site, boots, sent)
    # The capsule is complete there, and so is the next one, which stands on it.
    later = [fill(), Step("saved", "h2", "capsule_save", {"guest": GUEST, "consistency": "crash"})]
    verify = Step("verified", "h2", "capsule_verify", {"guest": GUEST})
    found = run(operator, "later", [*later, verify])
    assert found["filled"]["changed"] is False
    assert [one["status"] for one in found["verified"]["capsules"]] == ["good", "good"]


@pytest.mark.soak
@pytest.mark.parametrize("seconds", [5, 60])
def test_the_line_is_cut_while_the_guest_starts(site: Lab, operator: Operator, seconds: float) -> None:
    lab = site.reset(forget=FORGET)
    boots = actual_state.boot_ids(lab)
    sent = run(operator, "send", SEND)
    lab.fault.cut_line()
    mended = threading.Timer(seconds, lab.fault.mend_line)
    mended.start()
    run(operator, "start", [start(sent, wait_s=300)])
    mended.join()
    run(operator, "fill", [fill()])
    check_whole(lab, boots, sent)


def reboot_the_source(lab: Lab) -> None:
    lab.fault.reboot("h1")


def kill_the_fill(lab: Lab) -> None:
    lab.host("h2").ssh("pkill -KILL -f '[A]nsiballZ_capsule_fill'", check=True)


@pytest.mark.soak
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(lambda lab: lab.fault.cut_line(5), id="cut 5 s"),
        pytest.param(lambda lab: lab.fault.cut_line(60), id="cut 60 s"),
        pytest.param(lambda lab: lab.fault.cut_line(60, reset=True), id="reset 60 s"),
        pytest.param(lambda lab: lab.fault.flap_line(2, 3, 30, reset=True), id="flapping"),
        pytest.param(reboot_the_source, id="source rebooted"),
        pytest.param(kill_the_fill, id="fill killed"),
    ],
)
def test_a_fault_while_the_disk_comes(site: Lab, operator: Operator, fault: Callable[[Lab], None]) -> None:
    lab = site.reset(forget=FORGET)
    boots = actual_state.boot_ids(lab)
    sent = run(operator, "send", SEND)
    run(operator, "start", [start(sent)])
    steps = Steps(operator, "fill", [fill(rate="6mbit")])
    in_the_middle(lab, steps)
    fault(lab)
    if steps.finish()[0].status:
        run(operator, "again", [fill()])
    check_whole(lab, boots, sent)


@pytest.mark.soak
def test_a_source_that_is_away_for_ten_minutes(site: Lab, operator: Operator) -> None:
    """Longer than the guest waits: it is paused and named, sees no error, and one task brings it back."""
    lab = site.reset(forget=FORGET)
    boots = actual_state.boot_ids(lab)
    sent = run(operator, "send", SEND)
    run(operator, "start", [start(sent)])
    early = Step("early", "h2", "capsule_send", {"guest": GUEST, "to": ["h3"]})
    assert refused(Steps(operator, "early", [early]).finish()[1], "early")["code"] == "fill_unfinished"
    lab.fault.cut_line(AWAY_S)
    time.sleep(AWAY_S)
    assert "paused (I/O error)" in lab.host("h2").ssh(f"virsh domstate --reason {GUEST}").stdout
    began = time.monotonic()
    filled = run(operator, "fill", [fill()])["filled"]["fill"]
    assert filled["resumed"] > 0
    assert time.monotonic() - began < 120
    check_whole(lab, boots, sent)
