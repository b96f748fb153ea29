# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.calibration import new_path
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.jobs import Slots
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import plan_forecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import copied_disks, guest_xml
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    GIB,
    MIB,
    cluster,
    disk,
    domain,
    snapshot,
    working_set,
)

FIXTURES = Path(__file__).parents[4] / "fixtures"
QUIET, HOT = domain("quiet"), domain("hot")
#: 128 MiB within a second is six times what the link below takes.
SETS = [working_set(QUIET, hot_bytes=MIB), working_set(HOT, hot_bytes=128 * MIB, fill_s=1.0)]
CONNECT = {"h1": {"bandwidth_mib_s": 22.8}, "h2": {"bandwidth_mib_s": 22.8}}
LOCAL = disk("vdb", shared=False, source="/images/vdb.qcow2", allocation_bytes=3 * GIB)


def seen(*guests, **hosts):
    return cluster(snapshot("h1", *(guests or (QUIET, HOT))), snapshot("h2"), snapshot("h3"), **hosts)


def foreseen(**changes):
    known = {"snapshots": seen(), "connect": CONNECT, "working_sets": SETS, **changes}
    return plan_forecasts.PlanForecasts(**known)


def test_a_measured_guest_gets_a_method_figures_and_a_reason():
    made = foreseen().choice(QUIET, "h1", "h2", intent.normalise({}))
    assert (made["verdict"], made["refusal"], made["measured_at"]) == ("converges", None, "2026-11-24T01:59:50Z")
    assert made["method"] is not None
    assert made["method"] in made["reason"]
    assert 0.5 < made["total_s"]["value"] < 128 / 22.8 + 2
    assert 30 * MIB < made["bytes"]["value"] <= 140 * MIB
    assert json.loads(json.dumps(made)) == made


def test_a_guest_without_a_measurement_is_forecast_and_says_so():
    made = foreseen(working_sets=[]).choice(QUIET, "h1", "h2", intent.normalise({}))
    assert made["measured_at"] is None
    assert made["verdict"] == "marginal"


def test_the_newest_of_several_measurements_counts():
    old = {**working_set(QUIET, hot_bytes=128 * MIB), "taken_at": "2026-11-20T02:00:00Z"}
    first, last = (foreseen(working_sets=sets) for sets in ([old, SETS[0]], [SETS[0], old]))
    of = [each.choice(QUIET, "h1", "h2", intent.normalise({})) for each in (first, last)]
    assert of[0] == of[1]
    assert of[0]["measured_at"] == "2026-11-24T01:59:50Z"


def test_moves_that_share_a_path_have_their_share_of_it():
    whole, half = (foreseen(slots=Slots(per_source=most)) for most in (1, 2))
    assert (whole.at_once("h1", "h2"), half.at_once("h1", "h2")) == (1, 2)
    assert half.bytes_per_s("h1", "h2") == whole.bytes_per_s("h1", "h2") / 2
    made = half.choice(QUIET, "h1", "h2", intent.normalise({}))
    assert (made["at_once"], made["bandwidth_bytes_per_s"]) == (2, round(22.8 * MIB / 2))
    # Two guests are all that can leave h1 at once, and none leaves h3.
    assert foreseen(slots=Slots(per_source=9)).at_once("h1", "h2") == 2
    assert foreseen(slots=Slots(per_source=9), receivers=1).at_once("h1", "h2") == 1
    assert foreseen(slots=Slots(per_destination=9), senders=1).at_once("h1", "h2") == 1
    assert foreseen(slots=Slots(per_destination=9)).at_once("h1", "h2") == 2
    crossed = {("h1", "h2"): ("core",)}
    assert foreseen(slots=Slots(per_link={"core": 2}), links=crossed).at_once("h1", "h2") == 2
    assert foreseen(slots=Slots(per_link={"core": 2}), links=crossed).at_once("h1", "h3") == 1


def test_the_slower_end_sets_the_pace():
    connect = {"h1": {"bandwidth_mib_s": 100}, "h2": {"bandwidth_mib_s": "20"}, "h3": {}}
    assert plan_forecasts.stated_bytes_per_s(connect, "h1", "h2") == 20 * MIB
    assert plan_forecasts.stated_bytes_per_s(connect, "h1", "h3") == 100 * MIB
    assert plan_forecasts.stated_bytes_per_s(connect, "h3", "h4") is None


def test_what_moves_have_taught_is_used_for_that_path_only():
    rate = {"mean": 10e6, "deviation": 1e5, "seen": 5}
    learned = {"h1": {"guests": {}, "paths": {"h2": {**new_path(), "learned": {"bandwidth_bytes_per_s": rate}}}}}
    known = foreseen(connect={}, calibration=learned)
    assert known.choice(QUIET, "h1", "h2", intent.normalise({}))["bandwidth_bytes_per_s"] == 10_000_000
    blind = known.choice(QUIET, "h1", "h3", intent.normalise({}))
    assert (blind["bandwidth_bytes_per_s"], blind["total_s"]) == (None, None)


def test_a_short_send_queue_shortens_the_downtime():
    long, short = (foreseen(tuned=tuned).choice(QUIET, "h1", "h2", intent.normalise({})) for tuned in (False, True))
    assert short["downtime_ms"]["value"] < 0.7 * long["downtime_ms"]["value"]


