# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What waits unsent in a guest's connection: told before, bounded with consent, and nothing left of it."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from harness import actual_state
from harness.ansible import Running
from harness.operator import Operator
from lab import Host, Lab

pytestmark = pytest.mark.soak

#: Slow enough for a look at the connection while a guest moves.
SLOW_MBIT = 60
#: A connection with a limit of 128 KiB goes a little beyond it; one without holds half a megabyte and more.
FEW_BYTES = 300_000
BOUNDED = "at most 128 KiB are unsent in its connection"
#: All of a host that a send buffer could be changed by.
SETTINGS = """
sysctl net.core.wmem_max net.ipv4.tcp_wmem net.ipv4.tcp_rmem net.ipv4.tcp_notsent_lowat
ip -4 route show table all
ip tcp_metrics show | grep -c lock
true
"""
CONNECTIONS = "ss -Htin state established '( dport >= :49152 and dport <= :49215 )'"


def start_move(lab: Lab, operator: Operator, **options: Any) -> Running:
    """Send a guest from h1 to h2, slowly."""
    lab.fault.slow_link("h2", SLOW_MBIT)
    h2 = lab.host("h2")
    return operator.start_module(
        "h1",
        "domain_migrate",
        "-v",
        guest="idle",
        destination="h2",
        destination_uri="qemu+ssh://root@h2/system",
        migration_address=h2.migration_address,
        **options,
    )


def settings_of(host: Host) -> str:
    return host.ssh(SETTINGS, check=True).stdout


def most_unsent(host: Host) -> int | None:
    """Bytes that wait unsent in a host's outgoing migration connections, or None where there is none."""
    told = host.ssh(CONNECTIONS, check=True).stdout
    if not told.strip():
        return None
    return max((int(number) for number in re.findall(r"notsent:(\d+)", told)), default=0)


def watch(host: Host, seconds: float = 3.0) -> list[int]:
    """Look at the connections again and again."""
    seen, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        found = most_unsent(host)
        seen += [] if found is None else [found]
        time.sleep(0.2)
    return seen


@pytest.mark.parametrize("encryption", ["off", "required"])
def test_with_consent_little_waits_unsent_and_the_host_stays_as_it_was(
    lab: Lab, operator: Operator, encryption: str
) -> None:
    h1 = lab.host("h1")
    before = settings_of(h1)
    moving = start_move(lab, operator, tune_network=True, encryption=encryption)
    moving.await_text(BOUNDED)
    # What the guest wrote before the bound has to leave first.
    actual_state.wait_until("what waited before has left", lambda: (most_unsent(h1) or FEW_BYTES) < FEW_BYTES)
    seen = watch(h1)
    during = settings_of(h1)
    outcome = moving.finish()
    assert outcome.status == 0, outcome.text
    assert len(seen) > 3
    assert 0 < max(seen) < FEW_BYTES, seen
    assert (during, settings_of(h1)) == (before, before)
    assert lab.where("idle") == ["h2"]
    assert lab.verify("idle")["memory_ok"]


def test_without_consent_nothing_is_touched(lab: Lab, operator: Operator) -> None:
    moving = start_move(lab, operator, encryption="off")
    actual_state.wait_until("the buffer has filled", lambda: (most_unsent(lab.host("h1")) or 0) > FEW_BYTES)
    outcome = moving.finish()
    assert outcome.status == 0, outcome.text
    assert BOUNDED not in outcome.words


def test_a_killed_run_leaves_nothing_to_give_back(lab: Lab, operator: Operator) -> None:
    h1 = lab.host("h1")
    before = settings_of(h1)
    moving = start_move(lab, operator, tune_network=True, encryption="off")
    moving.await_text(BOUNDED)
    moving.kill()
    h1.ssh("kill -KILL $(pgrep -f domain_migrat[e])")
    assert most_unsent(h1) is not None
    actual_state.wait_until("the guest has moved", lambda: lab.where("idle") == ["h2"])
    assert settings_of(h1) == before
    assert most_unsent(h1) is None


def test_what_it_would_bring_is_told_before(lab: Lab, operator: Operator) -> None:
    operator.set_host("h1", kvmops_cluster_bandwidth_mib_s=22.8)
    proof = operator.run("preflight")
    assert proof.status == 0, proof.text
    assert "1.6 MiB are unsent in the send buffer when a guest is stopped" in proof.words
    assert "with at most 128 KiB unsent it would be about 16 ms" in proof.words
    assert "drain_host_tune_network=true" in proof.words
