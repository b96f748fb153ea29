# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Post-copy that breaks: it is said, nobody waits for it, and the playbook recover makes the guest whole."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import actual_state
from harness.ansible import Running
from harness.operator import Operator
from harness.postcopy_permission import postcopy_permitted
from harness.session import lab_beside, say
from harness.tidy import tidy
from lab import Lab, LabError
from lab.common.settings import from_environment
from lab.image import base_image

SCENARIO = Path(__file__).with_name("recover.yml")
RELEASE = "testing"
GUEST = "hot"
#: A hot guest needs many seconds of post-copy for what it has dirtied.
SLOW_MBIT = 40
IN_POSTCOPY = rf"{GUEST} -> \S+ +\| post-copy +\|"
RECOVERABLE = {"allow_postcopy": "recoverable"}
SPLIT = "cat /var/lib/kvmops/split_guests.json"
REMEDY = "ansible-playbook kvmops.cluster.recover"


@pytest.fixture(scope="module")
def able_hosts() -> Iterator[Lab]:
    """Hosts that can resume a post-copy, of their own."""
    try:
        base_image.ensure(from_environment(), RELEASE, say)
    except LabError as error:
        pytest.skip(f"no image of Debian {RELEASE} can be made here: {error}")
    with postcopy_permitted(), lab_beside(SCENARIO) as lab:
        yield lab


@pytest.fixture
def able(able_hosts: Lab) -> Iterator[Lab]:
    """The same, as their scenario asks for; moves are slow."""
    lab = tidy(able_hosts)
    lab.fault.slow_link("h1", SLOW_MBIT, both=True)
    yield lab
    for host in lab.hosts:
        lab.fault.mend(host)


@pytest.fixture
def alice(able: Lab, tmp_path: Path) -> Iterator[Operator]:
    """An operator of these hosts."""
    operator = Operator(able, tmp_path, variables={"drain_host_measure_s": 0, "restore_host_measure_s": 0})
    yield operator
    operator.leave()


def drained(operator: Operator) -> Running:
    """Start to drain h1 of the hot guest."""
    return operator.start(
        "drain_host", drain_host_name="h1", drain_host_intent=RECOVERABLE, drain_host_exclude="domains[?name=='idle']"
    )


def in_postcopy(lab: Lab, drain: Running) -> str:
    """Wait until the hot guest is split between two hosts; return its destination.

    From QEMU 10.2 on, a post-copy that breaks before the destination has begun to run is none yet: the guest goes on
    where it was.
    """
    line = drain.await_text(IN_POSTCOPY, 600)
    destination = line.split(f"{GUEST} -> ", 1)[1].split(" ", 1)[0].strip()
    actual_state.wait_until(
        f"{GUEST} runs on {destination}", lambda: "running (post-copy)" in reason_at(lab, destination), 60, 0.2
    )
    return destination


def reason_at(lab: Lab, host: str) -> str:
    """Return what a host's libvirtd says of the hot guest."""
    return lab.host(host).ssh(f"virsh domstate --reason {GUEST}").stdout.strip()


def broken_off(lab: Lab, destination: str) -> None:
    """Wait until both hosts have noticed."""
    for host in ("h1", destination):
        actual_state.wait_until(
            f"post-copy has failed on {host}", lambda host=host: "post-copy failed" in reason_at(lab, host), 120
        )


def check_whole(lab: Lab, boots: dict[str, str], destination: str) -> None:
    """The guest runs at its destination only, is the one it was, and has all its memory."""
    assert actual_state.everywhere(lab)[GUEST] == {destination: "running"}
    assert actual_state.boot_ids(lab) == boots
    found = actual_state.verified(lab)
    assert all(result["memory_ok"] for result in found.values()), found
    for host in ("h1", destination):
        assert json.loads(lab.host(host).ssh(SPLIT, check=True).stdout)["guests"] == []


def marked(lab: Lab, host: str) -> list[str]:
    """Return the guests of the mark on a host, as its local fact has it."""
    text = lab.host(host).ssh("cat /etc/ansible/facts.d/kvmops_split.fact", check=True).stdout
    return [one["name"] for one in json.loads(text)["guests"]]


@pytest.mark.soak
@pytest.mark.parametrize("seconds", [5, 60, 600])
def test_a_postcopy_that_was_cut_is_resumed_by_the_playbook(able: Lab, alice: Operator, seconds: int) -> None:
    boots = actual_state.boot_ids(able)
    drain = drained(alice)
    destination = in_postcopy(able, drain)
    able.fault.cut_migration(destination)
    cut_at = time.monotonic()
    outcome = drain.finish()

    # The drain says what happened, and what to type.
    assert outcome.status == 2, outcome.text
    assert "post-copy was interrupted" in outcome.words
    assert REMEDY in outcome.words
    broken_off(able, destination)
    assert marked(able, "h1") == [GUEST]
    assert marked(able, destination) == [GUEST]
    # Nobody closes such a host, nor reboots it.
    closed = alice.run("drain_host", drain_host_name=destination)
    assert closed.status == 2, closed.text
    assert f"{destination} holds a half of {GUEST}" in closed.words
    assert REMEDY in closed.words

    # As long as the link is cut, it is named, and nothing is tried.
    early = alice.run("recover")
    assert early.status == 2, early.text
    assert f"{GUEST} h1 -> {destination} refused" in early.words or "UNCLEAR" in early.words, early.text
    time.sleep(max(0.0, cut_at + seconds - time.monotonic()))
    for host in able.hosts:
        able.fault.mend(host)
    look = alice.run("recover", "--check")
    assert look.status == 0, look.text
    assert f"{GUEST} h1 -> {destination} would be resumed" in look.words, look.text
    assert "post-copy failed" in reason_at(able, "h1")

    done = alice.run("recover")
    assert done.status == 0, done.text
    assert f"{GUEST} h1 -> {destination} resumed, and whole" in done.words, done.text
    check_whole(able, boots, destination)
    again = alice.run("recover")
    assert again.status == 0, again.text
    assert "No move is broken off." in again.words
    last = alice.run("drain_host", drain_host_name="h1")
    assert last.status == 0, last.text


