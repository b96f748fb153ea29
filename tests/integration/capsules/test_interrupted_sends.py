# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A capsule on its way to another site, and what breaks meanwhile: what has come stays, and is not sent again.

The guest runs on all the time. It verifies each block of its disk at the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import actual_state
from harness.capsule_faults import MIB, in_the_middle, save, send
from harness.module_steps import Steps, run
from harness.operator import Operator
from lab import Lab

GUEST = "payroll"
STORE = "/var/lib/libvirt/capsules"
#: Every block of its disk is sent once, and a little around it.
DISK = 12 * MIB
ONCE = 1.15
#: In the middle of the disk.
MIDDLE = 4 * MIB


@pytest.fixture
def unsent(lab: Lab, operator: Operator) -> Iterator[Lab]:
    """A capsule at h1 that h2 has nothing of."""
    lab.host("h2").ssh("umount /var/lib/libvirt/capsules 2>/dev/null; rm -rf /var/lib/libvirt/capsules", check=True)
    if not lab.host("h1").ssh("ls /var/lib/libvirt/capsules/guests/*/1/capsule.json 2>/dev/null").stdout:
        run(operator, "save", [save()])
    yield lab
    assert lab.verify(GUEST)["disk_ok"]
    assert actual_state.everywhere(lab) == {GUEST: {"h1": "running"}}


def is_there(lab: Lab) -> bool:
    """Whether h2 has the capsule and nothing half-received."""
    found = lab.host("h2").ssh("cd /var/lib/libvirt/capsules && ls guests/*/1/capsule.json && ls -A receiving").stdout
    return found.split() == [line for line in found.split() if line.endswith("/1/capsule.json")] != []


def crossed(lab: Lab, before: int) -> int:
    return lab.line().bytes[0] - before


def test_a_line_that_is_cut_in_silence_and_with_resets_is_taken_again_where_it_broke(
    unsent: Lab, operator: Operator
) -> None:
    before = unsent.line().bytes[0]
    steps = Steps(operator, "send", [send(retry_s=120)])
    in_the_middle(unsent, steps, MIDDLE)
    unsent.fault.cut_line(5)
    in_the_middle(unsent, steps, MIB)
    unsent.fault.cut_line(3, reset=True)
    outcome, results = steps.finish()
    assert outcome.status == 0, outcome.text
    [row] = results["sent"]["hosts"]
    assert (row["outcome"], row["refusal"]) == ("sent", None)
    assert row["interruptions"] >= 1
    assert row["resumed_bytes"] >= MIDDLE // 2
    assert is_there(unsent)
    assert crossed(unsent, before) < DISK * (ONCE + 0.2)


@pytest.mark.soak
def test_a_line_that_stays_cut_is_named_and_the_same_command_goes_on(unsent: Lab, operator: Operator) -> None:
    before = unsent.line().bytes[0]
    steps = Steps(operator, "send", [send(retry_s=5)])
    in_the_middle(unsent, steps, MIDDLE)
    unsent.fault.cut_line(reset=True)
    outcome, results = steps.finish()
    assert outcome.status == 2, outcome.text
    [row] = results["sent"]["hosts"]
    assert row["refusal"]["code"] == "transfer_interrupted"
    assert row["refusal"]["reason"].startswith("h2 could not be reached for ")
    assert (
        row["refusal"]["remedy"]
        == "see whether the link works (ping), then run capsule_send again: it goes on from there"
    )
    unsent.fault.mend_line()
    [row] = run(operator, "again", [send()])["sent"]["hosts"]
    assert row["resumed_bytes"] >= MIDDLE // 2
    assert is_there(unsent)
    assert crossed(unsent, before) < DISK * (ONCE + 0.2)


def test_two_sends_of_one_capsule_at_once_send_it_once(unsent: Lab, operator: Operator, tmp_path: Path) -> None:
    (tmp_path / "bob").mkdir()
    bob = Operator(unsent, tmp_path / "bob", user="bob")
    steps = Steps(operator, "send", [send()])
    in_the_middle(unsent, steps, MIDDLE)
    # The first one waits for as long as the second one needs to begin.
    unsent.fault.cut_line()
    outcome, results = Steps(bob, "second", [send()]).finish()
    assert outcome.status == 2, outcome.text
    refusal = results["sent"]["hosts"][0]["refusal"] if "hosts" in results["sent"] else results["sent"]["refusal"]
    assert refusal["code"] == "capsule_busy"
    assert refusal["reason"].startswith("this host sends capsule 1 of payroll to h2 already")
    assert refusal["remedy"] == "wait until that has ended; capsule_send then sends what is still missing"
    unsent.fault.mend_line()
    first, _results = steps.finish()
    assert first.status == 0, first.text
    assert is_there(unsent)


@pytest.mark.soak
def test_a_full_disk_at_the_far_end_is_told_before_anything_is_sent(unsent: Lab, operator: Operator) -> None:
    unsent.host("h2").ssh(
        "mkdir -p /var/lib/libvirt/capsules && mount -t tmpfs -o size=8m,mode=0711 tmpfs /var/lib/libvirt/capsules",
        check=True,
    )
    before = unsent.line().bytes[0]
    outcome, results = Steps(operator, "send", [send()]).finish()
    assert outcome.status == 2, outcome.text
    refusal = results["sent"]["hosts"][0]["refusal"] if "hosts" in results["sent"] else results["sent"]["refusal"]
    assert refusal["code"] == "no_space"
    assert "in /var/lib/libvirt/capsules" in refusal["reason"]
    assert "or set capsule_dir to a larger file system" in refusal["remedy"]
    assert crossed(unsent, before) < MIB
    unsent.host("h2").ssh("umount /var/lib/libvirt/capsules", check=True)
    assert run(operator, "again", [send()])["sent"]["hosts"][0]["outcome"] == "sent"
    assert is_there(unsent)
