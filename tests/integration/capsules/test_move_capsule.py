# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator moves a guest to the other site, with everything that it is, and home again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import actual_state
from harness.ansible import Running
from harness.operator import Operator
from lab import Lab

GUEST = "payroll"
FORGET = ("/var/lib/libvirt/capsules", "/var/lib/kvmops", "/run/kvmops", "/var/lib/libvirt/images/*")
FILES = ["/usr/share/kvmops-lab/*", "/var/log/kvmops-lab/*"]
SUSPENDED = {"move_capsule_modes": ["suspended"], "move_capsule_measure_s": 0, "move_capsule_rate": "20mbit"}


@pytest.fixture
def operator(lab: Lab, tmp_path: Path) -> Iterator[Operator]:
    """Alice, whose inventory permits the guests' kernel on all hosts."""
    alice = Operator(lab, tmp_path, variables={"kvmops_cluster_capsule_files": FILES})
    yield alice
    alice.leave()


def begin(operator: Operator, to: str, *words: str) -> Running:
    return operator.start("move_capsule", *words, move_capsule_guest=GUEST, move_capsule_destination=to, **SUSPENDED)


def place(lab: Lab) -> dict[str, str]:
    """Return the state of the guest on each host that knows it."""
    return {host: state for host, state in actual_state.everywhere(lab)[GUEST].items() if state != "absent"}


def run_number(lab: Lab, host: str) -> str:
    """Return the number of the guest's QEMU, which changes if the guest is stopped."""
    return lab.host(host).ssh(f"virsh domid {GUEST}", check=True).stdout.strip()


def check_whole(lab: Lab, host: str) -> None:
    assert place(lab) == {host: "running"}
    verified = lab.verify(GUEST)
    assert (verified["memory_ok"], verified["disk_ok"], verified["disk_errors"]) == (True, True, 0)


def test_what_the_far_end_would_refuse_stops_no_guest(lab: Lab, tmp_path: Path) -> None:
    before = run_number(lab, "h1")
    operator = Operator(lab, tmp_path)
    try:
        outcome = operator.run_module("h1", "capsule_move", guest=GUEST, to="h2")
        assert outcome.status != 0
        assert f"the definition of {GUEST} has the file /usr/share/kvmops-lab/" in outcome.words
        assert "(kvmops_cluster_capsule_files of h2)" in outcome.words
    finally:
        operator.leave()
    assert run_number(lab, "h1") == before
    assert place(lab) == {"h1": "running"}


def check_move(lab: Lab, operator: Operator, home: str, host: str) -> None:
    outcome = begin(operator, host).finish()
    assert outcome.status == 0, outcome.text
    assert f"{home}: {GUEST} -> {host} | done" in outcome.text
    check_whole(lab, host)


def test_a_guest_moves_to_the_other_site(lab: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(lab)
    check_move(lab, operator, "h1", "h2")
    assert actual_state.boot_ids(lab) == boots


@pytest.mark.soak
def test_a_check_moves_nothing_and_a_guest_comes_home(lab: Lab, operator: Operator) -> None:
    lab.reset(forget=FORGET)
    boots = actual_state.boot_ids(lab)
    before = run_number(lab, "h1")
    looked = begin(operator, "h2", "--check").finish()
    assert looked.status == 0, looked.text
    assert looked.total("changed") == 0 or run_number(lab, "h1") == before
    assert run_number(lab, "h1") == before
    check_move(lab, operator, "h1", "h2")
    check_move(lab, operator, "h2", "h1")
    assert actual_state.boot_ids(lab) == boots


@pytest.mark.soak
def test_a_move_goes_on_without_its_controller(lab: Lab, operator: Operator) -> None:
    lab.reset(forget=FORGET)
    running = begin(operator, "h2")
    # The guest is off from here on.
    running.await_text(rf"{GUEST} -> h2 \| send +.*the guest is saved and stops")
    running.kill()
    outcome = begin(operator, "h2").finish()
    assert outcome.status == 0, outcome.text
    check_whole(lab, "h2")