def test_disks_that_go_along_are_part_of_it():
    guest = domain("quiet", disks=[disk(), LOCAL])
    known = foreseen(snapshots=seen(guest))
    with_disk = known.choice(guest, "h1", "h2", intent.normalise({"allow_storage_copy": True}))
    without = known.choice(guest, "h1", "h2", intent.normalise({}))
    assert with_disk["bytes"]["value"] > without["bytes"]["value"] + 2.9 * GIB


@pytest.mark.parametrize(
    ("changes", "copied"),
    [
        ({}, True),
        ({"shared": True}, False),
        ({"shared": None}, False),
        ({"readonly": True}, False),
        ({"shareable": True}, False),
        ({"source": None}, False),
        ({"type": "block"}, True),
        ({"type": "volume"}, True),
        ({"type": "vhostuser"}, False),
        ({"type": "nvme"}, False),
        ({"type": "network"}, False),
    ],
)
def test_disks_that_are_copied(changes, copied):
    guest = domain(disks=[{**LOCAL, **changes}])
    found = copied_disks.to_copy(guest, intent.normalise({"allow_storage_copy": True}))
    assert [one["copy_bytes"] for one in found] == ([3 * GIB] if copied else [])
    assert copied_disks.to_copy(guest, intent.normalise({})) == []


def test_what_a_copy_sends_counts_more_than_the_highest_offset():
    thin = {**LOCAL, "data_bytes": 1 * GIB}
    assert copied_disks.to_copy(domain(disks=[thin]), {"allow_storage_copy": True})[0]["copy_bytes"] == 1 * GIB
    # Two layers that hold the same blocks.
    layered = {**LOCAL, "data_bytes": 15 * GIB}
    assert copied_disks.to_copy(domain(disks=[layered]), {"allow_storage_copy": True})[0]["copy_bytes"] == 10 * GIB


def test_the_copy_is_told_apart():
    guest = domain("quiet", disks=[disk(), {**LOCAL, "data_bytes": 100_000_000}])
    wanted = intent.normalise({"allow_storage_copy": True})
    known = foreseen(snapshots=seen(guest))
    copied = known.choice(guest, "h1", "h2", wanted)["disks"]
    assert copied["bytes"] == pytest.approx(100_000_000, rel=0.01)
    assert copied["seconds"] == pytest.approx(100_000_000 / copied_rate(known, guest, wanted), rel=0.05)
    assert known.choice(guest, "h1", "h2", intent.normalise({}))["disks"] is None
    blind = foreseen(snapshots=seen(guest), connect={})
    assert blind.choice(guest, "h1", "h3", wanted)["disks"] == {"bytes": 100_000_000, "seconds": None}


def copied_rate(known, guest, wanted):
    return known.choice(guest, "h1", "h2", wanted)["bandwidth_bytes_per_s"]


@pytest.mark.parametrize(
    ("here", "there", "kept"),
    [("10.9.0", "11.3.0", True), ("10.8.0", "11.3.0", False), ("11.3.0", "9.0.0", False), ("11.3.0", None, False)],
)
def test_holes_are_kept_where_both_libvirts_can(here, there, kept):
    source, destination = ({"versions": {"libvirt": one}} for one in (here, there))
    assert copied_disks.keeps_holes(source, destination) is kept


def test_a_disk_that_is_not_thin_is_copied_whole():
    whole = {**LOCAL, "allocation_bytes": None}
    assert copied_disks.to_copy(domain(disks=[whole]), {"allow_storage_copy": True})[0]["copy_bytes"] == 10 * GIB


def described(**changes):
    """A guest of 255 vCPUs in four NUMA cells on huge pages and without a balloon, as a host's snapshot tells it."""
    told = guest_xml.describe(guest_xml.parse((FIXTURES / "domain_large.xml").read_text("utf-8")))
    rss = {"current_bytes": 512 * GIB, "unused_bytes": None, "rss_bytes": None, "age_s": None}
    return domain(**{**told, "balloon": rss, **changes})


def test_a_very_large_guest_is_described_as_it_is():
    guest = described()
    assert (guest["vcpus"], guest["memory_bytes"], guest["hugepage_bytes"]) == (240, 512 * GIB, GIB)
    assert "<numa>" not in guest["cpu"]["xml"], "cells differ from guest to guest, and CPUs are compared by this"


def test_a_guest_without_a_balloon_that_was_not_measured_may_have_touched_all_its_memory_or_half():
    guest = described()
    known = foreseen(snapshots=seen(guest), connect={"h1": {"bandwidth_mib_s": 2900}}, working_sets=[])
    made = known.choice(guest, "h1", "h2", intent.normalise({}))
    assert (made["measured_at"], made["verdict"]) == (None, "marginal")
    assert (made["method"], made["refusal"]) == ("pre-copy", None)
    assert made["total_s"]["low"] == pytest.approx(256 * 1024 / 2900, rel=0.05)
    assert made["total_s"]["high"] is None


def test_a_very_large_guest_that_was_measured_is_forecast_over_several_channels():
    guest = described()
    measured = {**working_set(guest, hot_bytes=GIB, fill_s=10.0), "touched_bytes": 400 * GIB, "touched_how": "memory"}
    known = foreseen(snapshots=seen(guest), connect={"h1": {"bandwidth_mib_s": 2900}}, working_sets=[measured])
    made = known.choice(guest, "h1", "h2", intent.normalise({"allow_postcopy": True}))
    assert made["refusal"] is None
    assert made["total_s"]["value"] == pytest.approx(400 * 1024 / 2900, rel=0.1)
    assert "several channels" in made["why_not"]["post-copy"]
