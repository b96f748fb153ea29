# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.calibration import (
    ASSUMED,
    BOUNDS,
    compressed_share,
    guest_factor,
    learn,
    link_of,
    new_guest,
    new_path,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.link import Link

LINK = Link(23.94e6)
UNKNOWN = Link(1e8, **ASSUMED)
OUTCOME = {"verdict": "converges", "bytes": {"value": 90e6}, "downtime_ms": {"value": 81}}


def taught(times, path=None, guest=None, outcome=None, link=LINK, **actual):
    for dummy in range(times):
        path, guest = learn(path, guest, outcome or OUTCOME, link, actual)
        link = link_of(path, link.bandwidth_bytes_per_s) or link
    return path, guest


class TestPath:
    def test_nothing_learned_is_what_is_assumed(self):
        assert link_of(new_path(), 1e8) == link_of(None, 1e8) == UNKNOWN
        assert UNKNOWN.before_s == 1.3
        assert link_of(None) is None

    def test_how_long_hosts_take_is_known_from_other_paths(self):
        others = [taught(9, first_byte_s=first, after_s=0.4, bytes_per_s=5e6)[0] for first in (0.4, 0.5, 3.0)]
        found = link_of(None, 1e8, others)
        assert (found.before_s, found.after_s) == (pytest.approx(0.5, rel=0.1), pytest.approx(0.4, rel=0.1))
        assert found.bandwidth_bytes_per_s == 1e8
        own, dummy = taught(9, first_byte_s=2.0)
        assert link_of(own, 1e8, others).before_s == pytest.approx(2.0, rel=0.1)
        assert link_of(None, 1e8, [{}, {"learned": {"before_s": {"mean": "x"}}}]) == UNKNOWN

    def test_comes_to_what_is_measured(self):
        path, dummy = taught(12, bytes_per_s=12e6, first_byte_s=0.5, after_s=0.4)
        found = link_of(path)
        assert found.bandwidth_bytes_per_s == pytest.approx(12e6, rel=0.05)
        assert found.before_s == pytest.approx(0.5, rel=0.05)
        assert found.after_s == pytest.approx(0.4, rel=0.05)

    def test_what_is_known_caps_what_was_learned(self):
        path, dummy = taught(12, bytes_per_s=23e6)
        assert link_of(path, 10e6).bandwidth_bytes_per_s == 10e6
        assert link_of(path, 1e9).bandwidth_bytes_per_s == pytest.approx(23e6, rel=0.05)

    def test_the_send_buffer_is_learned_from_small_last_copies(self):
        # a small buffer: 31 ms at the same rate
        path, dummy = taught(15, downtime_ms=31, last_bytes=200_000, bytes_per_s=23.94e6)
        found = link_of(path)
        assert found.queue_bytes == pytest.approx(0.021 * 23.94e6, rel=0.15)
        assert found.fixed_s == LINK.fixed_s

    def test_the_fixed_part_is_learned_from_large_ones(self):
        path, dummy = taught(15, downtime_ms=330, last_bytes=6.9e6, bytes_per_s=23.94e6)
        assert link_of(path).fixed_s == pytest.approx(0.330 - 6.9e6 / 23.94e6, rel=0.15)

    def test_the_fixed_part_takes_what_a_sure_forecast_was_off_by(self):
        path, dummy = learn(None, None, OUTCOME, LINK, {"downtime_ms": 111})
        assert link_of(path, 1e8).fixed_s == pytest.approx(LINK.fixed_s + 0.015)
        path, dummy = learn(None, None, {**OUTCOME, "verdict": "marginal"}, LINK, {"downtime_ms": 111})
        assert link_of(path, 1e8) == UNKNOWN
        path, dummy = taught(20, downtime_ms=1)
        assert link_of(path, 1e8).fixed_s == pytest.approx(0.0, abs=0.001)

    def test_overhead(self):
        path, dummy = taught(12, bytes=103e6, page_bytes=100e6, bytes_per_s=2e7)
        assert link_of(path).overhead == pytest.approx(0.03, rel=0.1)

    def test_the_first_move_tells_most_of_the_set_up(self):
        path, dummy = taught(1, first_byte_s=1.05, after_s=0.5)
        assert link_of(path, 1e8).before_s == pytest.approx(1.05, rel=0.2)
        assert link_of(path, 1e8).after_s == pytest.approx(0.5, rel=0.2)
        odd, dummy = taught(1, path, first_byte_s=20.0)
        back, dummy = taught(3, odd, first_byte_s=1.05)
        assert link_of(back, 1e8).before_s < 2

    def test_one_odd_move_spoils_nothing(self):
        path, dummy = taught(8, bytes_per_s=23e6)
        spoiled, dummy = taught(1, path, bytes_per_s=1e6)
        assert link_of(spoiled).bandwidth_bytes_per_s > 0.85 * 23e6

    def test_what_keeps_coming_is_believed(self):
        path, dummy = taught(8, bytes_per_s=23e6)
        upgraded, dummy = taught(25, path, bytes_per_s=230e6)
        assert link_of(upgraded).bandwidth_bytes_per_s == pytest.approx(230e6, rel=0.1)

    def test_a_link_that_varies_has_a_spread(self):
        path = None
        for rate in (10e6, 20e6, 12e6, 22e6, 9e6, 21e6):
            path, dummy = taught(1, path, bytes_per_s=rate)
        assert link_of(path).spread > 0.1


