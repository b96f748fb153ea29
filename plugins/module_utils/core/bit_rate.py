# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Rates of links as operators write them: C(384kbit), C(2mbit), C(1.5gbit)."""

from __future__ import annotations

import re

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

#: Bits in a second. They are decimal, as those of all links.
_UNITS = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
_RATE = re.compile(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*([kmg]?bit)(?:/s)?\s*", re.IGNORECASE)
#: Slower than a modem of 1962 is a mistake in the unit.
LEAST_BIT_S = 300


class RateError(ValueError):
    """A text is no rate; C(refusal) says so."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(f"{why['reason']}; {why['remedy']}")
        self.refusal = why


def bytes_per_s(text: str, option: str = "rate") -> float:
    """The bytes in a second that a rate stands for.

    Args:
        text: the rate.
        option: whose value it is, for the message.

    Raises:
        RateError: it is no rate, or is too low to be meant.

    >>> bytes_per_s("384kbit"), bytes_per_s("2 Mbit/s"), bytes_per_s("1.5gbit")
    (48000.0, 250000.0, 187500000.0)
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise RateError(
            refusal(
                "bad_rate",
                f"{option} is {text[:40]!r}, which is no rate",
                f"set {option} to bits in a second, such as 384kbit, 2mbit or 1gbit",
            )
        )
    rate = float(match.group(1)) * _UNITS[match.group(2).lower()]
    if rate < LEAST_BIT_S:
        raise RateError(
            refusal(
                "bad_rate",
                f"{option} is {text[:40]!r}, which is less than {LEAST_BIT_S}bit",
                f"set {option} to what the link may carry, such as 384kbit; leave it out for no limit",
            )
        )
    return rate / 8


def human_rate(rate_bytes_per_s: float) -> str:
    """A rate as people read it, in the units of the option.

    >>> human_rate(48000), human_rate(250000), human_rate(10), human_rate(1.25e8)
    ('384 kbit/s', '2 Mbit/s', '80 bit/s', '1 Gbit/s')
    """
    value, unit = rate_bytes_per_s * 8, "bit/s"
    for larger in ("kbit/s", "Mbit/s", "Gbit/s"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"
