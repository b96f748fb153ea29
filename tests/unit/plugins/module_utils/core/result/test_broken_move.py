# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can be done about a move that broke off, from what all hosts say."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.broken_move import diagnose, is_suspect
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import known_bugs


def side(host, state="absent", reason="", **more):
    return Side(host, True, state, reason, **more)


def silent(host):
    return Side(host, False, error="no route to host")


SENT_HALF = side("h1", "paused", "postcopy_failed", migrating=True, persistent=True)
GOT_HALF = side("h2", "running", "postcopy_failed", migrating=True, coming_in=True)
PAUSED_HALF = side("h2", "paused", "postcopy_failed", migrating=True, coming_in=True)
NOTHING = side("h3")


@pytest.mark.parametrize("there", [GOT_HALF, PAUSED_HALF, side("h2", "running", "postcopy", coming_in=True)])
def test_a_postcopy_with_both_halves_is_resumed_from_its_source(there):
    found = diagnose("web1", SENT_HALF, [there, NOTHING])
    assert (found.kind, found.source, found.destination) == ("resume", "h1", "h2")
    assert found.reason.startswith("post-copy was interrupted: web1 is paused (postcopy_failed) on h1 and ")
    assert found.remedy == ""


@pytest.mark.parametrize("here", [GOT_HALF, PAUSED_HALF])
def test_the_destination_leaves_it_to_the_source(here):
    found = diagnose("web1", here, [SENT_HALF, NOTHING])
    assert (found.kind, found.source, found.destination) == ("left_to", "h1", "h2")
    assert found.reason.endswith("; h1 resumes it")


def test_a_silent_host_that_cannot_be_the_destination_keeps_nobody_waiting():
    found = diagnose("web1", SENT_HALF, [silent("h3"), GOT_HALF])
    assert (found.kind, found.destination) == ("resume", "h2")


@pytest.mark.parametrize("sent_to", [None, "h2"])
def test_a_silent_host_may_have_the_other_half(sent_to):
    found = diagnose("web1", SENT_HALF, [silent("h2"), NOTHING], sent_to=sent_to)
    assert found.kind == "unclear"
    assert "h2 does not say whether it has the other half" in found.reason
    assert found.remedy == "destroy nothing; bring h2 back, then run it again: ansible-playbook kvmops.cluster.recover"


@pytest.mark.parametrize("gone", [side("h2"), side("h2", "shutoff", "crashed", persistent=True)])
def test_a_half_whose_destination_has_lost_the_other_is_lost(gone):
    found = diagnose("web1", SENT_HALF, [gone, NOTHING], sent_to="h2")
    assert (found.kind, found.source, found.destination) == ("lost", "h1", "h2")
    assert found.remedy.startswith(
        "nothing can be resumed. End what is left on h1 (virsh destroy web1 there), then start it anew from its disks"
    )


def test_a_half_that_was_sent_nobody_knows_where_is_not_called_lost():
    found = diagnose("web1", SENT_HALF, [side("h2"), NOTHING])
    assert (found.kind, found.source, found.destination) == ("unclear", "h1", None)
    assert "no host of this play has the other half" in found.reason
    assert "destroy nothing yet; if its other host is not in the play" in found.remedy


def test_a_half_that_was_sent_to_a_host_outside_of_the_play_is_not_called_lost():
    found = diagnose("web1", SENT_HALF, [NOTHING], sent_to="h9")
    assert (found.kind, found.destination) == ("unclear", "h9")
    assert "if h9, where it was sent, is not in the play, run it over that host too" in found.remedy


def test_a_half_that_arrived_and_whose_source_has_ended_is_lost():
    source = side("h1", "shutoff", "crashed", persistent=True)
    # The source knows that it sent it. Another definition may be that of an earlier home.
    assert diagnose("web1", GOT_HALF, [source, NOTHING]).kind == "unclear"
    assert diagnose("web1", source, [GOT_HALF, NOTHING]) is None
    found = diagnose("web1", source, [GOT_HALF, NOTHING], sent_to="h2")
    assert (found.kind, found.source, found.destination) == ("lost", "h1", "h2")
    assert "its QEMU on h1, which had a part of its memory, has ended" in found.reason


def test_a_half_that_arrived_and_that_no_other_host_knows_is_not_called_lost():
    found = diagnose("web1", GOT_HALF, [side("h1"), NOTHING])
    assert (found.kind, found.source, found.destination) == ("unclear", None, "h2")