class TestGuest:
    def test_touched_memory(self):
        dummy, guest = taught(1, first_pass_bytes=120e6, forecast_first_pass_bytes=100e6)
        assert 1.0 < guest_factor(guest, "look") < 1.2

    def test_comes_to_what_is_sent_with_the_correction_in_the_forecast(self):
        path = guest = None
        for dummy in range(15):
            expected = 100e6 * guest_factor(guest, "look")
            path, guest = learn(
                path, guest, OUTCOME, LINK, {"first_pass_bytes": 125e6, "forecast_first_pass_bytes": expected}
            )
        assert guest_factor(guest, "look") == pytest.approx(1.25, rel=0.03)

    def test_all_bytes_stand_in_only_where_the_forecast_was_sure(self):
        dummy, guest = taught(1, bytes=99e6)
        assert 1.0 < guest_factor(guest, "look") <= 1.1
        dummy, guest = taught(3, outcome={**OUTCOME, "verdict": "marginal"}, bytes=500e6)
        assert guest_factor(guest, "look") == 1.0

    def test_what_was_looked_at_and_what_the_guest_tells_are_corrected_apart(self):
        guest = None
        for how, sent in (("look", 101e6), ("balloon", 80e6), ("rss", 80e6), ("look", 101e6)):
            figures = {"first_pass_bytes": sent, "forecast_first_pass_bytes": 100e6 * guest_factor(guest, how)}
            guest = learn(None, guest, OUTCOME, LINK, figures, touched_how=how)[1]
        assert guest_factor(guest, "look") == pytest.approx(1.0, abs=0.01)
        assert guest_factor(guest, "balloon") == guest_factor(guest, "memory") == pytest.approx(0.86, abs=0.04)

    def test_compression_is_between_what_is_sampled_and_what_moves_have_shown(self):
        guest = None
        for shown in (0.45, 0.47, 0.46):
            dummy, guest = learn(None, guest, OUTCOME, LINK, {"compressed_share": shown})
        assert compressed_share(guest, 0.60) == pytest.approx((0.60 + 2 * 0.46) / 3, abs=0.01)
        assert compressed_share(guest, 0.46) == pytest.approx(0.46, abs=0.01)
        assert compressed_share(None, 0.6) == compressed_share(new_guest(), 0.6) == 0.6

    def test_a_guest_with_other_contents_by_now_compresses_as_its_sample(self):
        dummy, guest = learn(None, None, OUTCOME, LINK, {"compressed_share": 0.2})
        assert compressed_share(guest, 0.9) == 0.9

    @pytest.mark.parametrize("odd", [-1.0, 7.0, float("nan"), "much", None])
    def test_a_share_that_cannot_be_true_is_not_learned(self, odd):
        dummy, guest = learn(None, None, OUTCOME, LINK, {"compressed_share": odd})
        assert compressed_share(guest, 0.6) == 0.6

    def test_nothing_learned(self):
        assert guest_factor(None, "look") == guest_factor(new_guest(), "look") == 1.0


NUMBERS = st.one_of(st.none(), st.floats(), st.integers(), st.booleans(), st.text(max_size=3))
NAMES = ("bytes_per_s", "first_byte_s", "after_s", "downtime_ms", "last_bytes", "first_pass_bytes", "bytes",
         "forecast_first_pass_bytes", "page_bytes")  # fmt: skip


class TestAnything:
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(st.dictionaries(st.sampled_from(NAMES), NUMBERS), max_size=4))
    def test_stays_in_bounds_and_plain(self, moves):
        path = guest = None
        for actual in moves:
            path, guest = learn(path, guest, OUTCOME, LINK, actual)
        for state in (path, guest):
            assert json.loads(json.dumps(state, allow_nan=False)) == state
            for name, entry in (state or {}).get("learned", {}).items():
                assert BOUNDS[name][0] <= entry["mean"] <= BOUNDS[name][1]
        link_of(path, 1e8)
        guest_factor(guest, "look")

    @pytest.mark.parametrize(
        "broken",
        [{}, {"learned": None}, {"learned": []}, {"learned": {"before_s": 3}}, {"learned": {"before_s": {"mean": "x"}}},
         {"learned": {"bandwidth_bytes_per_s": {"mean": -1, "deviation": None}}},
         {"learned": {"before_s": {"mean": float("nan")}}}],
    )  # fmt: skip
    def test_a_broken_state_is_passed_over(self, broken):
        assert link_of(broken, 1e8) == UNKNOWN
        assert guest_factor(broken, "look") == 1.0
        path, dummy = learn(broken, broken, OUTCOME, LINK, {"first_byte_s": 0.3})
        assert 0.25 < link_of(path, 1e8).before_s < 0.3

    def test_what_was_given_is_left_alone(self):
        path, guest = new_path(), new_guest()
        learn(path, guest, OUTCOME, LINK, {"bytes_per_s": 1e7, "bytes": 99e6})
        assert (path, guest) == (new_path(), new_guest())

    def test_size_is_bounded(self):
        path, guest = taught(
            50, bytes_per_s=2e7, first_byte_s=0.2, after_s=0.2, downtime_ms=90, last_bytes=0, bytes=9e7
        )
        assert len(json.dumps([path, guest])) < 2000
