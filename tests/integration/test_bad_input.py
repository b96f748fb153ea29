# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Playbooks that cannot be carried out: each gets a clear answer, the right exit status, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from harness import actual_state
from harness.ansible import Outcome
from harness.operator import Operator
from harness.tidy import mend, tidy
from lab import Lab

#: ansible-playbook's exit status when hosts failed; also that of ansible.
FAILED = 2


@pytest.fixture(scope="module")
def shared(cluster: Lab) -> Lab:
    """One tidy lab for all: nothing here may change it."""
    return tidy(cluster)


@pytest.fixture
def lab(shared: Lab) -> Iterator[Lab]:
    """The shared lab; proves afterwards that every guest is still where it was."""
    before = actual_state.everywhere(shared)
    yield shared
    assert actual_state.everywhere(shared) == before


def move(operator: Operator, guest: str, *words: str, to: str = "h2", **more: Any) -> Outcome:
    """Order one move away from h1."""
    where = {"destination": to, "destination_uri": f"qemu+ssh://root@{to}/system"}
    return operator.run_module("h1", "domain_migrate", *words, guest=guest, **{**where, **more})


def check_refused(outcome: Outcome, *texts: str) -> None:
    """The order failed, with these texts."""
    assert outcome.status == FAILED, outcome.text
    for text in texts:
        assert text in outcome.words, f"{text!r} is not in:\n{outcome.text}"


# ---- hosts -----------------------------------------------------------------------------------------------------------


def test_unknown_host(lab: Lab, operator: Operator) -> None:
    drain = operator.run("drain_host", drain_host_name="h9")
    check_refused(drain, "There is no host h9 in this play.", "The hosts of this play are h1, h2, h3.")


def test_no_host_at_all(lab: Lab, operator: Operator) -> None:
    check_refused(operator.run("drain_host"), "Say which host to drain: -e drain_host_name=HOST.")


def test_a_play_over_one_host_only(lab: Lab, operator: Operator) -> None:
    check_refused(
        operator.run("drain_host", "--limit", "h1", drain_host_name="h1"),
        "--limit leaves h2, h3 out of this play. The hosts of this play are h1.",
        "leave off --limit",
    )


def test_a_restore_without_the_hosts_that_have_the_guests(lab: Lab, operator: Operator) -> None:
    how = {"name": "h1", "owner": "alice", "reason": "a test"}
    operator.run_module("h1", "host_maintenance", **how, state="cordoned")
    try:
        restore = operator.run("restore_host", "--limit", "h1", restore_host_name="h1", restore_host_owner="alice")
        check_refused(restore, "--limit leaves h2, h3 out of this play.", "leave off --limit")
        seen = operator.run_module("h1", "host_info", name="h1")
        assert '"state": "cordoned"' in seen.text, seen.text
    finally:
        operator.run_module("h1", "host_maintenance", **how, state="active")


def test_the_host_to_drain_is_unreachable(lab: Lab, operator: Operator) -> None:
    operator.set_host("h1", ansible_port=1)
    drain = operator.run("drain_host", drain_host_name="h1")
    assert drain.status in (2, 4), drain.text
    assert "Connection refused" in drain.words
    assert "h1 could not be taken for this run" in drain.words


@pytest.mark.soak
def test_another_host_is_unreachable(lab: Lab, operator: Operator) -> None:
    operator.set_host("h2", ansible_port=1)
    drain = operator.run("drain_host", "--check", drain_host_name="h1")
    assert drain.status == 0, drain.text
    assert "h2 is left out and gets no guests: it cannot be reached" in drain.words
    assert "4 guests (512 MiB) leave h1" in drain.words


def test_the_host_to_drain_is_without_libvirt(lab: Lab, operator: Operator) -> None:
    lab.host("h1").ssh("systemctl stop 'libvirtd*.socket' libvirtd.service", check=True)
    try:
        check_refused(
            operator.run("drain_host", drain_host_name="h1"),
            "no connection to qemu:///system",
            "systemctl start libvirtd.socket",
        )
    finally:
        lab.host("h1").ssh("systemctl start libvirtd.socket libvirtd-ro.socket libvirtd-tcp.socket libvirtd-tls.socket")


