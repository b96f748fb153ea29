# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.curve import curve
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.curve_fit import Fit, fit
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.monotone_curve import monotone_concave
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import (
    MeasurementError,
    Point,
    Reading,
    point,
    points,
    sampled_pages,
    sampling_sd,
)

MIB = 1024**2
MEMORY = 384 * MIB


def answer(changed, window_s, samples_per_gib=512):
    """What QEMU says when so many of the sampled pages changed."""
    grain = MEMORY / sampled_pages(MEMORY, samples_per_gib)
    return Reading(window_s, int(changed * grain / MIB / window_s), samples_per_gib)


class TestReading:
    @pytest.mark.parametrize("changed", [0, 1, 5, 100, 192])
    def test_a_whole_second_of_libvirts_call_is_exact(self, changed):
        # one page of 192 stands for 2 MiB: rounding down to whole MiB/s loses nothing
        assert point([answer(changed, 1.0)], MEMORY).dirtied_bytes == changed * 2 * MIB

    def test_the_rounding_of_long_windows_does_not_bias(self):
        # every count of changed pages comes once: on average what is estimated is what was
        counts = range(193)
        estimates = [point([answer(count, 5.0)], MEMORY).dirtied_bytes for count in counts]
        assert sum(estimates) / len(estimates) == pytest.approx(96 * 2 * MIB, rel=0.005)

    @pytest.mark.parametrize("samples", [512, 4096, 16384])
    @pytest.mark.parametrize("window_s", [0.1, 0.3, 1.0, 2.0, 5.0, 30.0])
    def test_an_estimate_is_within_the_step_it_was_rounded_to(self, window_s, samples):
        for changed in (0, 3, 17, 120):
            truth = changed * MEMORY / sampled_pages(MEMORY, samples)
            found = point([answer(changed, window_s, samples)], MEMORY)
            assert abs(found.dirtied_bytes - truth) <= window_s * MIB

    def test_a_window_that_took_longer_than_known_falls_back_on_the_middle(self):
        found = point([Reading(1.0, 15)], MEMORY)  # no whole number of 2 MiB
        assert found.dirtied_bytes == 15.5 * MIB

    def test_nothing_changed_is_not_certainty(self):
        found = point([Reading(1.0, 0)], MEMORY)
        assert found.dirtied_bytes == 0
        assert found.sd_bytes > 0.5 * MIB

    @pytest.mark.parametrize(
        ("reading", "memory"),
        [(Reading(1.0, -1), MEMORY), (Reading(0.0, 1), MEMORY), (Reading(math.inf, 1), MEMORY), (Reading(1.0, 1), 0),
         (Reading(1.0, 1, 0), MEMORY)],
    )  # fmt: skip
    def test_what_cannot_be(self, reading, memory):
        with pytest.raises(MeasurementError):
            point([reading], memory)


class TestRepeats:
    def test_error_of_sampling(self):
        # 35 % of 16 MiB and 16 % of 64 MiB in 384 MiB at 512 a GiB
        assert sampling_sd(16 * MIB, MEMORY, 192) == pytest.approx(0.35 * 16 * MIB, rel=0.05)
        assert sampling_sd(64 * MIB, MEMORY, 192) == pytest.approx(0.16 * 64 * MIB, rel=0.05)

    def test_repeats_shrink_it_by_the_root(self):
        one = point([Reading(1.0, 16)], MEMORY).sd_bytes
        assert point([Reading(1.0, 16)] * 4, MEMORY).sd_bytes == pytest.approx(one / 2, rel=0.05)

    def test_a_guest_that_varies_is_less_sure_than_sampling_says(self):
        steady = point([Reading(1.0, 100)] * 4, MEMORY)
        varying = point([Reading(1.0, rate) for rate in (10, 190, 20, 180)], MEMORY)
        assert varying.sd_bytes > 2 * steady.sd_bytes

    def test_finer_readings_weigh_more(self):
        mixed = point([Reading(1.0, 10, 16384), Reading(1.0, 100, 512)], MEMORY)
        assert mixed.dirtied_bytes < 15 * MIB

    def test_windows_are_kept_apart_and_in_order(self):
        found = points([Reading(2.0, 8), Reading(1.0, 16), Reading(2.0, 8)], MEMORY)
        assert [(one.window_s, one.repeats) for one in found] == [(1.0, 1), (2.0, 2)]
        with pytest.raises(MeasurementError):
            point([Reading(2.0, 8), Reading(1.0, 16)], MEMORY)
        with pytest.raises(MeasurementError):
            point([], MEMORY)


NOISY = st.lists(
    st.tuples(st.floats(0.05, 10), st.floats(0, 1e9), st.floats(1e3, 1e8)), min_size=1, max_size=8
)  # fmt: skip


