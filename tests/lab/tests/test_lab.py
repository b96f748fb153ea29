# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab against itself, for real: hosts, guests, measurements, faults, and nothing left at the end.

It runs as a lab of its own (instance 15, own state), beside one that may be up:

    sudo env PYTHONPATH=tests .venv/bin/python -m pytest tests/lab/tests

`make soak NAME=lab` runs it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.session import lab_for
from lab import Lab, LabError
from lab.cluster.removal import take_down
from lab.common.settings import Settings, from_environment
from lab.host import container
from lab.machine import process
from lab.machine.resources import existing_resources

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root"), pytest.mark.soak]

SCENARIO = """
hosts: {count: 2, link_mbit: 200, memory_mib: 2048}
guests:
  - {name: calm, host: h1, touched_mib: 16}
  - {name: warm, host: h1, touched_mib: 32, hot_mib: 4, pages_per_s: 500, group: pair, policy: {max_downtime_ms: 400}}
  - {name: store, host: h2, touched_mib: 16, disk: 32, disk_on: local}
"""
KINDS = """
hosts: {count: 2, link_mbit: 200, memory_mib: 2048}
guests:
  - {name: text, host: h1, hot_mib: 4, pages_per_s: 400, content: compressible}
  - {name: cold, host: h1, hot_mib: 4, pages_per_s: 200, cold_pages_per_s: 200, pattern: whole}
  - name: shifts
    host: h1
    phases: [{seconds: 1, hot_mib: 4, pages_per_s: 400}, {seconds: 1, hot_mib: 16, pages_per_s: 4000}]
"""
DEVICE = """
hosts: {count: 2, link_mbit: 200, memory_mib: 2048}
guests:
  - {name: raw, host: h1, touched_mib: 16, disk: 16, disk_on: block}
"""
MOVE = "virsh migrate --live --p2p --persistent --undefinesource"


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KVMOPS_LAB_INSTANCE", "15")
        patch.delenv("KVMOPS_LAB_STATE", raising=False)
        yield from_environment()


