# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What breaks for longer while a capsule is sent, and capsules that were changed, forged or do not fit.

Each remedy that is told is carried out here. The guest runs on all the time, and verifies each block of its disk.
"""

from __future__ import annotations

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
DISK = 12 * MIB
OLDER = Path(__file__).with_name("older.yml")
#: A key without a passphrase; prints the public part.
KEY = "rm -f /root/signer*; ssh-keygen -q -t ed25519 -N '' -f /root/signer && cat /root/signer.pub"


@pytest.fixture
def lab(sites: Lab) -> Lab:
    """Both sites as new, with the guest at h1."""
    lab = sites.reset(forget=FORGET)
    lab.fault.mend_line()
    return lab


def check_sent(lab: Lab, operator: Operator, *, verify: bool = True) -> None:
    """The guest is sound at h1, and the capsule at h2 is right by all its digests."""
    if verify:
        assert lab.verify(GUEST)["disk_ok"]
        assert actual_state.everywhere(lab)[GUEST] == {"h1": "running"}
    verified = run(operator, "verify", [Step("verified", "h2", "capsule_verify", {"guest": GUEST})])["verified"]
    assert {one["status"] for one in verified["capsules"]} == {"good"}


@pytest.mark.parametrize(
    ("fault", "cuts"),
    [
        pytest.param(lambda lab: lab.fault.cut_line(60), 1, id="cut 60 s"),
        pytest.param(lambda lab: lab.fault.flap_line(2, 3, 30, reset=True), 6, id="flapping"),
        pytest.param(lambda lab: lab.fault.cut_line(60, reset=True), 1, id="reset 60 s"),
    ],
)
def test_a_fault_while_it_is_sent(lab: Lab, operator: Operator, fault: Callable[[Lab], None], cuts: int) -> None:
    steps = Steps(operator, "send", [save(), send()])
    in_the_middle(lab, steps)
    before = lab.line().bytes[0]
    fault(lab)
    outcome, results = steps.finish()
    assert outcome.status == 0, outcome.text
    [row] = results["sent"]["hosts"]
    assert row["outcome"] == "sent"
    # What had come before is not sent again. Each cut loses what is in buffers on the way.
    assert lab.line().bytes[0] - before < DISK * 1.1 + cuts * MIB // 2
    check_sent(lab, operator)


def test_the_source_loses_its_power_while_it_sends(lab: Lab, operator: Operator) -> None:
    steps = Steps(operator, "send", [save(), send()])
    in_the_middle(lab, steps, 4 * MIB)
    lab.fault.crash("h1")
    lab.fault.power_on("h1")
    outcome, _results = steps.finish()
    assert outcome.status == 2, outcome.text
    assert "the run there has died without a result: the host was restarted" in outcome.words
    assert "Run the same playbook again: it goes on from what is done." in outcome.words
    [row] = run(operator, "again", [send()])["sent"]["hosts"]
    assert row["outcome"] == "sent"
    assert row["resumed_bytes"] >= MIB
    check_sent(lab, operator, verify=False)
    # On its own host the guest is off, as after each restart, and starts as it was.
    lab.host("h1").ssh(f"virsh -q start {GUEST}", check=True)
    assert lab.verify(GUEST)["disk_errors"] == 0


def test_a_prune_at_both_ends_leaves_what_is_sent(lab: Lab, operator: Operator, tmp_path: Path) -> None:
    """Capsule 1 is not wanted any more, and is on its way: it comes as a whole. After that it goes."""
    (tmp_path / "bob").mkdir()
    bob = Operator(lab, tmp_path / "bob", user="bob")
    first = run(operator, "save", [save("first"), save("second")])["first"]
    steps = Steps(operator, "send", [send(number=1, rate="4mbit")])
    in_the_middle(lab, steps, MIB)
    prune = {"keep_last": 1, "delay_s": 0}
    rows = [Step(f"{host}_{turn}", host, "capsule_prune", prune) for host in ("h1", "h2") for turn in (1, 2)]
    pruned = run(bob, "prune", rows)
    assert steps.running.is_at_work(), "the send ended before the prune did"
    assert pruned["h1_2"]["kept"][first["digest"]] == f"capsule 1 of {GUEST} is sent to h2"
    assert pruned["h1_2"]["removed"] == pruned["h2_2"]["removed"] == []
    outcome, results = steps.finish()
    assert outcome.status == 0, outcome.text
    assert results["sent"]["hosts"][0]["outcome"] == "sent"
    check_sent(lab, operator)
    after = run(bob, "after", rows[:2])
    assert first["digest"] in [row["name"] for row in after["h1_2"]["removed"]]
    assert lab.verify(GUEST)["disk_ok"]


def test_a_forged_capsule_is_refused_by_its_signature(lab: Lab, operator: Operator) -> None:
    key = lab.host("h1").ssh(KEY, check=True).stdout.strip()
    run(operator, "save", [save(sign_with="/root/signer")])
    document = f"{STORE}/guests/*/1/capsule.json"
    lab.host("h1").ssh(f'sed -i \'s/"made_on":"h1"/"made_on":"h7"/\' {document}', check=True)
    outcome, results = Steps(operator, "forged", [send(keys=[key])]).finish()
    assert outcome.status == 2, outcome.text
    refusal = refused(results, "sent")
    assert refusal["code"] == "signature_bad"
    assert refusal["reason"].startswith(f"the signature of capsule 1 of {GUEST} is not right")
    assert refusal["remedy"] == "do not start it; find out who changed it, and send it again from its source"
    assert lab.host("h2").ssh(f"ls {STORE}/images {STORE}/guests").stdout.split("\n\n")[0].count(".qcow2") == 0
    # A new one is made of the guest, which nobody has changed.
    [row] = run(operator, "again", [save(sign_with="/root/signer"), send(keys=[key])])["sent"]["hosts"]
    assert (row["outcome"], row["refusal"]) == ("sent", None)
    check_sent(lab, operator)


def test_a_forged_block_manifest_sends_nothing(lab: Lab, operator: Operator) -> None:
    """The manifest of another image in place of the right one would have its blocks taken for those of this one."""
    saved = run(operator, "save", [save("first"), save("second")])
    one, other = (saved[name]["disks"][0]["image"].partition(":")[2] for name in ("first", "second"))
    h1 = lab.host("h1")
    h1.ssh(f"cd {STORE}/manifests && cp {other} right && cp {one} {other}", check=True)
    outcome, results = Steps(operator, "forged", [send()]).finish()
    assert outcome.status == 2, outcome.text
    refusal = refused(results, "sent")
    assert refusal["code"] == "store_damaged"
    assert f"manifests/{other} is damaged: it is of blocks:{one}" in refusal["reason"]
    # Its remedy: move it away; the next save makes what is missing anew.
    moved = refusal["remedy"].partition("(")[2].partition(")")[0]
    assert moved.startswith("mv /")
    h1.ssh(moved, check=True)
    again = run(operator, "again", [save(), send()])
    assert again["sent"]["hosts"][0]["outcome"] == "sent"
    assert again["saved"]["disks"][0]["full_because"].startswith("there were no digests of ")
    check_sent(lab, operator)


def test_digests_that_a_crash_has_lost_cost_a_whole_read_which_is_told(lab: Lab, operator: Operator) -> None:
    seen = run(operator, "save", [save("first"), save("second")])
    assert seen["second"]["disks"][0]["full_because"] is None
    lab.fault.crash("h1")
    lab.fault.power_on("h1")
    lost = f"rm {STORE}/manifests/* {STORE}/guests/*/layers.json {STORE}/index/*; virsh -q start {GUEST}"
    lab.host("h1").ssh(lost, check=True)
    after = run(operator, "after", [save(), send()])
    [disk] = after["saved"]["disks"]
    assert disk["full_because"] == f"there were no digests of {IMAGES}/{GUEST}.kvmops-1.qcow2, on which vda stands"
    assert disk["read_bytes"] >= DISK
    assert after["sent"]["hosts"][0]["outcome"] == "sent"
    check_sent(lab, operator)


def test_one_bit_of_the_document_or_of_a_part_is_repaired_by_the_send_that_is_told(
    lab: Lab, operator: Operator
) -> None:
    run(operator, "send", [save(), send()])
    h2 = lab.host("h2")
    for part, told in (("definition.xml", "part_damaged"), ("capsule.json", "capsule_damaged")):
        h2.ssh(f"cd {STORE}/guests/*/1 && sed -i 's/{GUEST}/qayroll/' {part}", check=True)
        verify = Step("verified", "h2", "capsule_verify", {})
        outcome, results = Steps(operator, f"verify-{part}", [verify]).finish()
        assert outcome.status == 2, outcome.text
        refusal = results["verified"]["refusal"]
        assert refusal["code"] == told
        assert "again from a host that has it (capsule_send)" in refusal["remedy"]
        before = lab.line().bytes[0]
        run(operator, f"again-{part}", [send()])
        # The images are right, and stay.
        assert lab.line().bytes[0] - before < MIB
        check_sent(lab, operator)


def test_what_an_older_host_cannot_start_is_not_sent(lab_with: Callable[[Path], Lab], tmp_path: Path) -> None:
    lab = lab_with(OLDER)
    lab.fault.mend_line()
    operator = Operator(lab, tmp_path)
    before = lab.line().bytes[0]
    outcome, results = Steps(operator, "memory", [save(consistency="memory"), send()]).finish()
    assert outcome.status == 2, outcome.text
    refusal = refused(results, "sent")
    assert refusal["code"] == "sparse_memory", refusal
    assert "h2" in refusal["reason"]
    assert lab.line().bytes[0] - before < MIB
    # As the remedy says: it has the guest's machine type, and can start it without memory.
    run(operator, "disks", [save(consistency="crash"), send()])
    check_sent(lab, operator)
    operator.leave()
