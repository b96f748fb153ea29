# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that cannot leave: they are named before anything starts, and the operator decides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness import actual_state
from harness.operator import Operator
from lab import Lab, in_parallel

WHY = "the guest has 1 snapshot, which libvirt cannot move"


@pytest.fixture
def blocked(lab: Lab) -> Iterator[Lab]:
    """Give a guest a snapshot, which libvirt does not move; no other test shall meet it."""
    lab.host("h1").ssh_with(
        "cat > /run/snapshot.xml && virsh -q snapshot-create shy /run/snapshot.xml --redefine",
        "<domainsnapshot><name>before-upgrade</name><state>shutoff</state><creationTime>1700000000</creationTime>"
        + lab.host("h1").ssh("virsh dumpxml shy", check=True).stdout
        + "</domainsnapshot>",
    )
    yield lab
    in_parallel(lambda host: host.ssh("virsh -q snapshot-delete shy before-upgrade --metadata"), lab.hosts.values())


def test_stop_names_them_and_leaves_all_as_it_was(blocked: Lab, operator: Operator) -> None:
    places = actual_state.everywhere(blocked)
    drain = operator.run("drain_host", drain_host_name="h1")
    assert drain.status == 2, drain.text
    assert WHY in drain.words
    assert "virsh snapshot-delete shy" in drain.words
    assert "shy cannot leave h1; the reasons and remedies are printed above." in drain.words
    assert "run again with -e drain_host_on_blocked=skip" in drain.words
    assert "No guest was moved, and the host is open as before." in drain.words
    assert actual_state.everywhere(blocked) == places
    assert "kvmops" not in blocked.host("h1").ssh("virsh -q secret-list").stdout
    assert '"state": "active"' in blocked.host("h1").ssh("cat /var/lib/kvmops/maintenance.json").stdout


@pytest.mark.soak
def test_skip_moves_the_others_and_the_remedy_works(blocked: Lab, operator: Operator) -> None:
    drain = operator.run("drain_host", drain_host_name="h1", drain_host_on_blocked="skip")
    assert drain.status == 0, drain.text
    told, started = drain.text.index(WHY), drain.text.index(" | setup ")
    assert told < started, "told only after the first guest was on its way"
    assert actual_state.active_on(blocked, "h1") == ["shy"]
    assert "h1 still runs shy, and stays cordoned." in drain.words
    assert '"state": "cordoned"' in blocked.host("h1").ssh("cat /var/lib/kvmops/maintenance.json").stdout
    [report] = operator.reports()
    assert report["ok"] is False
    assert [stay["guest"]["name"] for stay in report["stays"]] == ["shy"]

    blocked.host("h1").ssh("virsh -q snapshot-delete shy before-upgrade --metadata", check=True)
    again = operator.run("drain_host", drain_host_name="h1")
    assert again.status == 0, again.text
    assert actual_state.active_on(blocked, "h1") == []
    assert '"state": "maintenance"' in blocked.host("h1").ssh("cat /var/lib/kvmops/maintenance.json").stdout


@pytest.mark.soak
def test_a_guest_can_be_left_out_on_purpose(lab: Lab, operator: Operator) -> None:
    drain = operator.run(
        "drain_host", "--check", drain_host_name="h1", drain_host_exclude="domains[?metadata.group.apart=='web']"
    )
    assert drain.status == 0, drain.text
    assert "3 guests (384 MiB) leave h1" in drain.words
    assert "1 guest stays where it is: web-one on h1" in drain.words