def test_a_half_that_is_whole_elsewhere_is_never_resumed():
    found = diagnose("web1", SENT_HALF, [side("h2", "running", "migrated"), NOTHING], sent_to="h2")
    assert found.kind == "unclear"
    assert "its memory on h1 is older" in found.reason
    assert found.remedy.endswith("never let that go on: virsh destroy web1 on h1")


def test_three_hosts_that_have_a_guest_are_left_to_a_person():
    found = diagnose("web1", SENT_HALF, [GOT_HALF, side("h3", "running", "booted")], sent_to="h2")
    assert found.kind == "unclear"
    assert "more hosts have it than a move can have" in found.reason


LEFT_PAUSED = side("h1", "paused", "migration", persistent=True)


def test_a_guest_that_a_migration_left_paused_may_go_on_where_nobody_has_it():
    found = diagnose("web1", LEFT_PAUSED, [side("h2"), NOTHING], sent_to="h2")
    assert (found.kind, found.source, found.destination) == ("resume_source", "h1", "h2")


@pytest.mark.parametrize(
    ("there", "sent_to", "kind"),
    [
        (side("h2"), None, "unclear"),
        (side("h2"), "h9", "unclear"),
        (side("h2", "running", "migrated"), "h2", "unclear"),
        (side("h2", "shutoff", "crashed"), "h2", "unclear"),
        (silent("h2"), "h2", "unclear"),
        (side("h2", "paused", "migration", migrating=True, coming_in=True), "h2", "under_way"),
    ],
)
def test_a_guest_that_a_migration_left_paused_stays_so_in_any_doubt(there, sent_to, kind):
    assert diagnose("web1", LEFT_PAUSED, [there, NOTHING], sent_to=sent_to).kind == kind


def test_what_is_under_way_is_left_alone():
    sending = side("h1", "paused", "migration", migrating=True)
    assert diagnose("web1", sending, [side("h2", "paused", "migration", coming_in=True)]).kind == "under_way"
    postcopy = side("h1", "paused", "postcopy", migrating=True)
    assert diagnose("web1", postcopy, [side("h2", "running", "postcopy")]).kind == "under_way"


@pytest.mark.parametrize(
    ("here", "there", "sent_to", "kind"),
    [
        (side("h1", "shutoff", "migrated", persistent=True), side("h2", "running", "migrated"), None, "close"),
        (side("h1", "shutoff", "unknown", persistent=True), side("h2", "running", "migrated"), "h2", "close"),
        (side("h1", "shutoff", "unknown", persistent=True), side("h2", "running", "booted"), None, None),
        (side("h1", "shutoff", "migrated"), side("h2", "running", "migrated"), None, None),
        (side("h1", "shutoff", "migrated", persistent=True), side("h2", "running", "postcopy_failed"), None, None),
        (side("h1", "shutoff", "migrated", persistent=True), side("h2"), None, None),
    ],
)
def test_a_definition_that_stayed_is_put_right_only_where_its_guest_runs(here, there, sent_to, kind):
    found = diagnose("web1", here, [there, NOTHING], sent_to=sent_to, kept=sent_to is not None)
    assert (found and found.kind) == kind


@pytest.mark.parametrize(
    ("here", "suspect"),
    [
        (SENT_HALF, True),
        (GOT_HALF, True),
        (LEFT_PAUSED, True),
        (side("h1", "paused", "user"), False),
        (side("h1", "running", "booted"), False),
        (side("h1", "shutoff", "migrated"), False),
    ],
)
def test_only_guests_of_broken_moves_are_asked_about(here, suspect):
    assert is_suspect(here) is suspect


@pytest.mark.parametrize(
    ("of_source", "of_target", "host"),
    [
        ((12, 8, 0), (11, 3, 0), "h2"),
        ((11, 2, 0), (12, 8, 0), "h1"),
        ((8, 5, 0), (12, 8, 0), "h1"),
    ],
)
def test_a_daemon_that_would_die_is_named(of_source, of_target, host):
    why = known_bugs.resume_refusal("h1", of_source, "h2", of_target)
    assert why is not None
    assert f" on {host} " in why["reason"]
    assert f"upgrade libvirt on {host} to " in why["remedy"]


@pytest.mark.parametrize("version", [(9, 0, 0), (10, 0, 0), (11, 4, 0), (12, 8, 0)])
def test_other_daemons_may_resume(version):
    assert known_bugs.resume_refusal("h1", version, "h2", version) is None
