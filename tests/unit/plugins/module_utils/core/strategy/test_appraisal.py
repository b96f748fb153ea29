# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import calibration
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge, appraise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import OPENING_LIMIT_MS, TRIED
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.xbzrle_cache import (
    LEAST_CACHE_BYTES,
    cache_bytes,
)
from ansible_collections.kvmops.cluster.tests.unit.working_sets import MIB, fitted, measured

B = 23.94e6
WHOLE = {"compressed_share": 1.0, "sparse": 1.0, "vcpu_utilisation": 0.04}
IDLE = measured(fitted(), memory=512, touched=110, **WHOLE)
HOT = measured(fitted(64, 78), memory=512, touched=110, **WHOLE)
SPARSE = {**HOT, "sparse": 0.01}
BALLOON = {"current_bytes": 512 * MIB, "unused_bytes": 402 * MIB, "rss_bytes": None, "age_s": 1}
DOMAIN = {"name": "db1", "uuid": "u1", "memory_bytes": 512 * MIB, "balloon": BALLOON}


def host(name="h1", **more):
    return {"host": name, "versions": {"libvirt": "11.3.0", "qemu": "10.0.2"}, "capacity": {"available_bytes": 8 << 30},
            "migration": {"postcopy": {"usable": True}}, **more}  # fmt: skip


def appraised(working_set=None, *, stated=B, source=None, destination=None, path=None, guest=None, tried=(), disks=(),
              domain=None, at_once=1, **intent):  # fmt: skip
    known = Knowledge(working_set, path, guest, stated, at_once=at_once)
    return appraise(
        domain or DOMAIN,
        source or host(),
        destination or host("h2"),
        intents.normalise({"encryption": "off", **intent}),
        known,
        disks=disks,
        tried=tried,
    )


def learned(rate, times=8):
    state = None
    for dummy in range(times):
        state, _guest = calibration.learn(state, None, {}, Link(rate), {"bytes_per_s": rate})
    return state


