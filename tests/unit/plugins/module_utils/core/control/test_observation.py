# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.observation import LEAST_SPAN_S, Observation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import Sample

MIB = 1024**2


def observed(*samples):
    """Of (seconds, iteration, remaining MiB, sent MiB)."""
    made = Observation()
    for at_s, iteration, remaining, sent in samples:
        made.add(Sample(at_s, iteration, remaining * MIB, sent * MIB, 0))
    return made


def test_a_migration_that_was_watched():
    made = observed((0.5, 1, 300, 6), (1.5, 1, 280, 26), (5.5, 2, 16, 106), (6.5, 3, 4, 126))
    assert made.bytes_per_s == pytest.approx(20 * MIB)
    assert made.first_byte_s == pytest.approx(0.2)
    assert (made.first_pass_bytes, made.last_bytes) == (106 * MIB, 4 * MIB)


def test_nothing_is_learned_from_nothing():
    made = observed()
    assert (made.bytes_per_s, made.first_byte_s, made.first_pass_bytes, made.last_bytes) == (None,) * 4


def test_the_first_bytes_that_were_seen_are_the_first_where_no_rate_is_known():
    one = observed((3.0, 1, 300, 6))
    assert (one.bytes_per_s, one.first_byte_s) == (None, 3.0)


def test_mirrored_disks_say_nothing_about_memory():
    made = observed((1.0, 0, 0, 0), (60.0, 0, 0, 0), (61.0, 1, 300, 5), (63.0, 1, 260, 45))
    assert made.bytes_per_s == pytest.approx(20 * MIB)
    assert made.first_byte_s == pytest.approx(60.75)


def test_the_first_byte_of_a_move_with_disks_is_one_of_its_disks():
    made = Observation()
    for at_s, sent in ((1.5, 4), (2.5, 24), (4.5, 64)):
        made.add(
            Sample(at_s, 0, 0, 0, 0, disk_remaining_bytes=MIB, disk_total_bytes=100 * MIB, disk_sent_bytes=sent * MIB)
        )
    made.add(Sample(5.0, 1, 300 * MIB, 5 * MIB, 0, disk_total_bytes=100 * MIB, disk_sent_bytes=66 * MIB))
    assert made.first_byte_s == pytest.approx(1.3)


@pytest.mark.parametrize(("span_s", "known"), [(LEAST_SPAN_S / 2, False), (LEAST_SPAN_S * 1.01, True)])
def test_a_moment_says_nothing_about_the_link(span_s, known):
    made = observed((1.0, 1, 300, 5), (1.0 + span_s, 1, 260, 45))
    assert (made.bytes_per_s is not None) == known
    assert made.first_byte_s == pytest.approx(0.899 if known else 1.0, abs=0.001)


def test_a_link_that_stood_still_has_no_first_byte():
    made = observed((1.0, 1, 300, 5), (9.0, 1, 300, 5))
    assert (made.bytes_per_s, made.first_byte_s) == (0.0, None)


def test_the_first_byte_is_not_before_the_call():
    assert observed((0.1, 1, 300, 90), (1.1, 1, 260, 100)).first_byte_s == 0.0


def test_rounds_that_were_missed_between_two_looks_are_passed_over():
    made = observed((0.5, 1, 300, 6), (5.5, 4, 7, 140), (5.6, 4, 2, 145))
    assert (made.first_pass_bytes, made.last_bytes) == (140 * MIB, 7 * MIB)
