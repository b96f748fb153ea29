# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A real upgrade of QEMU on one host, reboot included: its guests leave, come home, and do not notice.

What can go wrong in an upgrade of several hosts is in test_rolling_upgrade.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import actual_state
from harness.operator import Operator
from harness.session import lab_beside
from lab import Lab

SCENARIO = Path(__file__).with_name("upgrade-one.yml")
BEFORE, AFTER = "10.0.2", "11.1.3"
LIMIT_S = 600.0


@pytest.fixture
def pair() -> Iterator[Lab]:
    """Two hosts of their own: nobody else can work with an upgraded one."""
    with lab_beside(SCENARIO) as lab:
        yield lab


def qemu(lab: Lab, host: str) -> str:
    """The version of QEMU that a host's own libvirtd runs guests with."""
    text = lab.host(host).ssh("virsh version", check=True).stdout
    return text.rpartition("QEMU ")[2].strip()


def test_one_host_is_upgraded_and_its_guests_come_home(pair: Lab, tmp_path: Path) -> None:
    operator = Operator(pair, tmp_path)
    boots, host_boots = actual_state.boot_ids(pair), {name: host.boot_id() for name, host in pair.hosts.items()}
    assert {host: qemu(pair, host) for host in pair.hosts} == {"h1": BEFORE, "h2": BEFORE}
    with pair.probe(period_ms=25) as probe:
        running = operator.start(
            "rolling_upgrade",
            rolling_upgrade_hosts="h2",
            rolling_upgrade_default_release="trixie-backports",
            rolling_upgrade_reboot="always",
            rolling_upgrade_bring_home=True,
            rolling_upgrade_measure_s=0,
        )
        upgrade = running.finish(LIMIT_S)
        seen = probe.records()

    assert upgrade.status == 0, upgrade.text
    assert f"h2: QEMU {BEFORE} -> {AFTER}" in upgrade.words
    # A connection from before the reboot may only now be found to be dead.
    pair.host("h2").wait_ready()
    assert {host: qemu(pair, host) for host in pair.hosts} == {"h1": BEFORE, "h2": AFTER}
    assert [name for name, host in pair.hosts.items() if host.boot_id() != host_boots[name]] == ["h2"]
    record = pair.host("h2").ssh("cat /var/lib/kvmops/maintenance.json", check=True).stdout
    assert json.loads(record)["state"] == "active"
    assert actual_state.places(pair) == {"busy": "h2", "idle": "h2"}
    assert {name: found["gaps"][:3] for name, found in seen.items() if not found["alive"]} == {}
    assert actual_state.boot_ids(pair) == boots, "a guest was started again"
    assert all(found["memory_ok"] for found in actual_state.verified(pair).values())