class TestKnown:
    def test_a_measured_guest_on_a_known_path(self):
        found = appraised(HOT, allow_postcopy=True)
        assert (found.choice["method"], found.choice["measured_at"]) == ("post-copy", "2026-11-24T02:00:00Z")
        assert found.choice["settings"]["limit_ms"] == OPENING_LIMIT_MS
        assert (found.working_set, found.link.bandwidth_bytes_per_s, found.guest_factor) == (HOT, B, 1.0)

    def test_both_hosts_have_a_say(self):
        silent = {"postcopy": {"usable": False, "reason": "it is switched off"}}
        bug = {"code": "qemu_postcopy_corruption", "reason": "it damages memory", "remedy": "upgrade"}
        for ends, why in (
            ({"destination": host("h2", migration=silent)}, "it is switched off"),
            ({"source": host(migration={"known_bugs": [bug]})}, "it damages memory"),
        ):
            found = appraised(HOT, allow_postcopy=True, allow_suspend=True, **ends).choice
            assert (found["method"], found["why_not"]["post-copy"]) == ("suspend", why)
        lame = host(migration={"postcopy": {"usable": True}, "postcopy_recover": {"usable": False}})
        for ends in ({"source": lame}, {"destination": lame}):
            assert "cannot be resumed" in appraised(HOT, allow_postcopy=True, **ends).choice["reason"]

    @pytest.mark.parametrize(("libvirt", "recovers"), [("11.4.0", True), ("11.3.0", False), (None, True)])
    def test_guests_leave_by_post_copy_where_none_could_arrive(self, libvirt, recovers):
        no = {"usable": False, "reason": "vm.unprivileged_userfaultfd is 0", "remedy": "sysctl"}
        source = host(migration={"postcopy": no, "postcopy_recover": no}, versions={"libvirt": libvirt})
        found = appraised(HOT, allow_postcopy=True, source=source).choice
        assert found["method"] == "post-copy"
        assert ("cannot be resumed" not in found["reason"]) == recovers

    def test_what_moves_have_shown_of_compression_counts(self):
        sampled = {**HOT, "compressed_share": 0.6, "hot_compressed_share": 0.3}
        _path, guest = calibration.learn(None, None, {}, Link(B), {"compressed_share": 0.45})
        found = appraised(sampled, guest=guest).working_set
        assert found["compressed_share"] == pytest.approx(0.5)
        assert found["hot_compressed_share"] == pytest.approx(0.25)
        assert appraised({**sampled, "compressed_share": None}, guest=guest).working_set["compressed_share"] is None

    def test_what_finished_moves_taught_counts(self):
        guest = {"kind": "guest", "learned": {"told_factor": {"mean": 1.5, "deviation": 0.1, "seen": 5}}}
        plain, corrected = appraised(IDLE), appraised(IDLE, guest=guest)
        assert corrected.guest_factor == 1.5
        ratio = corrected.choice["bytes"]["value"] / plain.choice["bytes"]["value"]
        assert ratio == pytest.approx(1.5, rel=0.05)
        slow = appraised(IDLE, path=learned(B / 2))
        assert slow.link.bandwidth_bytes_per_s == pytest.approx(B / 2, rel=0.05)
        # What was learned is believed up to what is stated.
        assert appraised(IDLE, path=learned(B * 2)).link.bandwidth_bytes_per_s == B
        assert appraised(IDLE, stated=None, path=learned(B)).link.bandwidth_bytes_per_s == pytest.approx(B, rel=0.01)

    def test_a_cap_lengthens_the_limit_that_it_opens_with(self):
        found = appraised(IDLE, stated=50 * MIB, bandwidth_mib_s=5)
        assert found.link.bandwidth_bytes_per_s == 5 * MIB
        assert found.choice["settings"]["limit_ms"] == 10 * OPENING_LIMIT_MS
        assert appraised(IDLE, stated=50 * MIB, bandwidth_mib_s=99).choice["settings"]["limit_ms"] == OPENING_LIMIT_MS

    def test_a_link_that_is_gone_easy_on_is_no_slower_link(self):
        busy = measured(fitted(16, 10), memory=512, touched=200, **WHOLE)
        easy = {"bandwidth_floor_mib_s": 10, "stated": 112 * MIB}
        assert appraised(busy, stated=10 * MIB).choice["method"] is None
        for more in ({}, {"bandwidth_mib_s": 100}, {"max_slowdown_pct": 10}):
            found = appraised(busy, **easy, **more)
            assert (found.choice["method"], found.choice["verdict"]) == ("pre-copy", "converges")
            assert found.link.bandwidth_bytes_per_s == more.get("bandwidth_mib_s", 112) * MIB
            # The first pass alone takes 20 s.
            assert 20 < found.choice["total_s"]["value"] < 40
            assert found.choice["downtime_ms"]["value"] <= 500

    def test_the_deadline_is_held_against_the_rate_of_each_round(self):
        easy = {"stated": 112 * MIB, "bandwidth_floor_mib_s": 10}
        assert appraised(IDLE, **easy, deadline_s=20).choice["refusal"] is None
        assert appraised(IDLE, **easy, deadline_s=10).choice["refusal"]["code"] == "cannot_keep_intent"

    def test_a_floor_above_the_link_or_the_cap_holds_nothing_back(self):
        assert appraised(IDLE, bandwidth_floor_mib_s=500).choice == appraised(IDLE).choice
        found = appraised(IDLE, stated=112 * MIB, bandwidth_floor_mib_s=50, bandwidth_mib_s=20).choice
        capped = appraised(IDLE, stated=112 * MIB, bandwidth_mib_s=50).choice
        for figure in ("rounds", "bytes", "total_s", "downtime_ms"):
            assert found[figure]["value"] == capped[figure]["value"]

    def test_a_floor_says_nothing_of_a_path_that_nobody_knows(self):
        assert appraised(HOT, stated=None, bandwidth_floor_mib_s=10).link is None

    def test_disks_go_at_the_floor_and_those_that_outrun_it_cannot_go(self):
        easy = {"stated": 112 * MIB, "bandwidth_floor_mib_s": 10}
        disks = [{"target": "vda", "copy_bytes": 10**9}]
        longer = appraised(IDLE, **easy, disks=disks).choice["total_s"]["value"]
        assert longer - appraised(IDLE, **easy).choice["total_s"]["value"] == pytest.approx(10**9 / 10 / MIB, rel=0.02)
        written = {**IDLE, "disk_write_bytes_per_s": 20.0 * MIB}
        assert "writes its disks faster" in appraised(written, **easy, disks=disks).choice["refusal"]["reason"]

    def test_disks_that_go_along_cost_their_time(self):
        with_disk = appraised(IDLE, disks=[{"target": "vda", "copy_bytes": 10**9}]).choice
        assert with_disk["total_s"]["value"] - appraised(IDLE).choice["total_s"]["value"] == pytest.approx(
            10**9 / B, rel=0.02
        )

    def test_what_whole_copies_would_send_is_told_of_a_guest_that_comes_home(self):
        whole = {"target": "vda", "data_bytes": 10**9, "copy_bytes": 10**9}
        home = [{"target": "vdb", "data_bytes": 10**9, "copy_bytes": 10**6, "delta_bytes": 10**6}, whole]
        assert "whole_bytes" not in appraised(IDLE, disks=[whole]).choice["disks"]
        for stated in (B, None):
            found = appraised(IDLE, stated=stated, disks=home).choice["disks"]
            assert (found["bytes"], found["whole_bytes"]) == (1001 * 10**6, 2 * 10**9)

    def test_what_nothing_moves_is_refused(self):
        found = appraised(HOT).choice
        assert (found["method"], found["refusal"]["code"]) == (None, "cannot_keep_intent")


