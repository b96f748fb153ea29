# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import re
import shlex

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import (
    Seen,
    Side,
    definition_faults,
    judge,
    quoted,
)

KINDS = ("moved", "stayed", "in_flight", "resume_source", "off", "lost", "ended", "unclear")
STATES = ("absent", "running", "paused", "shutdown", "shutoff", "crashed", "pmsuspended", "unknown", "state_9")
REASONS = {
    "running": ("booted", "migrated", "migration_canceled", "unpaused", "postcopy", "postcopy_failed", "reason_77"),
    "paused": (
        "migration",
        "unknown",
        "user",
        "starting_up",
        "ioerror",
        "api_error",
        "postcopy",
        "postcopy_failed",
        "reason_77",
    ),
    "shutoff": ("migrated", "failed", "destroyed", "shutdown", "crashed", "unknown"),
}


def side(host, state="absent", reason="", *, migrating=False, persistent=False):
    return Side(host, True, state, reason, persistent=persistent, migrating=migrating)


def unreachable(host):
    return Side(host, False, error="no route to host")


def every(host):
    """Every way in which a host can show a guest."""
    yield unreachable(host)
    for state in STATES:
        for reason in REASONS.get(state, ("",)):
            for migrating in (False, True):
                yield side(host, state, reason, migrating=migrating)


HERE = {
    "running": side("h1", "running", "booted"),
    "sending": side("h1", "running", "booted", migrating=True),
    "canceled": side("h1", "running", "migration_canceled"),
    "handing over": side("h1", "paused", "migration", migrating=True),
    "left paused": side("h1", "paused", "migration"),
    "left paused, unknown": side("h1", "paused", "unknown"),
    "paused by a user": side("h1", "paused", "user"),
    "paused, ioerror": side("h1", "paused", "ioerror"),
    "paused, api_error": side("h1", "paused", "api_error"),
    "postcopy": side("h1", "paused", "postcopy", migrating=True),
    "postcopy, no job": side("h1", "paused", "postcopy"),
    "postcopy failed": side("h1", "paused", "postcopy_failed", migrating=True),
    "shutoff": side("h1", "shutoff", "migrated", persistent=True),
    "died": side("h1", "shutoff", "crashed", persistent=True),
    "shut down": side("h1", "shutoff", "shutdown", persistent=True),
    "rebooted": side("h1", "shutoff", "unknown", persistent=True),
    "crashed": side("h1", "crashed"),
    "absent": side("h1"),
    "silent": unreachable("h1"),
}
THERE = {
    "absent": side("h2"),
    "shutoff": side("h2", "shutoff", "failed", persistent=True),
    "powered off": side("h2", "shutoff", "shutdown", persistent=True),
    "destroyed": side("h2", "shutoff", "destroyed", persistent=True),
    "moved on": side("h2", "shutoff", "migrated", persistent=True),
    "crashed and off": side("h2", "shutoff", "crashed", persistent=True),
    # What a host says that was rebooted, or whose daemon was restarted.
    "off, unknown": side("h2", "shutoff", "unknown", persistent=True),
    "ended by libvirt": side("h2", "shutoff", "daemon", persistent=True),
    "running": side("h2", "running", "migrated"),
    "booted": side("h2", "running", "booted"),
    "coming": side("h2", "paused", "migration", migrating=True),
    "left over": side("h2", "paused", "migration"),
    "starting": side("h2", "paused", "starting_up"),
    "paused by a user": side("h2", "paused", "user"),
    "paused, ioerror": side("h2", "paused", "ioerror"),
    "postcopy": side("h2", "running", "postcopy", migrating=True),
    "postcopy failed": side("h2", "running", "postcopy_failed", migrating=True),
    "crashed": side("h2", "crashed"),
    "silent": unreachable("h2"),
}


