# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What breaks while a disk follows its guest, and capsules that must not be used: no write is lost, each state is told.

Each remedy that is told is carried out here. The guest has content in every block of its disk, and verifies all of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from harness import actual_state
from harness.capsule_faults import MIB, in_the_middle, refused, save, send
from harness.module_steps import Step, Steps, run
from harness.operator import Operator
from lab import Lab

pytestmark = pytest.mark.soak

GUEST = "payroll"
STORE = "/var/lib/libvirt/capsules"
IMAGES = "/var/lib/libvirt/images"
FORGET = (STORE, "/var/lib/kvmops", "/run/kvmops", f"{IMAGES}/*")
FILES = ["/usr/share/kvmops-lab/*", "/var/log/kvmops-lab/*"]
FAULTS = Path(__file__).with_name("faults.yml")


@pytest.fixture
def lab(sites: Lab) -> Lab:
    """Both sites as new, with the guest at h1."""
    return sites.reset(forget=FORGET)


def move_before_its_disk(operator: Operator, guest: str = GUEST) -> None:
    """Migrate a guest to h2; its disk stays behind."""
    run(
        operator,
        "lazy",
        [
            Step("offered", "h1", "capsule_export"),
            Step("permitted", "h2", "capsule_export", {"offer": "{{ offered.offer }}"}),
            Step(
                "moved",
                "h1",
                "domain_migrate",
                {
                    "guest": guest,
                    "destination": "h2",
                    "destination_uri": "qemu+ssh://root@h2/system",
                    "allow_storage_copy": True,
                    "disks": "lazy",
                    "tickets": {"h2": "{{ permitted.ticket }}"},
                },
            ),
        ],
    )


def fill(guest: str = GUEST) -> Step:
    return Step("filled", "h2", "capsule_fill", {"guest": guest})


FILL = fill()


def check_whole(lab: Lab, guest: str = GUEST) -> None:
    """The guest runs at h2 only, saw no error, and has every block; nothing of its disk is at the source any more."""
    assert actual_state.everywhere(lab)[guest]["h2"] == "running"
    assert actual_state.everywhere(lab)[guest].get("h1", "shut off") == "shut off"
    verified = lab.verify(guest)
    assert (verified["memory_ok"], verified["disk_ok"], verified["disk_errors"]) == (True, True, 0)
    assert verified["disk_blocks_checked"] == 12 * 256
    layers = lab.host("h2").ssh(f"virsh -q dumpxml {guest}", check=True).stdout
    assert "nbd" not in layers


def cut_for(seconds: float, *, reset: bool = False) -> Callable[[Lab], None]:
    return lambda lab: lab.fault.cut_line(seconds, reset=reset)


def kill_the_export(lab: Lab) -> None:
    """What reads the disk at the source dies there."""
    done = lab.host("h1").ssh("pkill -KILL -x qemu-nbd")
    assert done.returncode == 0, "no qemu-nbd runs on h1"


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(cut_for(5), id="cut 5 s"),
        pytest.param(cut_for(60), id="cut 60 s"),
        pytest.param(cut_for(5, reset=True), id="reset 5 s"),
        pytest.param(lambda lab: lab.fault.flap_line(2, 3, 30, reset=True), id="flapping"),
        pytest.param(kill_the_export, id="export killed"),
    ],
)
def test_a_fault_while_the_disk_comes(lab: Lab, operator: Operator, fault: Callable[[Lab], None]) -> None:
    boots = actual_state.boot_ids(lab)
    move_before_its_disk(operator)
    steps = Steps(operator, "fill", [FILL])
    in_the_middle(lab, steps)
    fault(lab)
    outcome, results = steps.finish()
    if outcome.status:
        # It may give up, and then says what to do: the same again.
        assert "capsule_fill" in refused(results, "filled")["remedy"], outcome.text
        lab.fault.mend_line()
        run(operator, "again", [FILL])
    check_whole(lab)
    assert actual_state.boot_ids(lab) == boots