class TestShared:
    def test_a_share_of_the_link_is_what_there_is(self):
        whole, share = appraised(IDLE), appraised(IDLE, at_once=4)
        assert share.link.bandwidth_bytes_per_s == pytest.approx(B / 4)
        assert (whole.choice["at_once"], share.choice["at_once"]) == (1, 4)
        took, took_whole = (one.choice["total_s"]["value"] - calibration.ASSUMED["before_s"] for one in (share, whole))
        assert took / took_whole == pytest.approx(4, rel=0.15)
        assert appraised(stated=None, at_once=4).choice["at_once"] == appraised(at_once=4).choice["at_once"] == 4

    def test_a_guest_that_only_the_sharing_stops_is_told_so(self):
        warm = measured(fitted(16, 10), memory=512, touched=110, **WHOLE)
        assert appraised(warm).choice["refusal"] is None
        refused = appraised(warm, at_once=4).choice["refusal"]
        assert refused["code"] == "cannot_keep_intent"
        assert refused["remedy"].endswith("; alone on the link it would work: move fewer than 4 guests at once")
        assert "fewer" not in appraised(HOT, at_once=4).choice["refusal"]["remedy"]

    def test_a_cap_below_the_share_is_what_counts(self):
        assert appraised(IDLE, at_once=2, bandwidth_mib_s=5).link.bandwidth_bytes_per_s == 5 * MIB
        assert appraised(IDLE, at_once=2, bandwidth_mib_s=20).link.bandwidth_bytes_per_s == pytest.approx(B / 2)