@pytest.mark.soak
def test_a_split_guest_holds_nobodys_turn(able: Lab, alice: Operator) -> None:
    drain = drained(alice)
    destination = in_postcopy(able, drain)
    able.fault.cut_migration(destination)
    assert drain.finish().status == 2
    broken_off(able, destination)
    for host in able.hosts:
        able.fault.mend(host)
    # The other guest goes to the very host that has a half, and comes home.
    domain = f"virsh -q migrate --live --p2p --persistent --undefinesource idle qemu+tcp://{destination}/system"
    able.host("h1").ssh(domain, check=True)
    home = alice.run("restore_host", restore_host_name="h1", restore_host_left=["idle"])
    assert actual_state.everywhere(able)["idle"] == {"h1": "running"}, home.text
    assert "taking in" not in home.words
    done = alice.run("recover")
    assert done.status == 0, done.text
    assert actual_state.everywhere(able)[GUEST] == {destination: "running"}


@pytest.mark.soak
def test_a_controller_that_is_killed_meanwhile_changes_nothing(able: Lab, alice: Operator) -> None:
    boots = actual_state.boot_ids(able)
    drain = drained(alice)
    destination = in_postcopy(able, drain)
    drain.kill()
    able.fault.cut_migration(destination)
    broken_off(able, destination)
    for host in able.hosts:
        able.fault.mend(host)
    # The job on the host may still be at work for a moment; then it says so.
    actual_state.wait_until("the run has ended", lambda: not busy(able), 180)
    recover = alice.start("recover")
    recover.await_text(rf"{GUEST} -> \S+ +\| post-copy +\|", 300)
    recover.kill()
    actual_state.wait_until(
        "the job on the host finishes it", lambda: actual_state.everywhere(able)[GUEST] == {destination: "running"}, 300
    )
    actual_state.wait_until("the run has ended", lambda: not busy(able), 180)
    last = alice.run("recover")
    assert last.status == 0, last.text
    check_whole(able, boots, destination)


def busy(lab: Lab) -> bool:
    """Whether a run is at work on h1."""
    lease = "/var/lib/kvmops/apply.lease"
    return lab.host("h1").ssh(f"[ -e {lease} ] && ! flock --nonblock {lease} true").returncode == 0


@pytest.mark.soak
def test_a_link_that_flaps_is_resumed_as_often_as_it_breaks(able: Lab, alice: Operator) -> None:
    boots = actual_state.boot_ids(able)
    drain = drained(alice)
    destination = in_postcopy(able, drain)
    able.fault.cut_migration(destination)
    assert drain.finish().status == 2
    broken_off(able, destination)
    for host in able.hosts:
        able.fault.mend(host)
        able.fault.slow_link(host, SLOW_MBIT)
    recover = alice.start("recover")
    recover.await_text(rf"{GUEST} -> \S+ +\| post-copy +\|", 300)
    for _time in range(3):
        able.fault.cut_migration(destination)
        time.sleep(3)
        for host in able.hosts:
            able.fault.mend(host)
            able.fault.slow_link(host, SLOW_MBIT)
        time.sleep(4)
    outcome = recover.finish()
    assert outcome.status == 0, outcome.text
    check_whole(able, boots, destination)


@pytest.mark.soak
def test_a_guest_whose_destination_has_lost_power_is_named_as_lost(able: Lab, alice: Operator) -> None:
    drain = drained(alice)
    destination = in_postcopy(able, drain)
    able.fault.kill_qemu(destination, GUEST)
    assert drain.finish().status == 2
    outcome = alice.run("recover")
    assert outcome.status == 2, outcome.text
    assert f"{GUEST} h1 -> {destination} LOST" in outcome.words, outcome.text
    remedy = f"End what is left on h1 (virsh destroy {GUEST} there)"
    assert remedy in outcome.words
    # What was printed works, and nothing was done before.
    assert "post-copy failed" in reason_at(able, "h1")
    able.host("h1").ssh(f"virsh destroy {GUEST} && virsh start {GUEST}", check=True)
    assert alice.run("recover").status == 0


def test_hosts_that_cannot_resume_are_named_before_the_move(lab: Lab, operator: Operator) -> None:
    plan = operator.run("drain_host", "--check", drain_host_name="h1", drain_host_intent=RECOVERABLE)
    assert plan.status == 0, plan.text
    assert "could not be resumed there: libvirt 11.3 on " in plan.words, plan.text
    assert "upgrade libvirt on " in plan.words
    assert len(actual_state.active_on(lab, "h1")) > 1
