# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What becomes of a drain whose controller, whose job or whose operator leaves in the middle."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import actual_state
from harness.ansible import Running
from harness.operator import Operator
from lab import Lab

#: Slow enough for a guest to be caught on its way, on any machine.
SLOW_MBIT = 60
IN_TRANSFER = r"\| pre-copy +\| +\d+ %"
#: ansible-playbook's own exit status after Ctrl-C.
INTERRUPTED = 99


@pytest.fixture
def settings() -> dict[str, str]:
    """Nobody has turned pipelining on: what runs on a host is a file there."""
    return {"ANSIBLE_PIPELINING": "False"}


@pytest.fixture
def slowly(lab: Lab) -> Iterator[Lab]:
    """Let moves take seconds."""
    lab.fault.slow_link("h1", SLOW_MBIT, both=True)
    yield lab
    lab.fault.mend("h1")


def moving_guest(running: Running) -> str:
    """Wait until a guest is on its way; return its name."""
    line = running.await_text(IN_TRANSFER, 600)
    return line.split(": ", 1)[1].split(" -> ")[0]


def left(lab: Lab, guest: str) -> bool:
    """Whether a guest runs at exactly one host, which is not h1."""
    where = actual_state.everywhere(lab)[guest]
    return len(where) == 1 and "h1" not in where and list(where.values()) == ["running"]


def check_nobody_lost(lab: Lab, boots: dict[str, str]) -> None:
    """Every guest runs at exactly one host, is the one it was, and has its memory."""
    # A guest on its way shows at its destination as well, where it does not run.
    running = {
        name: sum(state == "running" for state in hosts.values())
        for name, hosts in actual_state.everywhere(lab).items()
    }
    assert running == dict.fromkeys(lab.guests, 1)
    assert actual_state.boot_ids(lab) == boots
    assert all(result["memory_ok"] for result in actual_state.verified(lab).values())


def finish_the_drain(operator: Operator, lab: Lab) -> None:
    """Type the same command again; it does the rest."""
    lab.fault.mend("h1")
    again = operator.run("drain_host", drain_host_name="h1")
    assert again.status == 0, again.text
    assert actual_state.active_on(lab, "h1") == []
    assert "h1 runs no guest." in again.words


def test_a_killed_controller_loses_nothing(slowly: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(slowly)
    drain = operator.start("drain_host", drain_host_name="h1")
    guest = moving_guest(drain)
    drain.kill()
    actual_state.wait_until(f"{guest} arrives by itself", lambda: left(slowly, guest))
    check_nobody_lost(slowly, boots)
    finish_the_drain(operator, slowly)
    check_nobody_lost(slowly, boots)


@pytest.mark.soak
def test_a_run_after_a_kill_joins_the_one_that_is_still_at_work(slowly: Lab, operator: Operator) -> None:
    drain = operator.start("drain_host", drain_host_name="h1")
    moving_guest(drain)
    drain.kill()
    again = operator.start("drain_host", drain_host_name="h1")
    # The second run shows how the first one's moves go, though it started none of them.
    again.await_text(IN_TRANSFER, 600)
    slowly.fault.mend("h1")
    outcome = again.finish()
    assert outcome.status == 0, outcome.text
    assert actual_state.active_on(slowly, "h1") == []


@pytest.mark.soak
def test_ctrl_c_lets_the_moving_guest_arrive_and_starts_no_other(slowly: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(slowly)
    drain = operator.start("drain_host", drain_host_name="h1")
    guest = moving_guest(drain)
    drain.press_ctrl_c()
    outcome = drain.finish()
    assert outcome.status == INTERRUPTED, outcome.text
    assert "h1: interrupted. No further move starts there; the move in flight completes." in outcome.words
    assert "Run the same playbook again to continue." in outcome.words

    actual_state.wait_until(f"{guest} arrives", lambda: left(slowly, guest))
    actual_state.wait_until("the job on h1 ends", lambda: lease_is_free(slowly))
    others = [name for name in ("busy", "idle", "shy", "web-one") if name != guest]
    assert actual_state.active_on(slowly, "h1") == others, "another guest was started after Ctrl-C"
    check_nobody_lost(slowly, boots)
    assert '"state": "cordoned"' in slowly.host("h1").ssh("cat /var/lib/kvmops/maintenance.json", check=True).stdout
    finish_the_drain(operator, slowly)
    check_nobody_lost(slowly, boots)


@pytest.mark.soak
def test_a_killed_job_on_the_host_leaves_the_move_to_libvirt(slowly: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(slowly)
    drain = operator.start("drain_host", drain_host_name="h1")
    guest = moving_guest(drain)
    slowly.host("h1").ssh(
        "kill -KILL $(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' /var/lib/kvmops/apply.lease)", check=True
    )
    outcome = drain.finish()
    assert outcome.status != 0, outcome.text
    actual_state.wait_until(f"{guest} arrives by itself", lambda: left(slowly, guest))
    check_nobody_lost(slowly, boots)
    finish_the_drain(operator, slowly)
    check_nobody_lost(slowly, boots)


@pytest.mark.soak
def test_a_move_of_one_guest_is_aborted_by_ctrl_c(slowly: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(slowly)
    move = operator.start_module(
        "h1", "domain_migrate", guest="busy", destination="h2", destination_uri="qemu+ssh://root@h2/system"
    )
    moving_guest(move)
    move.press_ctrl_c()
    outcome = move.finish()
    assert outcome.status != 0, outcome.text
    assert "h1: interrupted. The move is being aborted; the guest stays where it is." in outcome.words
    actual_state.wait_until("the move is over", lambda: actual_state.everywhere(slowly)["busy"] == {"h1": "running"})
    actual_state.wait_until("no job is left", lambda: "None" in slowly.host("h1").ssh("virsh domjobinfo busy").stdout)
    check_nobody_lost(slowly, boots)
    assert actual_state.places(slowly)["busy"] == "h1"


@pytest.mark.soak
def test_a_guest_that_is_migrating_already_is_awaited(slowly: Lab, operator: Operator) -> None:
    boots = actual_state.boot_ids(slowly)
    by_hand = "virsh migrate --live --p2p --persistent --undefinesource shy qemu+ssh://root@h2/system"
    slowly.host("h1").ssh(f"nohup {by_hand} >/run/by-hand.log 2>&1 </dev/null &", check=True)
    actual_state.wait_until(
        "it is on its way", lambda: "Unbounded" in slowly.host("h1").ssh("virsh domjobinfo shy").stdout
    )
    move = operator.run_module(
        "h1", "domain_migrate", guest="shy", destination="h2", destination_uri="qemu+ssh://root@h2/system"
    )
    assert move.status == 0, move.text
    assert "a migration is already in flight; waiting for its end" in move.words
    assert '"outcome": "moved"' in move.text
    assert actual_state.everywhere(slowly)["shy"] == {"h2": "running"}
    check_nobody_lost(slowly, boots)


def lease_is_free(lab: Lab) -> bool:
    """Whether no run is at work on h1."""
    return lab.host("h1").ssh("flock --nonblock /var/lib/kvmops/apply.lease true").returncode == 0
