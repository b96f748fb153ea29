# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.bit_rate import RateError, bytes_per_s, human_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [("384kbit", 48_000), ("2mbit", 250_000), (" 20 Mbit/s ", 2.5e6), ("1.5gbit", 187.5e6), ("300bit", 37.5)],
)
def test_a_rate_is_bits_in_a_second(text, rate):
    assert bytes_per_s(text) == rate


@pytest.mark.parametrize(
    "text", ["", "384", "384kB", "-1kbit", "kbit", "1e3kbit", "384kbit\n384kbit", "9" * 99 + "bit"]
)
def test_what_is_no_rate_is_refused_with_an_example(text):
    with pytest.raises(RateError) as error:
        bytes_per_s(text)
    assert error.value.refusal == {
        "code": "bad_rate",
        "reason": f"rate is {text[:40]!r}, which is no rate",
        "remedy": "set rate to bits in a second, such as 384kbit, 2mbit or 1gbit",
    }


def test_a_rate_that_is_too_low_to_be_meant_is_refused():
    with pytest.raises(RateError, match=r"^fill_rate is '0kbit', which is less than 300bit; set fill_rate to what"):
        bytes_per_s("0kbit", "fill_rate")


def test_a_rate_is_shown_in_the_units_of_the_option():
    assert [human_rate(rate) for rate in (48_000, 2_390_000, 12)] == ["384 kbit/s", "19.1 Mbit/s", "96 bit/s"]
