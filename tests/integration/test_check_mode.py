# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What --check does: it tells, and it cannot do anything else."""

from __future__ import annotations

import re

import pytest

from harness import actual_state
from harness.operator import Operator
from lab import Lab, in_parallel

#: All that a run could leave on a host; Ansible's own remains are not the collection's.
FILES = """
find /var/lib/kvmops /etc/ansible /etc/libvirt /var/lib/libvirt/images -type f 2>/dev/null | sort | xargs -r sha256sum
virsh -q secret-list; virsh -q list --all; virsh -q net-list --all; virsh -q pool-list --all
"""
HIDE = "mv /run/libvirt/libvirt-sock /run/libvirt/libvirt-sock.hidden"


def traces(lab: Lab) -> list[str]:
    """Everything on the hosts that a run could change."""
    return in_parallel(lambda host: host.ssh(FILES, check=True).stdout, lab.hosts.values())


def test_check_shows_the_plan_and_touches_nothing(lab: Lab, operator: Operator) -> None:
    before, places = traces(lab), actual_state.everywhere(lab)
    check = operator.run("drain_host", "--check", drain_host_name="h1")
    assert check.status == 0, check.text
    assert "4 guests (512 MiB) leave h1" in check.words
    assert "STEP GUEST MEMORY FROM TO START END TIME SENT DOWNTIME HOW" in check.words
    assert re.search(r"s\d+ web-one 128 MiB h1 h3 ", check.words)
    assert "web-one h3 is the only host that can take it (h2 " in check.words
    assert actual_state.everywhere(lab) == places
    assert traces(lab) == before
    assert operator.reports() == []


@pytest.mark.soak
def test_check_needs_no_way_to_write(lab: Lab, operator: Operator) -> None:
    """With libvirt's writable socket gone from every host, a drain is impossible and its check is not."""
    in_parallel(lambda host: host.ssh(HIDE, check=True), lab.hosts.values())
    check = operator.run("drain_host", "--check", drain_host_name="h1")
    assert check.status == 0, check.text
    assert "4 guests (512 MiB) leave h1" in check.words
    drain = operator.run("drain_host", drain_host_name="h1")
    assert drain.status != 0, "the writable socket was not hidden after all"
    assert actual_state.running_processes(lab, "h1") == 4


@pytest.mark.soak
def test_check_of_a_restore_and_of_one_move(lab: Lab, operator: Operator) -> None:
    before, places = traces(lab), actual_state.everywhere(lab)
    move = operator.run_module(
        "h1",
        "domain_migrate",
        "--check",
        guest="idle",
        destination="h2",
        destination_uri="qemu+ssh://root@h2/system",
    )
    assert move.status == 0, move.text
    assert '"outcome": "would_move"' in move.text
    home = operator.run("restore_host", "--check", restore_host_name="h2")
    assert home.status == 0, home.text
    assert "no guest has to come home to h2" in home.words
    assert actual_state.everywhere(lab) == places
    assert traces(lab) == before