# ---- guests and destinations -----------------------------------------------------------------------------------------


@pytest.mark.soak
def test_unknown_guest_is_excluded(lab: Lab, operator: Operator) -> None:
    drain = operator.run("drain_host", "--check", drain_host_name="h1", drain_host_exclude=["no-such-guest"])
    assert drain.status != 0, drain.text
    assert "no-such-guest" in drain.words


@pytest.mark.soak
def test_no_memory_anywhere(lab: Lab, operator: Operator) -> None:
    check_refused(
        operator.run("drain_host", drain_host_name="h1", drain_host_reserve_mib=10_000_000),
        "busy, idle, shy, web-one cannot leave h1",
    )


@pytest.mark.soak
def test_a_guest_that_is_shut_off_stays_and_a_host_that_is_closed_gets_none(lab: Lab, operator: Operator) -> None:
    host = lab.host("h1")
    host.ssh(
        "virsh dumpxml idle --inactive | sed 's/<name>idle/<name>sleeper/; /<uuid>/d; /<mac /d' > /run/sleeper.xml"
    )
    host.ssh("virsh -q define /run/sleeper.xml", check=True)
    close = {"state": "cordoned", "owner": "bob@admin2", "reason": "new disks"}
    try:
        assert operator.run_module("h2", "host_maintenance", name="h2", **close).status == 0
        drain = operator.run("drain_host", "--check", drain_host_name="h1")
        assert drain.status == 0, drain.text
        assert "Shut off, left where it is: sleeper" in drain.words
        assert "h1 h2" not in drain.words, "a guest is planned for a host in maintenance"
    finally:
        host.ssh("virsh -q undefine sleeper", check=True)
        mend(lab)


@pytest.mark.soak
def test_encryption_without_a_certificate(lab: Lab, operator: Operator) -> None:
    for host in lab.hosts.values():
        host.ssh("for d in /etc/pki/qemu /etc/pki/libvirt-vnc; do [ ! -e $d ] || mv $d $d.hidden; done", check=True)
    try:
        check_refused(move(operator, "idle"), "encrypt", "certificate", "encryption: off")
        drain = operator.run("drain_host", "--check", drain_host_name="h1")
        check_refused(drain, "encryption is required, but h1 cannot encrypt", "or permit encryption: off")
        plain = operator.run("drain_host", "--check", drain_host_name="h1", drain_host_intent={"encryption": "off"})
        assert plain.status == 0, plain.text
        assert "4 guests (512 MiB) leave h1" in plain.words
    finally:
        for host in lab.hosts.values():
            host.ssh("for d in /etc/pki/*.hidden; do [ ! -e $d ] || mv $d ${d%.hidden}; done")


# ---- someone else's --------------------------------------------------------------------------------------------------


@pytest.mark.soak
def test_maintenance_of_someone_else_is_not_taken_over(lab: Lab, operator: Operator) -> None:
    mine = {"state": "cordoned", "owner": "bob@admin2", "reason": "do not touch"}
    assert operator.run_module("h1", "host_maintenance", name="h1", **mine).status == 0
    try:
        for playbook in ("drain_host", "restore_host"):
            check_refused(
                operator.run(playbook, **{f"{playbook}_name": "h1"}),
                "h1 is cordoned by bob@admin2 since 20",
                "do not touch",
                "ask bob@admin2",
            )
        assert '"owner": "bob@admin2"' in lab.host("h1").ssh("cat /var/lib/kvmops/maintenance.json").stdout
        forced = operator.run("drain_host", "--check", drain_host_name="h1", drain_host_force=True)
        assert forced.status == 0, forced.text
    finally:
        mend(lab)
