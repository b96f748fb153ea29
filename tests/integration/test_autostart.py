# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that start with their host: the mark goes where the guest goes, and starts no guest twice."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from harness import actual_state
from harness.operator import Operator
from lab import Lab

pytestmark = pytest.mark.soak

#: A guest that is shut off; nothing of it is ever started.
SPARE = """<domain type='qemu'><name>spare</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"""
REMOVE = """
virsh -q undefine spare >/dev/null 2>&1
virsh -q autostart --disable idle >/dev/null 2>&1
[ "$(virsh -q domstate web-two 2>/dev/null)" != "shut off" ] || virsh -q undefine --keep-nvram web-two
true
"""


def marked(lab: Lab, host: str) -> list[str]:
    """Return the guests that a host starts when it boots."""
    return lab.host(host).ssh("virsh -q list --all --autostart --name", check=True).stdout.split()


@pytest.fixture
def restored(lab: Lab) -> Iterator[Lab]:
    yield lab
    for host in ("h1", "h2", "h3"):
        lab.host(host).ssh(REMOVE)


@pytest.fixture
def autostart(restored: Lab) -> Lab:
    """Two guests of h1 start with it: one that runs, and one that is shut off."""
    host = restored.host("h1")
    host.ssh_with("cat > /run/spare.xml && virsh -q define /run/spare.xml", SPARE)
    host.ssh("virsh -q autostart idle && virsh -q autostart spare", check=True)
    return restored


def test_the_mark_goes_with_the_guest_and_a_guest_that_is_off_does_not_start_meanwhile(
    autostart: Lab, operator: Operator
) -> None:
    drain = operator.run("drain_host", drain_host_name="h1")
    assert drain.status == 0, drain.text
    there = actual_state.places(autostart, ["idle"])["idle"]
    assert marked(autostart, there) == ["idle"]
    assert f"set autostart on {there}" in drain.words
    # If h1 booted now, it would start nothing.
    assert marked(autostart, "h1") == []
    record = json.loads(autostart.host("h1").ssh("cat /var/lib/kvmops/maintenance.json", check=True).stdout)
    assert [guest["name"] for guest in record["autostart"]] == ["spare"]

    home = operator.run("restore_host", restore_host_name="h1")
    assert home.status == 0, home.text
    assert sorted(marked(autostart, "h1")) == ["idle", "spare"]
    assert marked(autostart, there) == []
    record = json.loads(autostart.host("h1").ssh("cat /var/lib/kvmops/maintenance.json", check=True).stdout)
    assert (record["state"], record.get("autostart")) == ("active", None)


@pytest.fixture
def left_over(restored: Lab) -> Lab:
    """h1 has a definition of a guest that runs on h2, and would start it at boot."""
    definition = restored.host("h2").ssh("virsh dumpxml --inactive web-two", check=True).stdout
    restored.host("h1").ssh_with(
        "cat > /run/web-two.xml && virsh -q define /run/web-two.xml && virsh -q autostart web-two", definition
    )
    return restored


def test_a_host_that_would_start_a_guest_twice_is_not_drained_until_that_is_mended(
    left_over: Lab, operator: Operator
) -> None:
    why = "h1 would start web-two at boot, which runs on h2"
    drain = operator.run("drain_host", drain_host_name="h1")
    assert drain.status == 2, drain.text
    assert why in drain.words
    assert "virsh undefine --keep-nvram web-two on h1" in drain.words
    assert "No guest was moved, and the host is open as before." in drain.words
    preflight = operator.run("preflight")
    assert preflight.status == 2, preflight.text
    assert why in preflight.words

    left_over.host("h1").ssh("virsh -q undefine --keep-nvram web-two", check=True)
    again = operator.run("drain_host", "--check", drain_host_name="h1")
    assert again.status == 0, again.text
    assert why not in again.words


def test_a_host_in_maintenance_starts_no_guest_when_it_boots(autostart: Lab, operator: Operator) -> None:
    drain = operator.run("drain_host", drain_host_name="h1")
    assert drain.status == 0, drain.text
    before = actual_state.places(autostart)
    autostart.fault.reboot("h1")
    # libvirtd starts at boot, and with it all guests that are marked.
    assert actual_state.domains(autostart.host("h1")) == {"spare": "shut off"}
    assert actual_state.places(autostart) == before
    home = operator.run("restore_host", restore_host_name="h1")
    assert home.status == 0, home.text
    assert sorted(marked(autostart, "h1")) == ["idle", "spare"]


def test_a_host_whose_left_over_definition_was_removed_boots_without_a_second_guest(
    left_over: Lab, operator: Operator
) -> None:
    left_over.host("h1").ssh("virsh -q undefine --keep-nvram web-two", check=True)
    drain = operator.run("drain_host", drain_host_name="h1")
    assert drain.status == 0, drain.text
    left_over.fault.reboot("h1")
    assert actual_state.domains(left_over.host("h1")) == {}
    assert actual_state.places(left_over, ["web-two"]) == {"web-two": "h2"}
    assert left_over.verify("web-two")["memory_ok"]
