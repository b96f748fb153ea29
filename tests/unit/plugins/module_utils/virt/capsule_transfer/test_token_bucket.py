# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.token_bucket import TokenBucket


def seconds_for(count, bucket, overhead=1.0):
    """Seconds of a clock that a test drives until so many bytes are sent."""
    bucket.overhead, now = overhead, 0.0
    while count > 0:
        now += bucket.wait_s(now)
        piece = min(count, bucket.piece_bytes)
        bucket.sent(piece, now)
        count -= piece
    return now + bucket.wait_s(now)


@pytest.mark.parametrize("rate", [100, 48_000, 2.5e6, 1e9])
def test_what_is_sent_keeps_to_the_rate(rate):
    assert seconds_for(rate * 20, TokenBucket(rate, 0.0)) == pytest.approx(20, abs=0.3)


def test_headers_count_as_well():
    assert seconds_for(480_000, TokenBucket(48_000, 0.0), overhead=1.1) == pytest.approx(11, abs=0.3)


def test_several_together_keep_to_the_rate_and_one_alone_may_have_all_of_it():
    first = TokenBucket(48_000, 0.0)
    second = first.beside()
    first.overhead, second.overhead = 1.1, 1.0
    now, sent = 0.0, 0.0
    while now < 20:
        for bucket in (first, second):
            now += bucket.wait_s(now)
            bucket.sent(bucket.piece_bytes, now)
            sent += bucket.piece_bytes * bucket.overhead
    assert sent == pytest.approx(20 * 48_000, rel=0.02)
    now += second.wait_s(now)
    assert seconds_for(480_000, second.beside()) - second.wait_s(now) == pytest.approx(now + 10, abs=0.3)


def test_a_pause_allows_little_to_be_made_up_for():
    bucket = TokenBucket(48_000, 0.0)
    bucket.sent(12_000, 100.0)
    assert bucket.wait_s(100.0) == 0.0
    bucket.sent(4_800, 100.0)
    assert bucket.wait_s(100.0) == pytest.approx(0.1)


def test_a_clock_that_steps_back_gives_no_tokens():
    bucket = TokenBucket(1000, 50.0)
    bucket.sent(1250, 50.0)
    assert bucket.wait_s(49.0) >= 1.0
    assert bucket.wait_s(50.0) == pytest.approx(1.0)


def test_without_a_rate_nothing_waits():
    bucket = TokenBucket(None, 0.0)
    bucket.sent(10**12, 0.0)
    assert bucket.wait_s(0.0) == 0.0


def test_a_rate_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^a rate is above 0, not 0$"):
        TokenBucket(0, 0.0)
