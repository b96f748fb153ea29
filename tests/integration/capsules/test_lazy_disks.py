# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest runs at the far end before its disks are there, and nothing that breaks the way to them costs it a write."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.ansible import Outcome
from harness.operator import Operator
from lab import Lab
from lab.common.command import run

SCENARIO = Path(__file__).with_name("lazy.yml")
#: What comes from the source's sshd over the migration network vanishes, or is answered with a reset.
RULES = """
table inet kvmops_lazy {{
  chain incoming {{
    type filter hook input priority 0
    tcp flags & rst == rst accept
    ip saddr {network} tcp sport 22 {verdict}
  }}
  chain outgoing {{
    type filter hook output priority 0
    tcp flags & rst == rst accept
    ip daddr {network} tcp dport 22 {verdict}
  }}
}}
"""
DROP, RESET = "drop", "reject with tcp reset"


@pytest.fixture(scope="module")
def site(lab_with: Callable[[Path], Lab]) -> Lab:
    return lab_with(SCENARIO)


@pytest.fixture(scope="module")
def operator(site: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    alice = Operator(site, tmp_path_factory.mktemp("alice"))
    yield alice
    alice.leave()


def result(outcome: Outcome) -> dict[str, Any]:
    """What a module returned."""
    assert outcome.status == 0, outcome.text
    found = json.loads(outcome.text[outcome.text.index("=> ") + 3 :])
    assert isinstance(found, dict)
    return found


def move(operator: Operator, guest: str, *words: str, **options: Any) -> Outcome:
    """Move a guest from h1 to h2 before its disks."""
    offer = result(operator.run_module("h1", "capsule_export", name="h1", address="h1"))["offer"]
    ticket = result(operator.run_module("h2", "capsule_export", name="h2", offer=offer))["ticket"]
    given = {"migration_address": "h2", "encryption": "off", "allow_storage_copy": True, "disks": "lazy", **options}
    return operator.run_module(
        "h1",
        "domain_migrate",
        *words,
        guest=guest,
        name="h1",
        destination="h2",
        destination_uri="qemu+tcp://h2/system",
        tickets={"h2": ticket},
        **given,
    )


def fill(operator: Operator, guest: str, *words: str, **options: Any) -> Outcome:
    return operator.run_module("h2", "capsule_fill", *words, guest=guest, name="h2", **options)


def cut(lab: Lab, verdict: str | None) -> None:
    """Cut the way from h2 to the sshd of h1, or mend it."""
    inside = ["ip", "netns", "exec", lab.settings.network_namespace("h2")]
    run([*inside, "nft", "delete", "table", "inet", "kvmops_lazy"], check=False)
    if verdict:
        network = f"{lab.networks.migration.host(1)}/24"
        run([*inside, "nft", "-f", "-"], given=RULES.format(network=network, verdict=verdict))


def is_sound(lab: Lab, guest: str) -> bool:
    """Whether all of its memory and each block of its disk are as it has written them, and it has seen no error."""
    seen = lab.verify(guest, timeout=300)
    return bool(seen["memory_ok"] and seen["disk_ok"] and seen["disk_errors"] == 0)


def test_a_guest_moves_before_its_disk_and_no_cut_costs_it_a_write(site: Lab, operator: Operator) -> None:
    before = site.verify("reader")
    moved = result(move(operator, "reader"))["migration"]
    assert (moved["outcome"], moved["strategy"].partition("+")[2]) == ("moved", "lazy disks")
    assert moved["disks"][0]["mode"] == "lazy"
    assert site.where("reader") == ["h2"]
    again = operator.run_module(
        "h2", "domain_migrate", guest="reader", name="h2", destination="h1", destination_uri="qemu+tcp://h1/system"
    )
    assert "a part of disk vda of reader is still on the host that it came from" in again.words
    # A pull that is under way, while the way to the source is cut in silence, and its programs are killed.
    pull = "virsh -q blockpull reader vda --bytes --bandwidth 2097152"
    site.host("h2").ssh(pull, check=True)
    site.host("h1").ssh("pkill -9 -x qemu-nbd", check=True)
    site.host("h2").ssh("systemctl kill -s KILL --kill-whom=main 'kvmops-fill-*'", check=True)
    cut(site, DROP)
    time.sleep(5)
    cut(site, None)
    filled = result(fill(operator, "reader"))["fill"]
    assert [disk["target"] for disk in filled["disks"]] == ["vda"]
    assert filled["faults"] == []
    assert is_sound(site, "reader")
    assert site.verify("reader")["boot_id"] == before["boot_id"]
    # The export has ended: no key and no service is left, and a second fill has nothing to do.
    assert "kvmops-capsule" not in site.host("h1").ssh("cat /root/.ssh/authorized_keys", check=True).stdout
    assert site.host("h2").ssh("systemctl list-units --no-legend 'kvmops-fill-*'", check=True).stdout.strip() == ""
    assert not result(fill(operator, "reader"))["changed"]
    for words in ("", "--inactive"):
        xml = site.host("h2").ssh(f"virsh dumpxml {words} reader", check=True).stdout
        assert "nbd" not in xml


@pytest.mark.soak
@pytest.mark.parametrize(("verdict", "seconds"), [(DROP, 60), (RESET, 60), (RESET, 5)])
def test_cuts_of_a_minute_pass_by_themselves(site: Lab, operator: Operator, verdict: str, seconds: float) -> None:
    lab = site.reset(forget=["/var/lib/libvirt/capsules"])
    assert result(move(operator, "reader"))["migration"]["outcome"] == "moved"
    lab.host("h2").ssh("virsh -q blockpull reader vda --bytes --bandwidth 1048576", check=True)
    cut(lab, verdict)
    time.sleep(seconds)
    cut(lab, None)
    assert result(fill(operator, "reader"))["fill"]["faults"] == []
    assert is_sound(lab, "reader")


@pytest.mark.soak
def test_a_source_that_reboots_and_a_daemon_that_restarts(site: Lab, operator: Operator) -> None:
    lab = site.reset(forget=["/var/lib/libvirt/capsules"])
    assert result(move(operator, "reader"))["migration"]["outcome"] == "moved"
    lab.host("h2").ssh("virsh -q blockpull reader vda --bytes --bandwidth 1048576", check=True)
    lab.fault.reboot("h1")
    lab.fault.kill_daemon("h2")
    assert result(fill(operator, "reader"))["fill"]["faults"] == []
    assert is_sound(lab, "reader")


@pytest.mark.soak
def test_a_guest_that_cannot_wait_longer_is_paused_and_brought_back(site: Lab, operator: Operator) -> None:
    """Longer than the guest waits for its source: it is paused, sees no error, and one fill brings it back."""
    lab = site.reset(forget=["/var/lib/libvirt/capsules"])
    assert result(move(operator, "reader"))["migration"]["outcome"] == "moved"
    lab.host("h2").ssh("virsh -q blockpull reader vda --bytes --bandwidth 524288", check=True)
    cut(lab, DROP)
    end = time.monotonic() + 420
    while "paused (I/O error)" not in lab.host("h2").ssh("virsh domstate --reason reader").stdout:
        assert time.monotonic() < end
        time.sleep(5)
    refused = fill(operator, "reader", wait_s=5)
    assert "h1 does not give the disks" in refused.words
    cut(lab, None)
    filled = result(fill(operator, "reader"))["fill"]
    assert filled["resumed"] > 0
    assert is_sound(lab, "reader")
