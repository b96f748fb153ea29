# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The order in which the sources of one plan take turns.

Each source carries out its own steps, and no process coordinates them. So each computes the same order from the plan.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Plan, Step


def ranks(plan: Plan, host: str) -> dict[str, int]:
    """By destination, how many sources come before this host when several want to send there at the same moment.

    The order is that in which the plan's steps first name them, so all sources find the same.
    """
    found: dict[str, int] = {}
    for destination in {step["destination"] for step in plan["steps"] if step["source"] == host}:
        sources = [step["source"] for step in plan["steps"] if step["destination"] == destination]
        found[destination] = list(dict.fromkeys(sources)).index(host)
    return found


def awaited(plan: Plan, step: Step) -> list[dict[str, t.Any]]:
    """The steps of other sources that a step waits for; those of its own source, its run sees ending.

    Only of those that stand before it: so no two sources ever wait for each other. Each has ``arrivals`` besides: the
    hosts on which its guest may be found once it is over. A guest that was only parked there may have gone on long
    before the waiting step's turn comes.
    """
    before = [one["id"] for one in plan["steps"]].index(step["id"])
    after = set(step["after"])
    return [
        {**one, "arrivals": _arrivals(plan, number)}
        for number, one in enumerate(plan["steps"][:before])
        if one["id"] in after and one["source"] != step["source"]
    ]


def _arrivals(plan: Plan, number: int) -> list[str]:
    """Where a step takes its guest and where later ones do, but for hosts on which it was before: seen there, it may as
    well not have moved yet."""
    uuid, destination = plan["steps"][number]["guest"]["uuid"], plan["steps"][number]["destination"]
    earlier = {one["source"] for one in plan["steps"][: number + 1] if one["guest"]["uuid"] == uuid}
    later = [one["destination"] for one in plan["steps"][number + 1 :] if one["guest"]["uuid"] == uuid]
    return list(dict.fromkeys([destination, *(host for host in later if host not in earlier)]))
