# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a plan says of guests that may go by post-copy only where it could be resumed."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Placement
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.available_methods import not_recoverable


def postcopy_remarks(constraints: Constraints, placement: Placement) -> list[Refusal]:
    """Return a remark for each pair of hosts between which no guest goes by post-copy, although it is permitted."""
    found: dict[tuple[str, str], Refusal] = {}
    for step in placement.steps:
        ends = (step["source"], step["destination"])
        if step["intent"]["allow_postcopy"] != intents.RECOVERABLE or ends in found:
            continue
        why = not_recoverable(*(constraints.snapshots[end] for end in ends))
        if why:
            source, destination = ends
            told = f"no guest goes from {source} to {destination} by post-copy, as it could not be resumed there"
            found[ends] = refusal(why["code"], f"{told}: {why['reason']}", why["remedy"])
    return [found[ends] for ends in sorted(found)]
