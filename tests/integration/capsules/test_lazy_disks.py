# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest runs at the far end before its disks are there, and nothing that breaks the way to them costs it a write."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.capsule_faults import refused
from harness.module_steps import Step, Steps, run
from harness.operator import Operator
from lab import Lab
from lab.common.command import run as command

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
#: Those that run. A guest of another test may have left one whose ticket is gone.
KILL_FORWARDERS = """
units=$(systemctl list-units --state=running --plain --no-legend 'kvmops-fill-*' | cut -d' ' -f1)
test -n "$units" && systemctl kill -s KILL --kill-whom=main $units
"""
FORGET = ("/var/lib/libvirt/capsules", "/var/lib/kvmops", "/run/kvmops", "/var/lib/libvirt/images/*")
DROP, RESET = "drop", "reject with tcp reset"


@pytest.fixture(scope="module")
def site(lab_with: Callable[[Path], Lab]) -> Lab:
    return lab_with(SCENARIO)


@pytest.fixture(scope="module")
def operator(site: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    alice = Operator(site, tmp_path_factory.mktemp("alice"))
    yield alice
    alice.leave()


#: The guest goes to h2, and its disk stays at h1.
MOVE = [
    Step("offered", "h1", "capsule_export"),
    Step("permitted", "h2", "capsule_export", {"offer": "{{ offered.offer }}"}),
    Step(
        "moved",
        "h1",
        "domain_migrate",
        {
            "guest": "reader",
            "destination": "h2",
            "destination_uri": "qemu+tcp://h2/system",
            "migration_address": "h2",
            "encryption": "off",
            "allow_storage_copy": True,
            "disks": "lazy",
            "tickets": {"h2": "{{ permitted.ticket }}"},
        },
    ),
]


def moved(operator: Operator) -> dict[str, Any]:
    """Move the guest before its disk."""
    found: dict[str, Any] = run(operator, "move", MOVE)["moved"]["migration"]
    assert found["outcome"] == "moved", found
    return found


def fill(**options: Any) -> Step:
    return Step("filled", "h2", "capsule_fill", {"guest": "reader", **options})


def filled(operator: Operator) -> dict[str, Any]:
    """Get the rest of its disk, and return what was done."""
    found: dict[str, Any] = run(operator, "fill", [fill()])["filled"]["fill"]
    assert found["faults"] == [], found
    return found


def cut(lab: Lab, verdict: str | None) -> None:
    """Cut the way from h2 to the sshd of h1, or mend it."""
    inside = ["ip", "netns", "exec", lab.settings.network_namespace("h2")]
    command([*inside, "nft", "delete", "table", "inet", "kvmops_lazy"], check=False)
    if verdict:
        network = f"{lab.networks.migration.host(1)}/24"
        command([*inside, "nft", "-f", "-"], given=RULES.format(network=network, verdict=verdict))


def is_sound(lab: Lab, guest: str) -> bool:
    """Whether all of its memory and each block of its disk are as it has written them, and it has seen no error."""
    seen = lab.verify(guest, timeout=300)
    return bool(seen["memory_ok"] and seen["disk_ok"] and seen["disk_errors"] == 0)


def test_a_guest_moves_before_its_disk_and_no_cut_costs_it_a_write(site: Lab, operator: Operator) -> None:
    before = site.verify("reader")
    found = moved(operator)
    assert (found["strategy"].partition("+")[2], found["disks"][0]["mode"]) == ("lazy disks", "lazy")
    assert site.where("reader") == ["h2"]
    # A pull that is under way, while the way to the source is cut in silence, and its programs are killed.
    site.host("h2").ssh("virsh -q blockpull reader vda --bytes --bandwidth 131072", check=True)
    site.host("h1").ssh("pkill -9 -x qemu-nbd", check=True)
    site.host("h2").ssh(KILL_FORWARDERS, check=True)
    cut(site, DROP)
    time.sleep(5)
    cut(site, None)
    assert [disk["target"] for disk in filled(operator)["disks"]] == ["vda"]
    assert is_sound(site, "reader")
    assert site.verify("reader")["boot_id"] == before["boot_id"]
    # The export has ended: no key and no service is left.
    assert "kvmops-capsule" not in site.host("h1").ssh("cat /root/.ssh/authorized_keys", check=True).stdout
    assert site.host("h2").ssh("systemctl list-units --no-legend 'kvmops-fill-*'", check=True).stdout.strip() == ""
    blocks = '{"execute": "query-named-block-nodes", "arguments": {"flat": true}}'
    for question in ("dumpxml reader", "dumpxml --inactive reader", f"qemu-monitor-command reader '{blocks}'"):
        assert "nbd" not in site.host("h2").ssh(f"virsh -q {question}", check=True).stdout


@pytest.mark.soak
def test_a_guest_whose_disk_has_not_come_goes_nowhere_else(site: Lab, operator: Operator) -> None:
    lab = site.reset(forget=FORGET)
    moved(operator)
    onward = {
        "guest": "reader",
        "destination": "h1",
        "destination_uri": "qemu+tcp://h1/system",
        "encryption": "off",
    }
    outcome, _results = Steps(operator, "onward", [Step("onward", "h2", "domain_migrate", onward)]).finish()
    assert outcome.status
    assert "a part of disk vda of reader is still on the host that it came from" in outcome.words
    filled(operator)
    assert not run(operator, "again", [fill()])["filled"]["changed"]
    assert is_sound(lab, "reader")


@pytest.mark.soak
@pytest.mark.parametrize(("verdict", "seconds"), [(DROP, 60), (RESET, 60), (RESET, 5)])
def test_cuts_of_a_minute_pass_by_themselves(site: Lab, operator: Operator, verdict: str, seconds: float) -> None:
    lab = site.reset(forget=FORGET)
    moved(operator)
    lab.host("h2").ssh("virsh -q blockpull reader vda --bytes --bandwidth 262144", check=True)
    cut(lab, verdict)
    time.sleep(seconds)
    cut(lab, None)
    filled(operator)
    assert is_sound(lab, "reader")


@pytest.mark.soak
def test_a_source_that_reboots_and_a_daemon_that_restarts(site: Lab, operator: Operator) -> None:
    lab = site.reset(forget=FORGET)
    moved(operator)
    lab.host("h2").ssh("virsh -q blockpull reader vda --bytes --bandwidth 262144", check=True)
    lab.fault.reboot("h1")
    lab.fault.kill_daemon("h2")
    filled(operator)
    assert is_sound(lab, "reader")


@pytest.mark.soak
@pytest.mark.parametrize("verdict", [DROP, RESET])
def test_a_guest_that_cannot_wait_longer_is_paused_and_brought_back(
    site: Lab, operator: Operator, verdict: str
) -> None:
    """Longer than the guest waits for its source: it is paused, sees no error, and one fill brings it back."""
    lab = site.reset(forget=FORGET)
    moved(operator)
    lab.host("h2").ssh("virsh -q blockpull reader vda --bytes --bandwidth 32768", check=True)
    cut(lab, verdict)
    end = time.monotonic() + 420
    while "paused (I/O error)" not in lab.host("h2").ssh("virsh domstate --reason reader").stdout:
        assert time.monotonic() < end
        time.sleep(5)
    refusal = refused(Steps(operator, "early", [fill(wait_s=5)]).finish()[1], "filled")
    assert refusal["reason"].startswith("h1 does not give the disks")
    cut(lab, None)
    assert filled(operator)["resumed"] > 0
    assert is_sound(lab, "reader")
