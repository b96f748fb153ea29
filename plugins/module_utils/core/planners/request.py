# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the operator asks a plan for, and what planning gives back."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Off
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.rebalancing import USUAL_RULES, Rules
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import Planned
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.restore_claims import LeftGuest

#: Goals that end with empty hosts.
EMPTYING = ("drain", "evacuate")


class Request(t.NamedTuple):
    """What the operator asks for.

    Attributes:
        kind: one of ``GOALS``.
        hosts: to empty, to bring guests home to, to upgrade; of a rebalance those that take part (none: all).
        left: guests that left these hosts earlier (restore).
        spare: N+1 after the plan, or while the hosts of a wave are away (upgrade): off, warn or require.
        may_move_others: guests elsewhere may make room (drain, evacuate).
        at_once: hosts away at the same time (upgrade).
        rules: when and how far to rebalance.
        weights: of the score of a rebalance; None: the usual.
        resting: UUIDs of guests that moved a short while ago (rebalance).
    """

    kind: str
    hosts: t.Sequence[str] = ()
    left: t.Iterable[LeftGuest] = ()
    spare: str = "off"
    may_move_others: bool = True
    at_once: int = 1
    rules: Rules = USUAL_RULES
    weights: t.Mapping[str, float] | None = None
    in_cooldown: t.Collection[str] = ()


class Wave(t.NamedTuple):
    """Hosts of a rolling upgrade that are away at once, and the plan that empties them."""

    hosts: list[str]
    planned: Planned


class PlanningResult(t.NamedTuple):
    """A plan's content; of an upgrade its steps are those of the first of the ``waves``."""

    planned: Planned
    off: list[Off]
    waves: list[Wave]
