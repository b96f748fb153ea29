# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the results that a run reports, corrected by what all libvirtds show afterwards.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Plan,
    Snapshot,
    Step,
    is_off,
    plain_state,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, judge
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result

Result = t.Mapping[str, t.Any]
Snapshots = t.Mapping[str, Snapshot]

#: Outcomes that say where a guest is, and so can be wrong.
ARRIVED = ("moved", "already_there")


def verified(plan: Plan, results: t.Iterable[Result], snapshots: Snapshots) -> list[Result]:
    """Return the results of all steps, corrected by where each guest runs now.

    A run may have moved more than it reports, or less. A guest that is active on two hosts, on none, or on a host that
    does not answer is unclear.

    Args:
        plan: what was to be done.
        results: what the source hosts reported, as far as they did.
        snapshots: all hosts that answered afterwards.
    """
    by_step = {result["step"]: result for result in results}
    return [_checked(step, by_step.get(step["id"]), snapshots) for step in plan["steps"]]


def left_on(hosts: t.Iterable[str], snapshots: Snapshots) -> dict[str, list[str]]:
    """Names of the guests that are still active on these hosts, by host; a host that did not answer is missing."""
    return {
        host: sorted(d["name"] for d in snapshots[host].get("domains") or [] if not is_off(d))
        for host in hosts
        if host in snapshots
    }


def newcomers(plan: Plan, snapshots: Snapshots) -> list[str]:
    """Return sentences about guests that run on a host that should be empty and are not in the plan."""
    if plan["goal"]["kind"] not in ("drain", "evacuate"):
        return []
    known = {item["guest"]["uuid"] for item in [*plan["steps"], *plan["stays"]]}
    return [
        f"{domain['name']} came to {host} after the plan was made, and runs there."
        for host in plan["goal"]["hosts"]
        for domain in (snapshots.get(host) or {}).get("domains") or []
        if not is_off(domain) and domain["uuid"] not in known
    ]


def _checked(step: Step, result: Result | None, snapshots: Snapshots) -> Result:
    result = result or step_result(step, "not_started")
    active = _where(step["guest"]["uuid"], snapshots)
    source, destination = step["source"], step["destination"]
    if len(active) > 1:
        return _unclear(result, f"it is active on {' and '.join(sorted(active))}")
    if list(active) == [destination]:
        if result["outcome"] in ARRIVED:
            return _running(result, destination, active[destination])
        if source in snapshots:
            return _running({**result, "outcome": "moved"}, destination, active[destination])
        return _unclear(result, f"it is {active[destination]} on {destination}, and {source} does not answer")
    if result["outcome"] in ARRIVED:
        return _lost(result, active, snapshots)
    if result["outcome"] == "lost" and not {source, destination}.intersection(active) and active:
        # Whoever starts it anew, as the result says, would start it twice.
        return _unclear(result, f"it is active on {next(iter(active))}: start it nowhere else")
    if active:
        stayed = list(active) == [source] and result["outcome"] == "unclear" and destination in snapshots
        return _stayed(result, source, active[source]) if stayed else result
    return _nowhere(step, result, snapshots)


def _nowhere(step: Step, result: Result, snapshots: Snapshots) -> Result:
    """The result of a guest that is active on no host that answers."""
    source, destination = step["source"], step["destination"]
    if source not in snapshots or result["outcome"] == "lost":
        return result
    off = _off(step, result, snapshots) if destination in snapshots else None
    if off is not None or result["outcome"] == "off":
        return off or result
    return _unclear(result, f"it is active neither on {source} nor on any other host that answers")


def _off(step: Step, result: Result, snapshots: Snapshots) -> Result | None:
    """The result of a guest that is off where it was, as when its host was rebooted; None for a guest that is not."""
    source, uuid = step["source"], step["guest"]["uuid"]
    domains = snapshots[source].get("domains") or []
    domain = next((one for one in domains if one["uuid"] == uuid and is_off(one)), None)
    if domain is None:
        return None
    side = Side(source, True, "shutoff", str(domain.get("state_reason") or "unknown"), bool(domain.get("persistent")))
    verdict = judge(step["guest"]["name"], side, Side(step["destination"], True))
    if verdict.kind != "off":
        return None
    if side.shut_down:
        # Nothing is to be done about that.
        return {**result, "outcome": "off", "error": None, "notes": [*(result.get("notes") or []), verdict.reason]}
    return {**result, "outcome": "off", "error": f"{verdict.reason}: {verdict.remedy}"}


def _running(result: Result, host: str, state: str) -> Result:
    if state == "running":
        return result
    return _unclear(result, f"it is {state} on {host}")


def _stayed(result: Result, host: str, state: str) -> Result:
    """Nobody but the source has it: running there, it has simply not moved."""
    return {**result, "outcome": "failed"} if state == "running" else _unclear(result, f"it is {state} on {host}")


def _lost(result: Result, active: t.Mapping[str, str], snapshots: Snapshots) -> Result:
    destination = result["destination"]
    if active:
        return _unclear(result, f"it was moved to {destination} and is now on {next(iter(active))}")
    if destination not in snapshots:
        return _unclear(result, f"it was moved to {destination}, which does not answer")
    return _unclear(result, f"it was moved to {destination} and is not active there any more")


def _unclear(result: Result, why: str) -> Result:
    error = f"{result['error'].rstrip('.')}; {why}" if result.get("error") else why
    return {**result, "outcome": "unclear", "error": error}


def _where(uuid: str, snapshots: Snapshots) -> dict[str, str]:
    """Hosts on which the guest is active, and its state there."""
    return {
        host: "migrating" if domain.get("job") else plain_state(domain)
        for host, snapshot in snapshots.items()
        for domain in snapshot.get("domains") or []
        if domain["uuid"] == uuid and not is_off(domain)
    }
