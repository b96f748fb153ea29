# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two sites and the line between them, for real: rate, delay, queue, cuts, and what heals it."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.session import lab_for
from lab import Lab
from lab.common.settings import Settings, from_environment
from lab.line import line
from lab.machine import process
from lab.machine.resources import existing_resources

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root"), pytest.mark.soak]

SCENARIO = """
hosts: {count: 3, memory_mib: 1024}
sites: {hosts: [[h1], [h2, h3]], mbit: 20, delay_ms: 40}
"""
# One answer of sshd for each connection: its round trips are those of TCP and of the banner.
KNOCK = """
import socket, time
began = time.monotonic()
with socket.create_connection(("{host}", 22), 20):
    print(time.monotonic() - began)
"""
#: Reads from ssh on the other host for as long as it is told, and says how its end came.
ENDLESS = "timeout 60 ssh -o ServerAliveInterval=0 root@h2 'cat /dev/zero' 2>&1 >/dev/null | tail -1"


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KVMOPS_LAB_INSTANCE", "15")
        patch.delenv("KVMOPS_LAB_STATE", raising=False)
        yield from_environment()


@pytest.fixture(scope="module")
def running(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    path = tmp_path_factory.mktemp("scenario") / "sites.yml"
    path.write_text(SCENARIO, encoding="utf-8")
    with lab_for(path) as lab:
        yield lab
    assert existing_resources(settings) == []


@pytest.fixture
def lab(running: Lab) -> Lab:
    """The lab with its line as in the scenario."""
    running.fault.mend_line()
    return running


def connect_s(lab: Lab, source: str, destination: str) -> float:
    """Return how long a TCP connection takes to come about: one round trip."""
    script = KNOCK.format(host=destination)
    times = [float(lab.hosts[source].ssh_with("python3 -", script).stdout) for dummy in range(5)]
    return min(times)


def sent_mbit_s(lab: Lab, destination: str, kib: int) -> float:
    """Return how fast h1 sends so much to another host."""
    began = time.monotonic()
    lab.hosts["h1"].ssh(
        f"dd if=/dev/zero bs=1k count={kib} status=none | ssh root@{destination} 'cat >/dev/null'", check=True
    )
    return kib * 2**10 * 8 / 1e6 / (time.monotonic() - began)


def test_a_round_trip_between_sites_takes_twice_the_delay(lab: Lab) -> None:
    assert 0.080 <= connect_s(lab, "h1", "h2") < 0.100
    assert 0.080 <= connect_s(lab, "h3", "h1") < 0.100
    assert connect_s(lab, "h2", "h3") < 0.010
    lab.fault.slow_line(20, delay_ms=150)
    assert 0.300 <= connect_s(lab, "h1", "h2") < 0.330


def test_the_line_has_its_rate_and_counts_what_crosses(lab: Lab) -> None:
    before = lab.line().bytes
    assert 20 * 0.75 < sent_mbit_s(lab, "h2", 25 << 10) < 20
    there, back = (after - earlier for after, earlier in zip(lab.line().bytes, before, strict=True))
    assert 25 * 2**20 < there < 25 * 2**20 * 1.1
    assert back < there / 10


def test_another_rate_counts_at_once(lab: Lab) -> None:
    lab.fault.slow_line(0.384)
    assert 0.384 * 0.5 < sent_mbit_s(lab, "h2", 400) < 0.384
    lab.fault.slow_line(0, delay_ms=0)
    assert sent_mbit_s(lab, "h2", 50 << 10) > 100


def test_a_packet_waits_no_longer_than_the_queue_is(lab: Lab) -> None:
    lab.fault.slow_line(2)
    sender = threading.Thread(target=sent_mbit_s, args=(lab, "h2", 2 << 10))
    sender.start()
    time.sleep(3)
    waited = connect_s(lab, "h1", "h3")
    sender.join()
    assert 0.100 < waited < 0.080 + 0.400 + 0.050


def ended_after(lab: Lab, cut: float) -> tuple[float, str]:
    """Begin an endless transfer, cut the line with a reset, and return when and how the transfer ended."""
    outcome: list[str] = []
    reader = threading.Thread(target=lambda: outcome.append(lab.hosts["h1"].ssh(ENDLESS, timeout=90).stdout))
    reader.start()
    time.sleep(3)
    began = time.monotonic()
    lab.fault.cut_line(cut, reset=True)
    reader.join()
    return time.monotonic() - began, outcome[0]


def test_a_cut_with_reset_ends_connections_at_once_and_refuses_new_ones(lab: Lab) -> None:
    took, words = ended_after(lab, 8)
    assert took < 3
    assert any(end in words for end in ("Connection reset", "Broken pipe"))
    again = lab.hosts["h1"].ssh("python3 -c 'import socket; socket.create_connection((\"h2\", 22), 5)'")
    assert "ConnectionRefusedError" in again.stderr
    left = lab.hosts["h2"].ssh("ss -tnH state established src 198.18.30.12 dst 198.18.30.11").stdout
    assert left == ""


def test_a_silent_cut_is_not_noticed_and_ends_by_itself(lab: Lab) -> None:
    sender = threading.Thread(target=sent_mbit_s, args=(lab, "h2", 15 << 10))
    began = time.monotonic()
    sender.start()
    time.sleep(2)
    lab.fault.cut_line(4)
    assert lab.line().is_down
    sender.join()
    assert time.monotonic() - began > 15 * 8.39 / 20 + 3
    assert not lab.line().is_cut
    assert lab.line().dropped[0] > 0


def test_a_line_that_flaps_is_down_and_up_by_turns(lab: Lab) -> None:
    lab.fault.flap_line(0.5, 0.5, seconds=6)
    seen = []
    while lab.line().is_cut:
        seen.append(lab.line().is_down)
        time.sleep(0.05)
    turns = sum(before != after for before, after in itertools.pairwise(seen))
    assert 9 <= turns <= 12


def test_the_line_stays_when_a_host_reboots(lab: Lab) -> None:
    before = process.recall(line.record(lab.settings))
    lab.fault.slow_line(10)
    lab.fault.reboot("h2")
    assert process.recall(line.record(lab.settings)) == before
    assert lab.line().rate_bit_s == 10_000_000
    assert 0.080 <= connect_s(lab, "h1", "h2") < 0.100


def test_up_gives_the_line_its_settings_and_starts_one_that_was_killed(lab: Lab) -> None:
    lab.fault.slow_line(1)
    lab.fault.cut_line()
    assert not Lab.up().line().is_cut
    assert lab.line().rate_bit_s == 20_000_000
    pid = process.recall(line.record(lab.settings))
    assert pid
    os.kill(pid, signal.SIGKILL)
    assert connects(lab) is False
    Lab.up()
    assert process.recall(line.record(lab.settings)) not in (None, pid)
    assert connects(lab)


def connects(lab: Lab) -> bool:
    """Whether h1 reaches h2."""
    return lab.hosts["h1"].ssh("timeout 3 bash -c '</dev/tcp/h2/22'").returncode == 0


def test_a_relay_that_nobody_wrote_down_is_replaced(lab: Lab) -> None:
    line.record(lab.settings).unlink()
    Lab.up()
    groups = subprocess.run(
        ["cat", *map(str, Path("/sys/fs/cgroup").rglob(f"{lab.settings.control_group('line')}/cgroup.procs"))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert len(set(groups.stdout.split())) == 1
    assert connects(lab)
