# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import functools
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import methods
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.convergence_limit import (
    floor_s,
    limit_for,
    longest_limit_s,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.forecast import (
    METHODS,
    ForecastError,
    forecast,
    outcome_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.precopy import SendRate, recursion
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.scenario import Known, mirror
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.curve import Curve
from ansible_collections.kvmops.cluster.tests.unit.working_sets import MIB, fitted, measured

B = 23.94e6
LINK = Link(B)


IDLE = measured(fitted())
HOT = measured(fitted(64, 78))
UNMEASURED = {**IDLE, "points": [], "fit": None}


def outcome(working_set, method="pre-copy", link=LINK, cap_ms=500, **more):
    return forecast(working_set, link, cap_ms=cap_ms, chosen=[method], **more)["outcomes"][method]


def value(found, name):
    return found[name]["value"]


class TestVerdicts:
    @pytest.mark.parametrize(
        ("fit", "verdict"),
        [
            (fitted(), "converges"),
            (fitted(16, 8), "converges"),
            (fitted(16, 19.5), "marginal"),
            (fitted(64, 22.8), "marginal"),
            (fitted(64, 78), "never"),
            (fitted(200, 40), "never"),
            (fitted(cold=5), "converges"),
            (fitted(cold=100), "never"),
            # far faster than the link, but so little that it fits into the permitted downtime
            (fitted(3, 300), "converges"),
        ],
    )
    def test_precopy(self, fit, verdict):
        assert outcome(measured(fit))["verdict"] == verdict

    def test_what_was_not_measured_is_marginal_where_it_matters(self):
        found = forecast(UNMEASURED, LINK, cap_ms=500)["outcomes"]
        assert found["pre-copy"]["verdict"] == "marginal"
        assert found["post-copy"]["verdict"] == "converges"
        assert "not measured" in found["pre-copy"]["reason"]

    def test_a_coarse_measurement_is_marginal(self):
        # libvirt's whole seconds: what the guest does in 0.4 s can be anything up to all of it
        points = [{"window_s": w, "dirtied_bytes": 20 * MIB, "sd_bytes": 4 * MIB, "repeats": 3} for w in (1.0, 2.0)]
        fit = {**dataclasses.asdict(fitted(20, 25)), "fill_sd_s": 0.4}
        assert outcome({**HOT, "points": points, "fit": fit})["verdict"] == "marginal"

    def test_a_floor_above_the_cap_is_never(self):
        found = outcome(IDLE, cap_ms=60)
        assert found["verdict"] == "never"
        assert "accepted" in found["reason"]
        assert outcome(IDLE, link=LINK.scaled(5), cap_ms=60)["verdict"] == "converges"

    def test_a_higher_limit_is_taken_where_the_low_one_will_not_do(self):
        guest = measured(fitted(5, 100))
        low = outcome(guest, cap_ms=100)
        high = outcome(guest, cap_ms=800)
        assert low["verdict"] == "never"
        assert high["verdict"] == "converges"
        assert 60 < high["settings"]["limit_ms"] < 800
        assert value(high, "downtime_ms") <= 800

    def test_raising_and_stopping_are_held_against_the_cap(self):
        for method in ("raise-downtime", "suspend"):
            assert outcome(HOT, method)["verdict"] == "never"
            assert outcome(HOT, method, cap_ms=5000)["verdict"] == "converges"
            assert value(outcome(HOT, method), "downtime_ms") == pytest.approx(2900, rel=0.15)

    def test_xbzrle_hangs_on_how_much_of_a_page_changes(self):
        cache = 256 * MIB
        assert outcome(HOT, "xbzrle", xbzrle_cache_bytes=cache)["verdict"] == "converges"
        assert outcome({**HOT, "sparse": 1.0}, "xbzrle", xbzrle_cache_bytes=cache)["verdict"] == "never"
        assert outcome({**HOT, "sparse": None}, "xbzrle", xbzrle_cache_bytes=cache)["verdict"] == "marginal"
        assert outcome(measured(fitted(200, 300)), "xbzrle", xbzrle_cache_bytes=8 * MIB)["verdict"] == "never"

    def test_a_throttle_is_computed_from_cpu_time(self):
        guest = measured(fitted(64, 40), vcpu_utilisation=0.04)
        found = outcome(guest, "throttle")
        assert found["verdict"] == "converges"
        assert found["settings"]["throttle_pct"] > 96
        assert found["settings"]["freeze_ms"] > 200
        busy = outcome({**guest, "vcpu_utilisation": 1.0}, "throttle")
        assert 40 < busy["settings"]["throttle_pct"] < 80
        assert outcome({**guest, "vcpu_utilisation": None}, "throttle")["verdict"] == "never"
        assert outcome(IDLE, "throttle")["settings"]["throttle_pct"] == 0
        assert outcome(measured(fitted(250, 900), vcpu_utilisation=0.02), "throttle")["verdict"] == "never"

    def test_compression_counts_where_it_is_known(self):
        plain = outcome({**IDLE, "compressed_share": None}, "parallel-zstd")
        packed = outcome({**IDLE, "compressed_share": 0.25}, "parallel-zstd")
        assert value(packed, "bytes") < 0.3 * value(plain, "bytes")
        assert plain["bytes"]["low"] < 0.6 * value(plain, "bytes")

    def test_what_is_rewritten_may_compress_worse_than_what_lies_still(self):
        guest = {**measured(fitted(16, 12)), "compressed_share": 0.2}
        alike, worse = outcome(guest, "parallel-zstd"), outcome({**guest, "hot_compressed_share": 0.9}, "parallel-zstd")
        assert value(alike, "bytes") < value(worse, "bytes")
        # At worst nothing of it compresses, whatever was seen of a few pages.
        assert alike["bytes"]["high"] == worse["bytes"]["high"]
        assert worse["reason"] == "the guest's memory compresses to 20 %, its hot set compresses to 90 %"

    @pytest.mark.parametrize(("rate", "pays"), [(B, True), (300e6, True), (1.2e9, False), (3e9, False)])
    def test_compressing_is_no_faster_than_the_cores_that_do_it(self, rate, pays):
        guest = {**measured(fitted(), memory=65536, touched=40_000), "compressed_share": 0.4}
        link = Link(rate)
        plain, packed = outcome(guest, link=link), outcome(guest, "parallel-zstd", link=link)
        assert value(packed, "bytes") < 0.42 * value(plain, "bytes")
        assert (value(packed, "total_s") < value(plain, "total_s")) == pays
        if not pays:
            seconds = 40_000 * MIB / (methods.CHANNELS * methods.ZSTD_BYTES_PER_S)
            assert value(packed, "total_s") == pytest.approx(seconds, rel=0.02)

    def test_a_guest_that_the_link_outruns_is_not_outrun_by_slow_cores(self):
        # 800 MB/s of new pages: the link carries 3 GB/s, two cores compress 660 MB/s
        guest = measured(fitted(3000, 760), memory=16384, touched=8000)
        assert outcome(guest, link=Link(3e9))["verdict"] == "converges"
        assert outcome(guest, "parallel-zstd", link=Link(3e9))["verdict"] == "never"

    def test_postcopy_moves_downtime_into_stalls(self):
        found = outcome(HOT, "post-copy")
        assert value(found, "downtime_ms") == pytest.approx(81, abs=2)
        hot_s = 64 * MIB / B
        assert 0.75 * hot_s < value(found, "work_lost_s") - 0.081 < 1.15 * hot_s


class TestDocument:
    def test_all_methods_in_order(self):
        found = forecast(HOT, LINK, cap_ms=500)
        assert tuple(found["outcomes"]) == METHODS
        assert all(one["reason"] and "\n" not in one["reason"] for one in found["outcomes"].values())

    def test_bands_hold_the_value(self):
        for guest, method in itertools.product((IDLE, HOT, measured(fitted(16, 10))), METHODS):
            found = outcome(guest, method, xbzrle_cache_bytes=256 * MIB)
            for name in ("rounds", "bytes", "total_s", "downtime_ms", "work_lost_s"):
                band = found[name]
                if band["value"] is None:
                    assert band == {"value": None, "low": None, "high": None}
                else:
                    assert band["low"] <= band["value"] <= (band["high"] or float("inf"))

    def test_what_would_be_needed(self):
        found = forecast(HOT, LINK, cap_ms=500)
        assert found["floor_ms"] == pytest.approx(2850, rel=0.03)
        assert outcome(HOT, link=Link(1.01 * found["needed_bytes_per_s"]))["verdict"] == "converges"
        assert outcome(HOT, link=Link(0.7 * found["needed_bytes_per_s"]))["verdict"] != "converges"
        assert found["lowest_limit_ms"] >= 0.8 * found["floor_ms"]
        idle = forecast(IDLE, LINK, cap_ms=500)
        assert idle["lowest_limit_ms"] == 30
        assert idle["needed_bytes_per_s"] < B

    def test_the_guests_own_correction(self):
        assert value(outcome(IDLE, guest_factor=1.5), "bytes") == pytest.approx(
            1.5 * value(outcome(IDLE), "bytes"), rel=0.02
        )


class TestDisks:
    DISKS = ({"target": "vda", "copy_bytes": 10**9},)

    def test_are_copied_first_and_written_to_meanwhile(self):
        still = forecast(IDLE, LINK, cap_ms=500, disks=self.DISKS)
        busy = forecast({**IDLE, "disk_write_bytes_per_s": B / 2}, LINK, cap_ms=500, disks=self.DISKS)
        assert still["disks"] == {"bytes": 10**9, "seconds": pytest.approx(10**9 / B, rel=0.01)}
        assert busy["disks"]["bytes"] == pytest.approx(2 * 10**9, rel=0.01)
        without, with_disk = outcome(IDLE), still["outcomes"]["pre-copy"]
        assert value(with_disk, "total_s") - value(without, "total_s") == pytest.approx(10**9 / B, rel=0.01)
        assert value(with_disk, "bytes") - value(without, "bytes") == pytest.approx(10**9, rel=0.01)

    def test_writes_that_outrun_the_link_end_nothing(self):
        found = forecast({**IDLE, "disk_write_bytes_per_s": 2 * B}, LINK, cap_ms=500, disks=self.DISKS)
        assert found["disks"] == {"bytes": None, "seconds": None}
        assert {one["verdict"] for one in found["outcomes"].values()} == {"never"}

    def test_writes_without_a_copy_cost_nothing(self):
        assert outcome({**IDLE, "disk_write_bytes_per_s": 2 * B}) == outcome(IDLE)
        assert mirror(0, 5, 1) == (0.0, 0.0, 1.0)


GUESTS = st.builds(fitted, hot=st.floats(0, 250), rate=st.floats(1, 200), cold=st.floats(0, 30))


class TestProperties:
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(GUESTS, st.floats(1, 8))
    def test_more_bandwidth_is_never_slower_or_worse(self, fit, times):
        slow = known(fit)
        fast = dataclasses.replace(slow, link=LINK.scaled(times))
        method = functools.partial(methods.precopy, limit_s=0.3)
        before, after = method(slow.likely()), method(fast.likely())
        if before is not None:
            assert after is not None
            # a round more or less may be a stretch of the link and a limit apart
            assert after.total_s <= before.total_s + 0.3 + 0.07
        assert floor_s(fast.likely()) <= floor_s(slow.likely()) * 1.001

    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(GUESTS, st.floats(1.05, 3))
    def test_more_dirtying_never_helps(self, fit, times):
        scenario = known(fit).likely()
        more = dataclasses.replace(scenario, window=lambda w: min(300 * MIB, times * scenario.window(w)))
        method = functools.partial(methods.precopy, limit_s=0.3)
        if method(more) is not None:
            assert method(scenario) is not None
        assert floor_s(more) >= floor_s(scenario) * 0.999

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(GUESTS)
    def test_every_byte_touched_is_sent_once_at_least(self, fit):
        for name in METHODS:
            found = outcome(measured(fit), name, xbzrle_cache_bytes=256 * MIB)
            if value(found, "bytes") is not None:
                share = 0.6 if name == "parallel-zstd" else 1.0
                assert value(found, "bytes") >= share * 300 * MIB
                assert value(found, "total_s") >= share * 300 * MIB / B
                assert value(found, "work_lost_s") >= value(found, "downtime_ms") / 1000 - 0.002

    @given(GUESTS, st.floats(0.02, 2))
    @settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_a_recursion_ends_and_adds_up(self, fit, limit_s):
        run = recursion(300 * MIB, lambda w: min(300 * MIB, fit.value(w)), lambda dummy: SendRate(B, B), limit_s)
        assert 1 <= len(run.rounds) <= 2000
        assert run.sent_bytes <= B * run.seconds * 1.001
        assert run.sent_bytes + run.last_bytes >= 300 * MIB * 0.999
        if run.converged:
            assert run.rounds[-1].left_bytes <= 1.04 * B * limit_s


def known(fit, link=LINK):
    return Known(Curve((1.0,), (fit.value(1.0),), (0.0,), 300 * MIB, fit), 300 * MIB, 0.02, 1024 * MIB, link)


class TestLimits:
    def test_nothing_dirtied(self):
        run = recursion(100 * MIB, lambda w: 0.0, lambda dummy: SendRate(B, B), 0.3)
        assert run.converged
        assert len(run.rounds) == 1
        assert run.sent_bytes + run.last_bytes == pytest.approx(100 * MIB)

    def test_all_of_memory_dirtied_for_ever(self):
        run = recursion(100 * MIB, lambda w: 100 * MIB, lambda dummy: SendRate(B, B), 0.3)
        assert not run.converged
        assert len(run.rounds) < 100

    def test_nothing_touched(self):
        found = outcome(measured(fitted(base=0), touched=0))
        assert found["verdict"] == "converges"
        assert value(found, "total_s") < 1

    @pytest.mark.parametrize("rate", [48e3, 1e6, 1e9, 12e9])
    def test_links_slow_and_fast(self, rate):
        found = forecast(IDLE, Link(rate), cap_ms=500)["outcomes"]["post-copy"]
        assert value(found, "total_s") == pytest.approx(300 * MIB / rate, rel=0.05, abs=0.6)

    def test_a_terabyte_guest(self):
        found = outcome(measured(fitted(20_000, 500), memory=2**20, touched=900_000), link=Link(3e9))
        assert found["verdict"] == "converges"

    def test_a_cap_on_the_move_is_lifted_for_the_last_copy(self):
        capped = LINK.scaled(10).limited(B)
        assert capped.switchover_s(10 * MIB) == LINK.scaled(10).switchover_s(10 * MIB)
        assert capped.bandwidth_bytes_per_s == B
        assert LINK.limited(None) is LINK

    @pytest.mark.parametrize(("times", "cap_ms"), [(2, 500), (10, 500), (50, 100)])
    def test_the_limit_of_a_capped_move_stands_for_a_shorter_downtime(self, times, cap_ms):
        wide = LINK.scaled(times)
        assert limit_for(wide.limited(B), cap_ms / 1000) == pytest.approx(times * limit_for(wide, cap_ms / 1000))
        # It dirties 24 MiB again and again, which the capped rate takes a second for and the link a part of it.
        found = outcome(measured(fitted(24, 300)), link=wide.limited(B), cap_ms=cap_ms)
        assert found["verdict"] == ("never" if times == 2 else "converges")
        if times > 2:
            assert found["settings"]["limit_ms"] > 1000
            assert value(found, "downtime_ms") <= cap_ms

    def test_a_cap_does_not_let_a_limit_go_beyond_what_the_hypervisor_takes(self):
        assert (
            limit_for(LINK.scaled(1000).limited(B), 60.0)
            <= longest_limit_s(LINK.scaled(1000).limited(B), 60.0)
            == 2000.0
        )
        assert limit_for(LINK, 0.010) == 0.010
        assert LINK.limited(1e12) is LINK

    @pytest.mark.parametrize(
        "wrong",
        [{"cap_ms": 0}, {"cap_ms": -5}, {"limit_ms": 0}, {"chosen": ["teleport"]}, {"guest_factor": 0.0},
         {"guest_factor": float("nan")}],
    )  # fmt: skip
    def test_absurd_wishes(self, wrong):
        with pytest.raises(ForecastError):
            forecast(IDLE, LINK, **{"cap_ms": 500, **wrong})

    def test_a_guest_without_memory(self):
        with pytest.raises(ForecastError, match="db1 has no memory"):
            forecast({**IDLE, "memory_bytes": 0}, LINK, cap_ms=500)

    @pytest.mark.parametrize("rate", [0, -1.0, float("nan"), float("inf")])
    def test_absurd_links(self, rate):
        with pytest.raises(ValueError, match="bandwidth"):
            Link(rate)

    @pytest.mark.parametrize("wrong", [{"fixed_s": -1}, {"queue_bytes": float("nan")}, {"spread": 1.0}])
    def test_absurd_corrections(self, wrong):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Link(B, **wrong)

    def test_play_takes_any_method(self):
        found = outcome_of(known(fitted()), lambda scenario: None, 500)
        assert found["verdict"] == "never"