class TestConcave:
    @settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(NOISY)
    def test_is_a_possible_curve(self, noisy):
        windows = [sum(step for step, dummy, dummy2 in noisy[: place + 1]) for place in range(len(noisy))]
        found = monotone_concave(windows, [one[1] for one in noisy], [one[2] for one in noisy])
        spans = [b - a for a, b in zip([0.0, *windows], windows)]
        slopes = [(b - a) / span for a, b, span in zip([0.0, *found], found, spans)]
        assert all(slope >= -1e-6 for slope in slopes)
        assert all(b <= a * (1 + 1e-6) + 1e-3 for a, b in zip(slopes, slopes[1:]))

    def test_leaves_a_possible_curve_alone(self):
        assert monotone_concave([1, 2, 4], [10, 15, 20], [1, 1, 1]) == pytest.approx([10, 15, 20])

    def test_the_less_sure_point_gives_way(self):
        found = monotone_concave([1, 2], [10, 4], [0.1, 5])
        assert found == pytest.approx([10, 10], abs=0.01)

    def test_windows_must_increase(self):
        with pytest.raises(ValueError, match="increasing"):
            monotone_concave([1, 1], [1, 1], [1, 1])


def sampled(truth, windows, share=0.03):
    return [Point(window, truth(window), max(share * truth(window), 0.05 * MIB), 3) for window in windows]


WINDOWS = (0.1, 0.3, 1.0, 2.0, 5.0)


class TestFit:
    @pytest.mark.parametrize("shape", ["linear", "exponential"])
    @pytest.mark.parametrize(("hot", "fill", "cold"), [(64, 0.8, 0), (16, 0.4, 2), (150, 1.9, 0), (300, 0.5, 20)])
    def test_finds_what_made_the_points(self, shape, hot, fill, cold):
        truth = Fit(hot * MIB, fill, cold * MIB, 0.25 * MIB, shape)
        found = fit(sampled(truth.value, WINDOWS))
        assert found.misfit < 1
        assert found.hot_bytes == pytest.approx(hot * MIB, rel=0.12)
        for window in (0.06, 0.2, 0.7, 1.5, 4.0):
            assert found.value(window) == pytest.approx(truth.value(window), rel=0.15)

    def test_an_idle_guest_has_no_hot_set(self):
        found = fit(sampled(lambda window: 0.3 * MIB, WINDOWS))
        assert found.hot_bytes == 0
        assert found.fill_s == 0

    def test_windows_longer_than_the_fill_time_leave_it_open(self):
        found = fit(sampled(lambda window: 16 * MIB, (1.0, 2.0, 5.0)))
        assert found.hot_bytes == pytest.approx(16 * MIB, rel=0.05)
        assert found.fill_sd_s > 0.15 * found.fill_s
        assert found.fill_s < 1.1

    def test_is_deterministic_and_needs_two_windows(self):
        made = sampled(lambda window: 20 * MIB * window, WINDOWS)
        assert fit(made) == fit(list(made))
        assert fit(made[:1]) is None
        assert fit([]) is None


class TestCurve:
    MEASURED = tuple(sampled(Fit(64 * MIB, 0.8, 2 * MIB, 0.25 * MIB, "linear").value, WINDOWS))
    FOUND = curve(MEASURED, 220 * MIB, fit(MEASURED))

    def test_nothing_measured_may_be_anything(self):
        found = curve([], 100 * MIB)
        assert (found.low(1), found.value(1), found.high(1)) == (0, 50 * MIB, 100 * MIB)

    @settings(deadline=None)
    @given(st.floats(0, 100), st.floats(0, 100))
    def test_grows_with_the_window_within_its_band(self, one, other):
        found = self.FOUND
        early, late = sorted((one, other))
        for window in (early, late):
            assert 0 <= found.low(window) <= found.value(window) <= found.high(window) <= 220 * MIB
        assert found.value(early) <= found.value(late) + 1

    def test_left_of_the_first_point_lies_between_proportion_and_a_jump(self):
        measured = [Point(1.0, 16 * MIB, 1, 3), Point(2.0, 16 * MIB, 1, 3)]
        found = curve(measured, 100 * MIB, None)
        assert found.low(0.1) == pytest.approx(1.6 * MIB, rel=0.01)
        assert found.high(0.1) == pytest.approx(16 * MIB, rel=0.01)

    def test_right_of_the_last_point_lies_between_flat_and_the_last_slope(self):
        measured = [Point(1.0, 10 * MIB, 1, 3), Point(2.0, 20 * MIB, 1, 3)]
        found = curve(measured, 100 * MIB, None)
        assert found.low(4.0) == pytest.approx(20 * MIB, rel=0.01)
        assert found.high(4.0) == pytest.approx(40 * MIB, rel=0.01)
        assert found.high(400.0) == 100 * MIB

    def test_a_guest_that_is_no_two_populations_speaks_for_itself(self):
        measured = [Point(w, v * MIB, 0.01 * MIB, 3) for w, v in ((0.1, 10), (1, 20), (2, 30), (5, 31), (10, 60))]
        found = curve(measured, 100 * MIB, fit(measured))
        assert found.fit.misfit > 3
        assert found.value(1.0) == pytest.approx(20 * MIB, rel=0.05)