@pytest.mark.parametrize(
    ("here", "there", "kind"),
    [
        # it has moved
        ("absent", "running", "moved"),
        ("shutoff", "running", "moved"),
        ("absent", "booted", "moved"),
        # it stayed
        ("running", "absent", "stayed"),
        ("canceled", "absent", "stayed"),
        ("canceled", "shutoff", "stayed"),
        ("running", "silent", "stayed"),
        # still at it
        ("sending", "coming", "in_flight"),
        ("sending", "absent", "in_flight"),
        ("sending", "silent", "in_flight"),
        ("handing over", "coming", "in_flight"),
        ("handing over", "running", "in_flight"),
        ("postcopy", "postcopy", "in_flight"),
        ("postcopy", "silent", "in_flight"),
        ("canceled", "coming", "in_flight"),
        ("absent", "coming", "in_flight"),
        ("absent", "left over", "in_flight"),
        ("shutoff", "starting", "in_flight"),
        # the result was lost, and nothing is at the destination
        ("left paused", "absent", "resume_source"),
        ("left paused", "shutoff", "resume_source"),
        ("left paused, unknown", "absent", "resume_source"),
        # it may have run at the destination and ended there: its memory here may be older than its disks
        ("left paused", "powered off", "unclear"),
        ("left paused", "destroyed", "unclear"),
        ("left paused", "moved on", "unclear"),
        ("left paused", "crashed and off", "unclear"),
        ("left paused", "off, unknown", "unclear"),
        ("left paused, unknown", "powered off", "unclear"),
        # while one that runs here has never left
        ("running", "off, unknown", "stayed"),
        # it may be at the destination: nothing is touched
        ("left paused", "silent", "unclear"),
        ("left paused", "running", "unclear"),
        ("left paused", "left over", "unclear"),
        ("left paused", "crashed", "unclear"),
        ("absent", "silent", "unclear"),
        ("shutoff", "silent", "unclear"),
        ("silent", "running", "unclear"),
        ("silent", "absent", "unclear"),
        ("silent", "silent", "unclear"),
        # stopped for the switchover and let go on, while nobody knows what the destination made of it
        ("canceled", "silent", "unclear"),
        # on both
        ("running", "running", "unclear"),
        ("running", "paused by a user", "unclear"),
        # a post-copy that broke keeps its job on both sides, and still must not be waited for
        ("postcopy failed", "postcopy failed", "unclear"),
        ("postcopy failed", "silent", "unclear"),
        ("silent", "postcopy failed", "unclear"),
        ("postcopy, no job", "absent", "unclear"),
        # paused for a reason that is not ours
        ("paused by a user", "absent", "unclear"),
        ("paused, ioerror", "absent", "unclear"),
        ("paused, api_error", "absent", "unclear"),
        ("absent", "paused by a user", "unclear"),
        ("absent", "paused, ioerror", "unclear"),
        ("absent", "crashed", "unclear"),
        ("crashed", "absent", "unclear"),
        # nowhere
        ("absent", "absent", "ended"),
        ("shutoff", "absent", "lost"),
        ("shutoff", "ended by libvirt", "lost"),
        ("died", "ended by libvirt", "ended"),
        ("shutoff", "shutoff", "lost"),
        ("absent", "shutoff", "ended"),
        # its QEMU or its host died before it had left
        ("died", "absent", "off"),
        ("died", "shutoff", "off"),
        ("died", "off, unknown", "ended"),
        ("shut down", "absent", "off"),
        ("rebooted", "absent", "off"),
        # post-copy broke off, and one of the two halves is gone
        ("shutoff", "postcopy failed", "unclear"),
        ("absent", "postcopy failed", "unclear"),
        ("died", "postcopy failed", "lost"),
        ("postcopy failed", "absent", "lost"),
        ("postcopy failed", "shutoff", "lost"),
    ],
)
def test_what_both_sides_mean_together(here, there, kind):
    assert judge("web1", HERE[here], THERE[there]).kind == kind


@pytest.mark.parametrize(("ours", "kind"), [(False, "unclear"), (True, "resume_source")])
def test_a_guest_that_a_user_paused_is_only_resumed_if_that_was_us(ours, kind):
    assert judge("web1", HERE["paused by a user"], THERE["absent"], suspended_by_us=ours).kind == kind


@pytest.mark.parametrize(
    ("here", "there", "seen", "kind"),
    [
        # nobody watched: only libvirt's reason tells whether it was stopped for the switchover
        ("running", "silent", Seen(), "stayed"),
        ("canceled", "silent", Seen(), "unclear"),
        # it was never stopped, so it runs nowhere else; the reason is that of a move before
        ("running", "silent", Seen(handed_over=False), "stayed"),
        ("canceled", "silent", Seen(handed_over=False), "stayed"),
        # it was stopped, or was even seen there
        ("running", "silent", Seen(handed_over=True), "unclear"),
        ("running", "silent", Seen(ran_there=True), "unclear"),
        ("running", "silent", Seen(handed_over=False, ran_there=True), "unclear"),
        # the destination has ended it: that it never ran there, only who watched can tell
        ("canceled", "absent", Seen(handed_over=True), "stayed"),
        ("canceled", "absent", Seen(handed_over=True, ran_there=True), "unclear"),
        ("running", "powered off", Seen(ran_there=True), "unclear"),
        # it has arrived
        ("shutoff", "running", Seen(handed_over=True, ran_there=True), "moved"),
        ("left paused", "absent", Seen(handed_over=True), "resume_source"),
    ],
)
def test_what_was_seen_at_the_destination_belongs_to_the_verdict(here, there, seen, kind):
    assert judge("web1", HERE[here], THERE[there], seen=seen).kind == kind