def test_the_source_reboots_while_the_disk_comes(lab: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(lab)
    move_before_its_disk(operator)
    steps = Steps(operator, "fill", [FILL])
    in_the_middle(lab, steps)
    lab.fault.reboot("h1")
    outcome, results = steps.finish()
    if outcome.status:
        assert "capsule_fill" in refused(results, "filled")["remedy"], outcome.text
        run(operator, "again", [FILL])
    check_whole(lab)
    assert actual_state.boot_ids(lab) == boots


def test_ten_minutes_without_the_line(lab_with: Callable[[Path], Lab], tmp_path: Path) -> None:
    """One guest is sent, and the disk of another one follows it. Both wait, or say what to do, and nothing is lost."""
    lab = lab_with(FAULTS).reset(forget=FORGET)
    lab.fault.mend_line()
    alice = Operator(lab, tmp_path)
    (tmp_path / "bob").mkdir()
    bob = Operator(lab, tmp_path / "bob", user="bob")
    boots = actual_state.boot_ids(lab)
    run(alice, "save", [save()])
    move_before_its_disk(bob, "ledger")
    filling = Steps(bob, "fill", [fill("ledger")])
    sending = Steps(alice, "send", [send()])
    in_the_middle(lab, sending, 6 * MIB)
    lab.fault.cut_line(600)
    sent, results = sending.finish()
    assert sent.status == 0, sent.text
    [row] = results["sent"]["hosts"]
    assert row["outcome"] == "sent"
    assert row["interruptions"] >= 1
    filled, results = filling.finish()
    if filled.status:
        assert "capsule_fill" in refused(results, "filled")["remedy"], filled.text
        run(bob, "again", [fill("ledger")])
    check_whole(lab, "ledger")
    assert lab.verify(GUEST)["disk_ok"]
    assert actual_state.everywhere(lab)[GUEST] == {"h1": "running"}
    assert actual_state.boot_ids(lab) == boots
    for operator in (alice, bob):
        operator.leave()


def test_a_guest_whose_disk_has_not_come_is_not_saved(lab: Lab, operator: Operator) -> None:
    move_before_its_disk(operator)
    early = Step("early", "h2", "capsule_save", {"guest": GUEST, "consistency": "crash"})
    outcome, results = Steps(operator, "early", [early]).finish()
    assert outcome.status == 2, outcome.text
    refusal = refused(results, "early")
    assert refusal["code"] == "fill_unfinished"
    assert "capsule_fill" in refusal["remedy"], refusal
    run(operator, "fill", [FILL])
    run(operator, "late", [early])
    check_whole(lab)


def test_one_bit_of_a_capsule_at_rest_is_found_and_told(lab: Lab, operator: Operator) -> None:
    run(operator, "send", [save(), send()])
    flip = (
        f"cd {STORE}/images && for image in *.qcow2 *.raw; do [ -e $image ] || continue; chmod u+w $image; python3 -c '"
        'import sys; f = open(sys.argv[1], "r+b"); size = f.seek(0, 2); f.seek(size // 2); b = f.read(1)[0];'
        " f.seek(size // 2); f.write(bytes([b ^ 1]))' $image; echo $image; done"
    )
    assert lab.host("h2").ssh(flip, check=True).stdout.strip()
    outcome, results = Steps(operator, "verify", [Step("verified", "h2", "capsule_verify", {})]).finish()
    assert outcome.status == 2, outcome.text
    [capsule] = results["verified"]["capsules"]
    assert capsule["status"] == "damaged"
    refusal = results["verified"]["refusal"]
    assert refusal["code"] == "image_damaged"
    # What it says to do: move the file away, and send again. The index knows all others, which are not sent.
    moved = re.search(
        r"(mv /\S+ /root/), then send it again from a host that has it \(capsule_send\)", refusal["remedy"]
    )
    assert moved, refusal
    lab.host("h2").ssh(moved.group(1), check=True)
    [row] = run(operator, "again", [send()])["sent"]["hosts"]
    assert row["outcome"] == "sent"
    [capsule] = run(operator, "verified", [Step("verified", "h2", "capsule_verify", {})])["verified"]["capsules"]
    assert capsule["status"] == "good"
    assert lab.verify(GUEST)["disk_ok"]


def test_an_older_capsule_is_not_taken_for_the_newest(lab: Lab, operator: Operator) -> None:
    run(operator, "two", [save("one"), save("two"), send(number=2)])
    outcome, results = Steps(operator, "older", [send(number=1)]).finish()
    assert outcome.status == 2, outcome.text
    refusal = refused(results, "sent")
    assert refusal["code"] == "capsule_older"
    assert refusal["reason"].startswith("capsule 1 of payroll is older than 2, which this host has seen")
    assert refusal["remedy"].endswith("or permit it with allow_older: true")
    run(operator, "permitted", [send(number=1, allow_older=True)])
    assert lab.verify(GUEST)["disk_ok"]


def test_a_guest_that_runs_at_its_source_is_not_started(lab: Lab, operator: Operator) -> None:
    start = Step("started", "h2", "capsule_start", {"guest": GUEST, "number": 1, "allow_files": FILES})
    outcome, results = Steps(operator, "twice", [save(), send(), start]).finish()
    assert outcome.status == 2, outcome.text
    refusal = refused(results, "started")
    assert refusal["code"] == "may_run_elsewhere"
    assert "capsule_save with then: stop" in refusal["remedy"]
    assert actual_state.everywhere(lab)[GUEST] == {"h1": "running"}
    assert lab.verify(GUEST)["disk_ok"]
    # What it says to do.
    stop = save("stopped", consistency="memory", then="stop")
    given = {"guest": GUEST, "stopped": "{{ stopped.stopped }}", "allow_files": FILES}
    run(operator, "remedy", [stop, send(), Step("started", "h2", "capsule_start", given)])
    assert actual_state.everywhere(lab)[GUEST]["h2"] == "running"
    assert actual_state.everywhere(lab)[GUEST]["h1"] == "shut off"
    seen = lab.verify(GUEST)
    assert (seen["memory_ok"], seen["disk_ok"]) == (True, True)


def test_a_base_with_other_content_is_refused_and_the_right_one_is_taken(
    lab: Lab, operator: Operator, tmp_path: Path
) -> None:
    """By hand, such a guest would go on, with a part of its disk silently wrong."""
    base = f"{IMAGES}/base.raw"
    make = (
        f"virsh -q destroy {GUEST} 2>/dev/null; rm -f {base}; "
        f"python3 -c 'import random, sys; sys.stdout.buffer.write(random.Random(7).randbytes(12 << 20))' > {base}"
    )
    for host in ("h1", "h2"):
        lab.host(host).ssh(make, check=True)
    lab.host("h1").ssh(
        f"rm {IMAGES}/{GUEST}.qcow2; qemu-img create -q -f qcow2 -b {base} -F raw {IMAGES}/{GUEST}.qcow2;"
        f" virsh -q start {GUEST}",
        check=True,
    )
    seal = [Step(f"base_{host}", host, "capsule_base", {"path": base, "format": "raw"}) for host in ("h1", "h2")]
    run(operator, "seal", seal)
    lab.host("h2").ssh(
        f"chmod u+w {base}; printf X | dd of={base} bs=1 seek=5000000 conv=notrunc status=none", check=True
    )
    outcome, results = Steps(operator, "send", [save(), send()]).finish()
    assert outcome.status == 2, outcome.text
    refusal = refused(results, "sent")
    assert refusal["code"] in ("base_changed", "base_differs")
    assert "silently corrupt" in refusal["reason"]
    lab.host("h2").ssh(make, check=True)
    run(operator, "verify", [Step("verified", "h2", "capsule_verify", {})])
    [row] = run(operator, "again", [send()])["sent"]["hosts"]
    assert row["outcome"] == "sent"
    assert lab.verify(GUEST)["disk_ok"]
