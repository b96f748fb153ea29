# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Find the hosts that want a guest back, from the reports of earlier runs."""

from __future__ import annotations

import typing as t

#: Goals that send guests away for a while: the hosts that they name get theirs back.
SENT_AWAY = ("drain", "evacuate", "upgrade")

#: Outcomes after which a guest may be where it was sent.
LEFT = ("moved", "already_there", "unclear")

Report = t.Mapping[str, t.Any]
Claims = dict[str, list[str]]


def claims(reports: t.Iterable[Report]) -> Claims:
    """Return for each guest the hosts that want it back, by UUID; the first that it was sent away from comes first.

    Only a host that a run was to empty wants back what that run took from it. A guest that was sent on from host to
    host belongs to the first. A host does not want it any more once it came back there, or was sent there; and no host
    does once a rebalance has placed it.

    Args:
        reports: reports, or runs as L(as_report) gives them, in any order.
    """
    found: Claims = {}
    for report in sorted(reports, key=lambda report: str(report["started_at"] or "")):
        kind, hosts = report["goal"]["kind"], report["goal"]["hosts"]
        for row in report["guests"]:
            if row["outcome"] in LEFT:
                found[row["uuid"]] = _after(found.get(row["uuid"], []), kind, hosts, row)
        if kind == "restore":
            _settle(found, hosts, report)
    return {uuid: hosts for uuid, hosts in found.items() if hosts}


def _after(wanted_by: list[str], kind: str, hosts: t.Sequence[str], row: t.Mapping[str, t.Any]) -> list[str]:
    """Who wants a guest after one more move."""
    source, destination = row["source"], row["destination"]
    if kind == "rebalance":
        return []
    wanted_by = _up_to(wanted_by, destination)
    if kind in SENT_AWAY and source in hosts:
        return [*_up_to(wanted_by, source), source]
    return wanted_by


def _up_to(wanted_by: list[str], host: str) -> list[str]:
    return wanted_by[: wanted_by.index(host)] if host in wanted_by else wanted_by


def _settle(found: Claims, homes: t.Sequence[str], report: Report) -> None:
    """Take off the claims that a restore has met, except for guests that it says it left away."""
    away: dict[str, str | None] = {
        row["uuid"]: row["destination"] for row in report["guests"] if row["outcome"] not in ("moved", "already_there")
    }
    away.update({stay["guest"]["uuid"]: None for stay in report["stays"]})
    for uuid in set(found) - set(away):
        found[uuid] = [host for host in found[uuid] if host not in homes]
    for uuid, destination in away.items():
        # A guest may wait elsewhere for its home to have room, so only of one home it is clear which it is.
        home = homes[0] if len(homes) == 1 else destination
        if home is not None and home in homes and home not in found.get(uuid, ()):
            found[uuid] = [*found.get(uuid, []), home]


def as_report(run: t.Mapping[str, t.Any]) -> Report:
    """Return a run from its source host's record (run/past_runs.py) in the form of a report.

    A guest that was to leave for a while counts as possibly moved if the record does not say so.
    """
    unknown = "unclear" if run["goal"]["kind"] in SENT_AWAY else "not_started"
    rows = [
        {
            "uuid": step["guest"]["uuid"],
            "source": step["source"],
            "destination": step["destination"],
            "outcome": "moved" if step.get("moved_at") else unknown,
        }
        for step in run["steps"]
    ]
    return {"plan": run["plan"], "goal": run["goal"], "started_at": run["started_at"], "guests": rows, "stays": []}


def without_reported(runs: t.Iterable[t.Mapping[str, t.Any]], reports: t.Iterable[Report]) -> list[Report]:
    """Return runs that no report contains, as reports."""
    told = {report.get("plan") for report in reports}
    return [as_report(run) for run in runs if run.get("goal") and run["plan"] not in told]