@pytest.fixture(scope="module")
def scenario(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scenario") / "two.yml"
    path.write_text(SCENARIO, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def running(settings: Settings, scenario: Path) -> Iterator[Lab]:
    with lab_for(scenario) as lab:
        yield lab
    assert existing_resources(settings) == []


@pytest.fixture
def lab(running: Lab) -> Lab:
    """The lab with all guests fresh and at home."""
    return running.reset()


def test_up_again_changes_nothing(running: Lab, scenario: Path) -> None:
    before = {name: running.verify(name)["boot_id"] for name in running.guests}
    again = Lab.up(scenario)
    assert {name: again.verify(name)["boot_id"] for name in again.guests} == before


def test_a_move_is_seen_and_keeps_the_memory(lab: Lab) -> None:
    before = lab.verify("warm")
    with lab.probe(["calm", "warm"]) as probe:
        time.sleep(2)
        baseline = probe.records()
        probe.mark()
        lab.hosts["h1"].ssh(f"{MOVE} warm qemu+ssh://root@h2/system", check=True)
        moved = probe.records()
    assert baseline["warm"]["resolution_ms"] < moved["warm"]["downtime_ms"]
    assert baseline["warm"]["downtime_ms"] < moved["warm"]["downtime_ms"]
    assert moved["calm"]["downtime_ms"] < moved["warm"]["downtime_ms"]
    assert moved["warm"]["alive"]
    assert lab.where("warm") == ["h2"]
    after = lab.verify("warm")
    assert after["memory_ok"]
    assert after["boot_id"] == before["boot_id"]
    assert after["pages_written"] > before["pages_written"]


def test_guests_of_every_kind_work_at_their_rate_and_keep_their_memory(running: Lab, tmp_path: Path) -> None:
    other = tmp_path / "kinds.yml"
    other.write_text(KINDS, encoding="utf-8")
    lab = running.reset(other)
    with lab.probe() as probe:
        time.sleep(4)
        for name in lab.guests:
            lab.host("h1").ssh(f"{MOVE} {name} qemu+tcp://h2/system", check=True)
        records = probe.records()
    for name, record in records.items():
        # A page of the hot phase counts as a tenth of one of the calm phase.
        assert 0.5 < record["pages_written"] / (400 * record["seconds"]) < 1.1, name
        assert record["downtime_ms"] > 0
        assert lab.verify(name)["memory_ok"]


def test_a_move_with_tls_and_back_with_tcp(lab: Lab) -> None:
    lab.hosts["h1"].ssh(f"{MOVE} --tls calm qemu+tls://h2/system", check=True)
    assert lab.where("calm") == ["h2"]
    lab.hosts["h2"].ssh(f"{MOVE} calm qemu+tcp://h1/system", check=True)
    assert lab.where("calm") == ["h1"]
    assert lab.verify("calm")["memory_ok"]


def test_a_disk_goes_along(lab: Lab) -> None:
    time.sleep(1)
    lab.hosts["h2"].ssh(f"{MOVE} --copy-storage-all store qemu+tcp://h1/system", check=True)
    result = lab.verify("store")
    assert result["disk_ok"]
    assert result["disk_blocks_checked"] > 0


def test_a_block_device_is_there_on_each_host_also_after_a_reboot(running: Lab, tmp_path: Path) -> None:
    other = tmp_path / "device.yml"
    other.write_text(DEVICE, encoding="utf-8")
    lab = running.reset(other)
    lab.fault.reboot("h2")
    lab.host("h1").ssh(f"{MOVE} raw qemu+tcp://h2/system", check=True)
    assert lab.where("raw") == ["h2"]
    verified = lab.verify("raw")
    assert (verified["memory_ok"], verified["disk_ok"]) == (True, True)
    names = "readlink -f /dev/disk/by-id/kvmops-lab-raw && stat -L --format=%F:%t:%T /dev/disk/by-id/kvmops-lab-raw"
    assert lab.host("h2").ssh(names, check=True).stdout == lab.host("h1").ssh(names, check=True).stdout


def test_the_link_has_its_limit(lab: Lab) -> None:
    began = time.monotonic()
    lab.hosts["h1"].ssh("dd if=/dev/zero bs=1M count=50 status=none | ssh root@h2 'cat >/dev/null'", check=True)
    assert time.monotonic() - began > 50 * 8.39 / 200 * 0.8


def test_a_cut_migration_fails_and_the_guest_stays(lab: Lab) -> None:
    outcome: list[subprocess.CompletedProcess[str]] = []

    def move() -> None:
        outcome.append(lab.hosts["h1"].ssh(f"{MOVE} warm qemu+tcp://h2/system", timeout=120))

    mover = threading.Thread(target=move)
    mover.start()
    time.sleep(2)
    lab.fault.cut_migration("h2")
    mover.join()
    assert outcome[0].returncode != 0
    assert lab.where("warm") == ["h1"]
    lab.fault.mend("h2")
    lab.hosts["h1"].ssh(f"{MOVE} warm qemu+tcp://h2/system", check=True)
    assert lab.where("warm") == ["h2"]
    assert lab.verify("warm")["memory_ok"]


def test_a_cut_link_separates_the_hosts_but_not_us(lab: Lab) -> None:
    knock = "timeout 2 bash -c '</dev/tcp/h2/16509'"
    assert lab.hosts["h1"].ssh(knock).returncode == 0
    lab.fault.cut_link("h2")
    assert lab.hosts["h1"].ssh(knock).returncode != 0
    assert lab.hosts["h2"].ssh("true").returncode == 0
    lab.fault.mend("h2")
    assert lab.hosts["h1"].ssh(knock).returncode == 0


def test_killing_a_daemon_leaves_its_guests_alone(lab: Lab) -> None:
    before = lab.verify("calm")["boot_id"]
    with lab.probe(["calm"]) as probe:
        lab.fault.kill_daemon("h1")
        assert lab.where("calm") == ["h1"]
        record = probe.records()["calm"]
    assert record["alive"]
    assert lab.verify("calm")["boot_id"] == before


def test_killing_a_qemu_ends_one_guest(lab: Lab) -> None:
    lab.fault.kill_qemu("h1", "warm")
    time.sleep(0.5)
    assert lab.where("warm") == []
    assert lab.where("calm") == ["h1"]
    with lab.probe(["warm"]) as probe:
        time.sleep(0.5)
    record = probe.records()["warm"]
    assert not record["alive"]
    assert record["downtime_ms"] > 450


def test_a_reboot_is_a_reboot(lab: Lab) -> None:
    before = lab.hosts["h2"].boot_id()
    lab.fault.reboot("h2")
    assert lab.hosts["h2"].boot_id() != before
    assert lab.where("store") == []
    assert lab.where("calm") == ["h1"]


def test_a_crashed_host_comes_back(lab: Lab) -> None:
    lab.fault.crash("h2")
    assert not lab.hosts["h2"].is_running()
    assert lab.where("store") == []
    lab.fault.power_on("h2")
    assert lab.hosts["h2"].ssh("true").returncode == 0


def test_power_off_is_orderly(lab: Lab) -> None:
    lab.fault.power_off("h2")
    assert not lab.hosts["h2"].is_running()
    lab.fault.power_on("h2")


def test_up_heals_what_a_killed_supervisor_left(lab: Lab, settings: Settings) -> None:
    for record in (container.supervisor_record(settings, "h1"), container.nspawn_record(settings, "h2")):
        pid = process.recall(record)
        assert pid
        os.kill(pid, signal.SIGKILL)
    healed = Lab.up()
    assert all(healed.verify(name)["memory_ok"] for name in healed.guests)


def test_a_supervisor_that_nobody_wrote_down_boots_nothing(
    lab: Lab, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = []

    def dies(_record: Path, pid: int) -> None:
        begun.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(process, "remember", dies)
    with pytest.raises(KeyboardInterrupt):
        container.start(settings, "h1")
    deadline = time.monotonic() + 120
    while process.start_time(begun[0]) is not None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert lab.host("h1").is_running()
    assert "died before writing it down" in (settings.host_folder("h1") / "console.log").read_text(encoding="utf-8")


@pytest.mark.parametrize("seconds", [0.4, 1.0, 2.0, 4.0])
def test_up_heals_what_a_killed_up_left(running: Lab, settings: Settings, seconds: float) -> None:
    take_down()
    assert existing_resources(settings) == []
    scenario = settings.state / "again.yml"
    scenario.write_text(SCENARIO, encoding="utf-8")
    began = subprocess.Popen(
        [sys.executable, "-m", "lab", "up", "--scenario", str(scenario)],
        env=dict(os.environ, PYTHONPATH=str(Path(__file__).parents[2])),
        stderr=subprocess.DEVNULL,
    )
    time.sleep(seconds)
    began.kill()
    began.wait()
    healed = Lab.up(scenario)
    assert all(healed.verify(name)["memory_ok"] for name in healed.guests)
    assert {name: healed.where(name) for name in healed.guests} == {"calm": ["h1"], "warm": ["h1"], "store": ["h2"]}


def test_the_same_names_in_another_folder_are_refused(
    lab: Lab, scenario: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KVMOPS_LAB_STATE", str(tmp_path))
    with pytest.raises(LabError, match=f"is up already, with its state in {lab.settings.state}"):
        Lab.up(scenario)
    with pytest.raises(LabError, match="is up already"):
        take_down()


def test_two_commands_at_once_are_refused(lab: Lab, scenario: Path) -> None:
    import fcntl

    with (lab.settings.state / "lock").open("w", encoding="ascii") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LabError, match="another lab command is at work"):
            Lab.up(scenario)
