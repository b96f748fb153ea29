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
    """Return by destination how many sources send before this host, if several want to send there at once.

    The order is that in which the steps of the plan first name the sources, so all sources compute the same.
    """
    found: dict[str, int] = {}
    for destination in {step["destination"] for step in plan["steps"] if step["source"] == host}:
        sources = [step["source"] for step in plan["steps"] if step["destination"] == destination]
        found[destination] = list(dict.fromkeys(sources)).index(host)
    return found


def awaited(plan: Plan, step: Step) -> list[dict[str, t.Any]]:
    """Return the steps of other sources that a step waits for. Steps of its own source are its run's affair.

    Only steps before it in the plan count, so no two sources wait for each other. Each has ``arrivals``: the hosts on
    which its guest may be once the step is over. A guest that was only parked may have moved on long before.
    """
    before = [one["id"] for one in plan["steps"]].index(step["id"])
    after = set(step["after"])
    return [
        {**one, "arrivals": _arrivals(plan, number)}
        for number, one in enumerate(plan["steps"][:before])
        if one["id"] in after and one["source"] != step["source"]
    ]


def _arrivals(plan: Plan, number: int) -> list[str]:
    """Return where a step and later steps take its guest, without the hosts on which it was before."""
    uuid, destination = plan["steps"][number]["guest"]["uuid"], plan["steps"][number]["destination"]
    earlier = {one["source"] for one in plan["steps"][: number + 1] if one["guest"]["uuid"] == uuid}
    later = [one["destination"] for one in plan["steps"][number + 1 :] if one["guest"]["uuid"] == uuid]
    return list(dict.fromkeys([destination, *(host for host in later if host not in earlier)]))
