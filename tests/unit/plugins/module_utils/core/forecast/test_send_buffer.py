# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.send_buffer import (
    LEAST_BYTES,
    REFILL_S,
    UNKNOWN_LINK_BYTES,
    advise,
    can_limit,
    host_limit,
    limit_bytes,
    most_bytes,
    queue_bytes,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import normalise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge, appraise
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, snapshot

WMEM = "4096 16384 4194304"
RATES = st.floats(1e4, 1e11)


def test_at_200_mbit_the_floor_is_the_measured_one_and_the_limit_takes_most_of_it():
    advice = advise(23.9e6, WMEM, "4294967295")

    # 82 ms (78-105) was measured with a limit of 5 ms, docs of Link; 16 ms are device state and 128 KiB.
    assert advice.now_ms == pytest.approx(81, abs=1)
    assert advice.limit_bytes == 128 * 1024
    assert 10 < advice.then_ms < 25
    assert advice.saving_ms == advice.now_ms - advice.then_ms


@pytest.mark.parametrize(("bandwidth", "limit"), [(1e6, 32), (6e6, 32), (23.9e6, 128), (119e6, 512), (1.19e9, 8192)])
def test_the_limit_grows_with_the_link(bandwidth, limit):
    assert limit_bytes(bandwidth) == limit * 1024


@given(RATES)
def test_a_limit_is_a_power_of_two_that_keeps_the_link_full_and_is_no_larger_than_needed(bandwidth):
    limit = limit_bytes(bandwidth)

    assert limit & (limit - 1) == 0
    assert limit >= max(LEAST_BYTES, bandwidth * REFILL_S * 0.999)
    assert limit <= max(LEAST_BYTES, 2 * bandwidth * REFILL_S)


@pytest.mark.parametrize("bandwidth", [0, -1, float("inf"), float("nan")])
def test_a_bandwidth_that_cannot_be_is_an_error(bandwidth):
    with pytest.raises(ValueError, match="bandwidth"):
        limit_bytes(bandwidth)


def test_a_round_trip_that_cannot_be_is_an_error():
    with pytest.raises(ValueError, match="round trip"):
        queue_bytes(WMEM, limit=131072, bandwidth_bytes_per_s=1e6, rtt_s=-1)


def test_without_a_bandwidth_nothing_is_recommended():
    advice = advise(None, WMEM)

    assert (advice.now_bytes, advice.now_ms, advice.limit_bytes, advice.saving_ms) == (1_700_000, None, None, 0.0)
    assert "not known" in advice.sentence


@given(RATES, st.none() | st.integers(0, 10**9), st.integers(1, 2**24))
def test_advice_never_makes_it_worse(bandwidth, learned, most):
    advice = advise(bandwidth, f"4096 16384 {most}", learned_bytes=learned)

    assert advice.now_bytes <= most
    assert advice.saving_ms >= 0
    assert (advice.limit_bytes is None) == (advice.saving_ms == 0.0)


def test_a_long_path_keeps_what_is_under_way():
    near = queue_bytes(WMEM, limit=131072, bandwidth_bytes_per_s=23.9e6, rtt_s=0.001)
    far = queue_bytes(WMEM, limit=131072, bandwidth_bytes_per_s=23.9e6, rtt_s=0.05)

    assert (near, far) == (131072 + 23900, 131072 + 1195000)


def test_what_moves_have_shown_is_bounded_by_the_buffer_and_by_the_limit():
    assert queue_bytes(WMEM, learned_bytes=2_500_000) == 2_500_000
    assert queue_bytes("4096 16384 131072", learned_bytes=2_500_000) == 131072
    assert queue_bytes(None, learned_bytes=2_500_000) == 2_500_000
    assert queue_bytes(WMEM, learned_bytes=2_500_000, limit=65536) == 65536
    assert queue_bytes(WMEM, learned_bytes=1000, limit=65536) == 1000


@pytest.mark.parametrize(
    ("text", "most"), [(WMEM, 4194304), (None, None), ("", None), ("4096 16384", None), ("a b c", None)]
)
def test_a_buffer_that_is_no_triple_bounds_nothing(text, most):
    assert most_bytes(text) == most


@pytest.mark.parametrize(
    ("text", "limit"), [("131072", 131072), ("4294967295", None), ("0", None), (None, None), ("-1", None), ("x", None)]
)
def test_a_host_that_limits_nothing_is_told_from_one_that_does(text, limit):
    assert host_limit(text) == limit


@pytest.mark.parametrize(
    ("kernel", "able"),
    [
        ("6.12.48-amd64", True),
        ("5.6.0", True),
        ("5.5.19", False),
        ("4.18.0-553.el8", False),
        ("x", False),
        (None, False),
    ],
)
def test_old_kernels_let_nobody_reach_a_connection(kernel, able):
    assert can_limit(kernel) is able


def appraised(**known):
    source = snapshot("h1", domain("web1"), sysctls={"net.ipv4.tcp_wmem": WMEM})
    return appraise(source["domains"][0], source, snapshot("h2"), normalise({}), Knowledge(**known))


def test_a_move_is_forecast_with_what_then_waits():
    as_it_is, tuned = (appraised(stated_bytes_per_s=23.9e6, tuned=tuned) for tuned in (False, True))

    assert (as_it_is.unsent_limit, tuned.unsent_limit) == (None, 128 * 1024)
    assert (as_it_is.link.queue_bytes, tuned.link.queue_bytes) == (1_700_000, 131072 + 23_900)


@pytest.mark.parametrize(("tuned", "limit"), [(True, UNKNOWN_LINK_BYTES), (False, None)])
def test_over_a_link_that_nobody_knows_a_permitted_limit_is_the_usual_one(tuned, limit):
    assert (appraised(tuned=tuned).link, appraised(tuned=tuned).unsent_limit) == (None, limit)