def test_an_operator_is_told_first_to_stop_one_side():
    verdict = judge("web1", HERE["canceled"], THERE["silent"], seen=Seen(handed_over=True, ran_there=True))
    assert verdict.reason == (
        "URGENT: web1 may run twice, on the same disks: it is running (migration_canceled) on h1, and it ran on"
        " h2 before that stopped answering (no route to host)"
    )
    assert verdict.remedy == (
        "first stop one side: pause it on h1 (virsh suspend web1), or switch h2 off; then see whether it runs on h2. If"
        " it does, its memory on h1 is older than its disks: let it not go on there. If it never ran on h2 (its log in"
        " /var/log/libvirt/qemu there), let it go on on h1"
    )
    both = judge("web1", HERE["canceled"], THERE["running"])
    assert both.reason.startswith("URGENT: web1 is running (migration_canceled) on h1 and running (migrated) on h2: it")
    assert both.remedy.startswith("pause it on h1 at once (virsh suspend web1), where its memory is the older one;")
    older = judge("web1", HERE["canceled"], THERE["absent"], seen=Seen(ran_there=True))
    assert older.reason.endswith("where it ran meanwhile, so its memory on h1 is older than its disks")


def test_a_guest_that_died_comes_with_how_to_start_it():
    verdict = judge("web1", HERE["died"], THERE["absent"])
    assert verdict.reason == "its QEMU on h1 has ended: web1 is shutoff (crashed) on h1 and unknown on h2"
    assert verdict.remedy == (
        "start it again if it is to run: virsh start web1 on h1; /var/log/libvirt/qemu/web1.log there says how it"
        " ended; if libvirt cannot acquire its lock, restart libvirt there, while no guest moves"
    )
    assert judge("web1", HERE["shut down"], THERE["absent"]).reason.startswith("somebody has shut it down: web1 is ")


def test_a_guest_is_only_called_off_where_it_cannot_have_run_elsewhere():
    seen = 0
    for here, there, ours in pairs():
        if judge("web1", here, there, suspended_by_us=ours).kind == "off":
            seen += 1
            assert (here.reachable, here.state, there.reachable) == (True, "shutoff", True)
            assert (there.state, there.state_reason) in (("absent", ""), ("shutoff", "failed"))
            assert here.state_reason != "migrated"
    assert seen
    assert judge("web1", HERE["died"], THERE["absent"], seen=Seen(ran_there=True)).kind == "ended"


def test_a_guest_that_died_as_it_arrived_is_lost_and_comes_with_how_to_start_it_anew():
    verdict = judge("web1", HERE["shutoff"], THERE["absent"])
    assert verdict.reason == (
        "the memory of web1 is lost: h1 has handed it over, and its QEMU on h2 has ended: web1 is shutoff (migrated) on"
        " h1 and unknown on h2"
    )
    assert verdict.remedy == (
        "see that it runs on no other host, then start it anew from its disks: virsh start web1 on h1 (where it no"
        " longer starts with the host: virsh autostart web1 on h1); its log /var/log/libvirt/qemu/web1.log on h2 says"
        " how it ended"
    )


def test_half_of_a_guest_is_named_as_lost_with_what_may_be_removed_where():
    verdict = judge("web1", HERE["died"], THERE["postcopy failed"])
    assert verdict.reason.startswith(
        "the memory of web1 is lost: post-copy was interrupted, and its QEMU on h1, which had a part of its memory, has"
    )
    assert verdict.remedy.startswith("nothing can be resumed. End what is left on h2 (virsh destroy web1 there), then")


def pairs():
    return itertools.product(every("h1"), every("h2"), (False, True))


def test_a_guest_is_only_resumed_where_it_can_run_nowhere_else():
    seen = 0
    for here, there, ours in pairs():
        if judge("web1", here, there, suspended_by_us=ours).kind != "resume_source":
            continue
        seen += 1
        assert there.reachable, (here, there)
        assert there.state == "absent" or (there.state, there.state_reason) == ("shutoff", "failed"), (here, there)
        assert [here.migrating, there.migrating] == [False, False], (here, there)
        assert (here.reachable, here.state) == (True, "paused"), (here, there)
        assert "postcopy" not in here.state_reason + there.state_reason, (here, there)
    assert seen