class TestUnknown:
    def test_a_path_that_nobody_knows_is_learned_in_flight(self):
        found = appraised(HOT, stated=None, allow_suspend=True)
        assert found.link is None
        choice = found.choice
        assert (choice["method"], choice["verdict"], choice["refusal"]) == ("pre-copy", "marginal", None)
        assert (choice["total_s"], choice["bandwidth_bytes_per_s"]) == (None, None)
        assert choice["fallbacks"] == ["suspend"]
        assert choice["why_not"] == {"post-copy": "allow_postcopy is off"}
        assert "the speed of this path is not known yet" in choice["reason"]
        assert choice["measured_at"] == HOT["taken_at"]

    def test_a_cap_is_what_a_path_has_that_nobody_knows(self):
        assert appraised(IDLE, stated=None, bandwidth_mib_s=20).link.bandwidth_bytes_per_s == 20 * MIB

    def test_a_guest_that_was_not_measured_is_promised_nothing(self):
        found = appraised(allow_postcopy=True)
        choice = found.choice
        assert (choice["method"], choice["verdict"], choice["measured_at"]) == ("pre-copy", "marginal", None)
        assert found.working_set["touched_bytes"] == 110 * MIB
        assert choice["total_s"]["value"] is None
        assert choice["total_s"]["low"] == pytest.approx(calibration.ASSUMED["before_s"] + 110 * MIB / B, rel=0.1)
        assert choice["fallbacks"] == ["post-copy"]

    def test_without_a_balloon_driver_all_of_it_may_go(self):
        found = appraised(domain={**DOMAIN, "balloon": None})
        assert (found.working_set["touched_bytes"], found.working_set["touched_how"]) == (512 * MIB, "memory")

    @pytest.mark.parametrize("stated", [1.2e9, None])
    def test_the_limit_never_exceeds_what_is_accepted(self, stated):
        assert appraised(stated=stated, max_downtime_ms=20).choice["settings"]["limit_ms"] == 20

    def test_what_no_guest_gets_below_is_refused_to_this_one_too(self):
        found = appraised(max_downtime_ms=5).choice
        assert (found["method"], found["refusal"]["code"]) == (None, "cannot_keep_intent")
        assert found["refusal"]["reason"] == (
            "no method keeps the intent: over this link every guest is down for 80 ms or more, and 5 ms are accepted"
        )
        assert found["refusal"]["remedy"] == (
            "permit max_downtime_ms of at least 90 or allow_suspend, or give it a faster link"
        )
        assert appraised(max_downtime_ms=90).choice["refusal"] is None
        assert appraised(max_downtime_ms=5, bandwidth_mib_s=10).choice["refusal"] is not None
        # The cap holds until the last copy, and nobody knows what that has.
        assert appraised(max_downtime_ms=5, bandwidth_mib_s=10, stated=None).choice["refusal"] is None
        assert appraised(max_downtime_ms=5, allow_suspend=True).choice["method"] == "pre-copy"
        assert appraised(IDLE, max_downtime_ms=5).choice["refusal"]["code"] == "cannot_keep_intent"


class TestTried:
    @pytest.mark.parametrize(("working_set", "stated"), [(None, B), (None, None), (HOT, None)])
    def test_what_was_tried_is_armed_no_more_where_little_is_known(self, working_set, stated):
        found = appraised(working_set, stated=stated, allow_postcopy=True, tried=["post-copy"]).choice
        assert (found["method"], found["fallbacks"]) == ("pre-copy", [])
        assert found["why_not"]["post-copy"] == TRIED

    def test_the_next_best_is_chosen(self):
        assert appraised(SPARSE, allow_postcopy=True).choice["method"] == "xbzrle"
        found = appraised(SPARSE, allow_postcopy=True, tried=["xbzrle"]).choice
        assert (found["method"], found["why_not"]["xbzrle"]) == ("post-copy", TRIED)

    def test_the_operators_own_reason_goes_before(self):
        found = appraised(tried=["post-copy"]).choice
        assert found["why_not"]["post-copy"] == "allow_postcopy is off"


class TestCache:
    @pytest.mark.parametrize(
        ("working_set", "free", "size"),
        [
            (IDLE, 8 << 30, LEAST_CACHE_BYTES),
            (HOT, 8 << 30, 256 * MIB),
            (HOT, None, 256 * MIB),
            # a quarter of what is free, at the most
            (HOT, 600 * MIB, 128 * MIB),
            (HOT, 1 * MIB, LEAST_CACHE_BYTES),
        ],
    )
    def test_it_holds_the_hot_set_as_far_as_the_host_can_spare_it(self, working_set, free, size):
        assert cache_bytes(working_set, Link(B), free) == size

    def test_it_is_what_the_choice_is_made_with(self):
        assert appraised(SPARSE).choice["settings"]["cache_bytes"] == 256 * MIB
        tight = appraised(SPARSE, source=host(capacity={"available_bytes": 64 * MIB}), allow_postcopy=True).choice
        assert (tight["method"], tight["settings"].get("cache_bytes")) == ("xbzrle", LEAST_CACHE_BYTES)


