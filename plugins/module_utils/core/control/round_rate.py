# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The rate of each round by the rule of Clark et al.: no round is sent faster than the guest's dirty rate asks for."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.job_state import ATTEMPTS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.rounds import Sync
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import mib
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.rate_rule import next_rate_mib_s
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds

#: A rate that differs by less than this share is not worth a call.
LEAST_CHANGE = 0.1


class RoundRate:
    """The cap on the rate of one migration, round by round.

    Args:
        rate_rule: floor and ceiling in MiB/s; None: the rate is left as it is.
    """

    def __init__(self, rate_rule: tuple[int, int] | None) -> None:
        self._rate_rule = rate_rule
        self._rate_mib_s: int | None = None
        self._failures = 0

    @property
    def is_active(self) -> bool:
        """Whether rounds still get a rate by the rule."""
        return self._rate_rule is not None

    @property
    def may_rise(self) -> bool:
        """Whether the next round may be faster than this one."""
        return bool(self._rate_rule and self._rate_mib_s and self._rate_mib_s < self._rate_rule[1])

    def first(self) -> Reaction | None:
        """The floor, where no rate has been set."""
        if not self._rate_rule or self._rate_mib_s is not None or not self._can_change():
            return None
        return self._change(self._rate_rule[0], "the first round is sent at the floor of")

    def next(self, sync: Sync) -> Reaction | None:
        """The rate of the round that begins."""
        if not self._rate_rule or not self._can_change():
            return None
        floor, ceiling = self._rate_rule
        wanted = next_rate_mib_s(sync.new_bytes, sync.seconds, floor, ceiling)
        if self._rate_mib_s and abs(wanted - self._rate_mib_s) < LEAST_CHANGE * self._rate_mib_s:
            return None
        dirtied = f"{mib(sync.new_bytes)} were dirtied in {human_seconds(sync.seconds)}"
        return self._change(wanted, f"{dirtied}; the next round is sent at")

    def stay_at_ceiling(self) -> Reaction | None:
        """From here on the rate stays at its ceiling, and the migration is judged as any other."""
        if not self._rate_rule or not self._can_change():
            return None
        ceiling, self._rate_rule = self._rate_rule[1], None
        return self._change(ceiling, "further rounds gain nothing; from now on the rate is the ceiling of")

    def before_suspend(self) -> Reaction | None:
        """The ceiling, before the guest is suspended: from then on it waits, so the link is not spared any longer."""
        rule, self._rate_rule = self._rate_rule, None
        if not rule or self._rate_mib_s == rule[1] or not self._can_change():
            return None
        return self._change(rule[1], "before the guest is stopped to finish, the rate is the ceiling of")

    def not_done(self) -> None:
        """The rate could not be changed."""
        self._failures += 1
        self._rate_mib_s = None

    def _can_change(self) -> bool:
        return self._failures < ATTEMPTS

    def _change(self, rate_mib_s: int, reason: str) -> Reaction:
        self._rate_mib_s = rate_mib_s
        return Reaction("change_speed", f"{reason} {rate_mib_s} MiB/s", speed_mib_s=rate_mib_s)
