# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The inventory that libvirt itself gives."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.ansible import environment, program
from harness.operator import Operator
from lab import Lab

#: Those that tests know which do not ask for more.
HOSTS = ("h1", "h2", "h3")


class Inventory:
    """An inventory file for the hosts of a lab, read by C(ansible-inventory)."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.folder = folder
        keys = f"keyfile={lab.settings.ssh_key}&no_verify=1"
        self.uris = {
            name: f"qemu+ssh://root@{host.address}/system?{keys}" for name, host in lab.hosts.items() if name in HOSTS
        }

    def look(self, **options: Any) -> subprocess.CompletedProcess[str]:
        """Read the inventory; it is told as JSON, and what is wrong with it beside."""
        path = self.folder / "lab.kvmops.yml"
        document = {"plugin": "kvmops.cluster.hypervisors", "guests": True, "timeout_s": 60, **options}
        path.write_text(json.dumps(document), encoding="utf-8")
        words = [program("ansible-inventory"), "-i", str(path), "--list"]
        surroundings = environment(ANSIBLE_NOCOLOR="1", COLUMNS="200")
        return subprocess.run(words, env=surroundings, capture_output=True, text=True, timeout=240, check=False)

    def groups(self, **options: Any) -> dict[str, list[str]]:
        """Return who is in which group."""
        seen = self.look(**options)
        assert seen.returncode == 0, seen.stderr
        return {name: sorted(group["hosts"]) for name, group in json.loads(seen.stdout).items() if "hosts" in group}


@pytest.fixture
def inventory(lab: Lab, tmp_path: Path) -> Inventory:
    """The file, in a folder of its own."""
    return Inventory(lab, tmp_path)


def test_hosts_and_guests_are_found_through_ssh_alone(lab: Lab, operator: Operator, inventory: Inventory) -> None:
    closed = operator.run_module("h3", "host_maintenance", state="cordoned", owner="alice", name="h3")
    assert closed.status == 0, closed.text
    groups = inventory.groups(uris=inventory.uris, via="ssh")
    assert (groups["hypervisors_active"], groups["hypervisors_cordoned"]) == (["h1", "h2"], ["h3"])
    for name in HOSTS:
        here = sorted(guest.name for guest in lab.guests.values() if guest.home == name)
        assert groups.get(f"guests_on_{name}", []) == here
    assert groups["guests_apart_web"] == ["web-one", "web-two"]
    assert groups["guests_home_h2"] == ["web-two"]


@pytest.mark.soak
def test_a_host_that_is_down_is_left_out_or_is_an_error(inventory: Inventory) -> None:
    uris = {**inventory.uris, "h2": inventory.uris["h2"].replace("root@", "nobody-there@")}
    left_out = inventory.look(uris=uris, via="ssh")
    assert left_out.returncode == 0, left_out.stderr
    assert "kvmops.cluster.hypervisors: h2 cannot be read: " in " ".join(left_out.stderr.split())
    assert json.loads(left_out.stdout)["hypervisors"]["hosts"] == ["h1", "h3"]
    strict = inventory.look(uris=uris, via="ssh", strict=True)
    assert "h2 cannot be read: " in " ".join(strict.stderr.split())
    assert "hypervisors" not in json.loads(strict.stdout)


@pytest.mark.soak
def test_snapshots_that_were_saved_give_the_same_groups(operator: Operator, inventory: Inventory) -> None:
    saved = inventory.folder / "saved"
    saved.mkdir()
    for name in inventory.uris:
        taken = operator.run_module(name, "host_info", name=name)
        assert taken.status == 0, taken.text
        document = json.loads(taken.text[taken.text.index("=> {") + 3 :])
        (saved / f"{name}.json").write_text(json.dumps(document["snapshot"]), encoding="utf-8")
    assert inventory.groups(snapshots=["saved"]) == inventory.groups(uris=inventory.uris, via="ssh")
