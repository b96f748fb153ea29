# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Things that break in the middle of a move: nobody is lost, all is told, and the same command finishes it.

tests/faults has each fault in each phase; here is what an operator reads.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import actual_state
from harness.ansible import Running
from harness.operator import Operator
from lab import Lab

SLOW_MBIT = 60
IN_TRANSFER = r"\| pre-copy +\| +\d+ %"


@pytest.fixture
def slowly(lab: Lab) -> Iterator[Lab]:
    """Let moves take seconds."""
    lab.fault.slow_link("h1", SLOW_MBIT, both=True)
    yield lab
    for host in lab.hosts:
        lab.fault.mend(host)


def moving_guest(running: Running) -> tuple[str, str]:
    """Wait until a guest is on its way; return its name and its destination."""
    line = running.await_text(IN_TRANSFER, 600)
    guest, rest = line.split(": ", 1)[1].split(" -> ", 1)
    return guest, rest.split(" | ")[0].strip()


def test_a_fault_that_passes_costs_one_more_try(slowly: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(slowly)
    drain = operator.start("drain_host", drain_host_name="h1")
    guest, destination = moving_guest(drain)
    slowly.fault.kill_daemon(destination)
    for host in slowly.hosts:
        slowly.fault.slow_link(host, 1000)
    outcome = drain.finish()

    check_nobody_lost(slowly, boots)
    assert outcome.status == 0, outcome.text
    assert actual_state.active_on(slowly, "h1") == []
    assert f"{guest} -> {destination} | waiting" in outcome.words, outcome.text
    assert "trying once more: " in outcome.words
    assert f"Note: {guest}: the first try failed: " in outcome.words
    [report] = operator.reports()
    assert report["ok"] is True


def test_a_link_that_stays_down_loses_nobody(slowly: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(slowly)
    drain = operator.start("drain_host", drain_host_name="h1")
    guest, destination = moving_guest(drain)
    slowly.fault.cut_migration(destination)
    for host in slowly.hosts:
        slowly.fault.slow_link(host, 1000)
    outcome = drain.finish()

    check_nobody_lost(slowly, boots)
    # What failed is told with what to do; what could go has gone.
    still_there = actual_state.active_on(slowly, "h1")
    assert guest in still_there
    assert outcome.status == 2, outcome.text
    assert "The drain of h1 is not complete" in outcome.words
    assert f"To do: 1. {guest} still runs on h1: its move to {destination} failed (" in outcome.words
    assert f"h1 still runs {', '.join(still_there)}, and stays cordoned." in outcome.words
    assert '"state": "cordoned"' in slowly.host("h1").ssh("cat /var/lib/kvmops/maintenance.json").stdout
    [report] = operator.reports()
    assert report["ok"] is False
    for row in report["guests"]:
        gone = row["guest"] not in still_there
        assert row["outcome"] in (("moved",) if gone else ("failed", "refused")), row
        assert bool(row["error"] or row["refusals"]) is not gone

    for host in slowly.hosts:
        slowly.fault.mend(host)
    again = operator.run("drain_host", drain_host_name="h1")
    assert again.status == 0, again.text
    assert actual_state.active_on(slowly, "h1") == []
    check_nobody_lost(slowly, boots)


def test_a_guest_that_dies_during_its_move_is_named_with_what_starts_it(slowly: Lab, operator: Operator) -> None:
    drain = operator.start("drain_host", drain_host_name="h1")
    guest, destination = moving_guest(drain)
    slowly.fault.kill_qemu("h1", guest)
    for host in slowly.hosts:
        slowly.fault.slow_link(host, 1000)
    outcome = drain.finish()

    assert outcome.status == 2, outcome.text
    assert f"To do: 1. {guest} is off on h1, and runs nowhere (" in outcome.words
    assert f"its QEMU on h1 has ended: {guest} is shutoff (crashed) on h1 and unknown on {destination}" in outcome.words
    command = f"virsh start {guest}"
    assert f"{command} on h1; /var/log/libvirt/qemu/{guest}.log there says how it ended" in outcome.words
    others = {name: states for name, states in actual_state.everywhere(slowly).items() if name != guest}
    assert all(list(states.values()) == ["running"] for states in others.values())

    # Nobody else would miss it, so the next run says it as well.
    again = operator.run("drain_host", drain_host_name="h1")
    assert again.status == 2, again.text
    told = f"{guest} ran on h1 when that was closed, and runs nowhere now: it is off on h1"
    assert f"{told}. -> start it: {command} on h1 (" in again.words
    assert f"{told}. Do what is said above of each, or dismiss it with -e drain_host_dismiss=NAME." in again.words
    # What was printed works.
    dismissed = operator.run("drain_host", drain_host_name="h1", drain_host_dismiss=guest)
    assert dismissed.status == 0, dismissed.text
    slowly.host("h1").ssh(command, check=True)
    assert slowly.where(guest) == ["h1"]
    last = operator.run("drain_host", drain_host_name="h1")
    assert last.status == 0, last.text
    assert told not in last.words
    assert actual_state.active_on(slowly, "h1") == []


def check_nobody_lost(lab: Lab, boots: dict[str, str]) -> None:
    """Every guest runs at exactly one host, is the one it was, and has its memory."""
    actual_state.wait_until("every libvirtd answers", lambda: bool(actual_state.everywhere(lab)))
    where = actual_state.everywhere(lab)
    assert {name: list(hosts.values()) for name, hosts in where.items()} == {name: ["running"] for name in lab.guests}
    assert actual_state.boot_ids(lab) == boots
    assert all(result["memory_ok"] for result in actual_state.verified(lab).values())


@pytest.fixture
def spoiled(lab: Lab) -> Iterator[str]:
    """A guest with one page of memory that is not as it left it; the next test gets a new one."""
    name = "idle"
    assert lab.verify(name)["memory_ok"]
    lab.fault.spoil_memory("h1", name)
    yield name
    lab.host("h1").ssh(f"virsh -q destroy {name}")


def test_memory_that_a_move_had_spoiled_would_be_found(lab: Lab, spoiled: str) -> None:
    """What the other tests find of every guest's memory can fail."""
    found = lab.verify(spoiled)
    assert (found["memory_ok"], found["bad_pages"]) == (False, 1)