def test_a_guest_has_only_moved_when_it_runs_there_and_nothing_of_it_is_here():
    seen = 0
    for here, there, ours in pairs():
        if judge("web1", here, there, suspended_by_us=ours).kind != "moved":
            continue
        seen += 1
        assert (here.reachable, there.reachable) == (True, True), (here, there)
        assert here.state in ("absent", "shutoff"), (here, there)
        assert there.state == "running", (here, there)
        assert [here.migrating, there.migrating] == [False, False], (here, there)
        assert "postcopy" not in there.state_reason, (here, there)
    assert seen


def test_a_guest_has_only_stayed_when_it_runs_here():
    seen = 0
    for here, there, ours in pairs():
        if judge("web1", here, there, suspended_by_us=ours).kind != "stayed":
            continue
        seen += 1
        assert (here.reachable, here.state, here.migrating) == (True, "running", False), (here, there)
        assert not there.reachable or there.state in ("absent", "shutoff"), (here, there)
        assert "postcopy" not in here.state_reason, (here, there)
    assert seen


def test_a_broken_postcopy_is_never_waited_for_and_never_touched():
    for here, there, ours in pairs():
        if "postcopy_failed" in (here.state_reason, there.state_reason):
            verdict = judge("web1", here, there, suspended_by_us=ours)
            left = here.reachable and here.state_reason not in ("", "migrated")
            gone = [side for side in (here, there) if side.reachable and not side.active]
            gone = gone if there.state_reason != "postcopy_failed" or left else []
            assert verdict.kind == ("lost" if gone else "unclear"), (here, there)
            assert ("nothing can be resumed" if gone else "destroy neither side") in verdict.remedy


def test_every_pair_has_a_verdict_with_both_hosts_and_a_way_on():
    for here, there, ours in pairs():
        verdict = judge("web1", here, there, suspended_by_us=ours)
        assert verdict.kind in KINDS
        assert {"h1", "h2"} <= set(re.findall(r"h\d", verdict.reason))
        wanted = ("unclear", "off", "lost", "ended", "in_flight")
        assert bool(verdict.remedy) == (verdict.kind in wanted), (here, there)
        # No remedy tells anyone to do what could start a guest twice or end the only one.
        if verdict.kind not in ("off", "lost"):
            assert not re.search(r"virsh (start|destroy|resume|undefine)", verdict.remedy)


def test_the_texts_that_an_operator_reads():
    verdict = judge("my web", unreachable("h1"), THERE["running"])
    assert verdict.reason == (
        "my web is in an unknown state on h1, which does not answer (no route to host) and running (migrated) on h2"
    )
    assert verdict.remedy == (
        "bring h1 back, then compare virsh domstate --reason 'my web' on both hosts; start nothing until then"
    )
    assert judge("web1", HERE["absent"], THERE["absent"]).reason == (
        "web1 is unknown on h1 and unknown on h2: it runs on neither"
    )


def test_a_guest_that_may_have_run_there_comes_with_how_to_tell():
    verdict = judge("web1", HERE["left paused"], THERE["off, unknown"])
    assert verdict.reason == (
        "web1 is paused (migration) on h1 and shutoff (unknown) on h2, where it may have run and ended since; its"
        " memory on h1 would then be older than its disks"
    )
    assert verdict.remedy == (
        "start nothing and let nothing go on until its log in /var/log/libvirt/qemu on h2 says how it ended there; only"
        " after 'shutting down, reason=failed' it never ran there"
    )


@pytest.mark.parametrize("name", ["web1", "two words", "it's", 'a"b', "$(reboot)", "größe", "-x", "a;b", "", "n" * 200])
def test_a_name_can_be_pasted_into_a_shell(name):
    assert shlex.split(quoted(name)) == [name]


@pytest.mark.parametrize(
    ("here", "there", "persistent_before", "faults"),
    [
        (side("h1"), side("h2", "running", persistent=True), True, []),
        (side("h1"), side("h2", "running"), False, []),
        (side("h1"), side("h2", "running"), True, ["web1 has no persistent definition on h2"]),
        (
            side("h1", "shutoff", persistent=True),
            side("h2", "running", persistent=True),
            True,
            ["web1 is still defined on h1"],
        ),
        (
            side("h1", "shutoff", persistent=True),
            side("h2", "running"),
            True,
            ["web1 has no persistent definition on h2", "web1 is still defined on h1"],
        ),
    ],
)
def test_definitions_follow_the_guest(here, there, persistent_before, faults):
    assert definition_faults("web1", here, there, persistent_before=persistent_before) == faults


def test_a_guest_that_was_handed_over_may_have_run_there_and_is_not_called_off():
    here, there = Side("h1", True, "shutoff", "crashed", True), Side("h2", True)
    assert judge("web1", here, there, seen=Seen(handed_over=False)).kind == "off"
    assert judge("web1", here, there, seen=Seen(handed_over=True)).kind == "ended"