class TestOwnLimits:
    """A guest whose QEMU may not take all that a move would."""

    @staticmethod
    def limited(**limits):
        none = {"memory_bytes": None, "cpus": None, "emulator_cpus": None, "vcpu_cpus": None}
        return {**DOMAIN, "vcpus": 1, "limits": {**none, **limits}}

    def test_the_cache_of_xbzrle_stays_inside_the_memory_limit(self):
        free = appraised(SPARSE).choice
        assert (free["method"], free["settings"]["cache_bytes"]) == ("xbzrle", 256 * MIB)
        # QEMU itself needs 74 MiB beside the guest's 512 MiB.
        for left, cache in ((270, 256), (260, 128), (140, 128)):
            tight = appraised(SPARSE, domain=self.limited(memory_bytes=(512 + 74 + left) * MIB)).choice
            assert (tight["method"], tight["settings"]["cache_bytes"]) == ("xbzrle", cache * MIB)

    def test_without_room_for_a_cache_the_refusal_names_the_limit(self):
        found = appraised(SPARSE, domain=self.limited(memory_bytes=600 * MIB)).choice
        assert found["method"] is None
        assert found["why_not"]["xbzrle"] == "its memory limit of 600 MiB leaves no room for a cache of xbzrle"
        assert found["reason"] == found["refusal"]["reason"]
        assert found["reason"].endswith("; its memory limit of 600 MiB leaves no room for a cache of xbzrle")
        assert found["refusal"]["remedy"].startswith(
            "raise its memory limit (virsh memtune db1 --live --hard-limit …), or "
        )

    def test_where_two_limits_are_in_the_way_both_are_named(self):
        """With half a CPU, even a large cache is filled too slowly."""
        both = self.limited(memory_bytes=(512 + 74 + 70) * MIB, cpus=0.05)
        wide = measured(fitted(256, 300), memory=512, touched=400, **{**WHOLE, "sparse": 0.001})
        for name in ("memory_bytes", "cpus"):
            lifted = {**both, "limits": {**both["limits"], name: None}}
            assert appraised(wide, stated=60e6, domain=lifted).choice["method"] is None
        assert appraised(wide, stated=60e6, domain={**both, "limits": None}).choice["method"] == "xbzrle"
        assert (
            appraised(wide, stated=60e6, domain=both)
            .choice["refusal"]["remedy"]
            .startswith(
                "raise its memory limit (virsh memtune db1 --live --hard-limit …) and raise its CPU quota (virsh "
                "schedinfo db1 --live --set global_quota=…), or permit "
            )
        )

    def test_what_no_limit_would_change_is_not_put_down_to_the_limit(self):
        found = appraised(HOT, domain=self.limited(memory_bytes=600 * MIB)).choice
        assert found["method"] is None
        assert "limit" not in found["refusal"]["remedy"]

    def test_compression_has_the_cpus_that_the_quota_leaves(self):
        squeezed = {**HOT, "compressed_share": 0.2, "hot_compressed_share": 0.2}
        fast = 400e6
        assert appraised(squeezed, stated=B).choice["method"] == "parallel-zstd"
        for quota in ({"cpus": 0.5}, {"emulator_cpus": 0.9}):
            found = appraised(squeezed, stated=B, domain=self.limited(**quota)).choice
            assert found["method"] != "parallel-zstd"
            assert found["why_not"]["parallel-zstd"].startswith("its CPU quota of 0.")
        plenty = appraised(squeezed, stated=B, domain=self.limited(cpus=4.0)).choice
        assert plenty["method"] == "parallel-zstd"
        slow, quick = (
            appraised(squeezed, stated=fast, domain=self.limited(emulator_cpus=cpus)).choice["total_s"]
            for cpus in (1.0, 2.0)
        )
        assert slow is None or quick is None or slow["value"] >= quick["value"]

    def test_a_guest_uses_no_more_cpu_time_than_its_quota(self):
        """Measured before the quota was set: a throttle only slows it below what the quota leaves."""
        busy = {**HOT, "vcpu_utilisation": 1.0}
        found = appraised(busy, domain=self.limited(vcpu_cpus=0.25))
        assert found.working_set["vcpu_utilisation"] == 0.25
        assert appraised(busy, domain=self.limited(cpus=8.0)).working_set["vcpu_utilisation"] == 1.0
