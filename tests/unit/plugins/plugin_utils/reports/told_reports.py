# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole reports, with all that hosts tell of a run, for the tests of pages and files."""

from __future__ import annotations

import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import expectation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import report, step_record
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.host_change import host_changes
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    GIB,
    MIB,
    choice,
    cluster,
    domain,
    plan_document,
    snapshot,
    step_result,
    working_set,
)

BEGAN = datetime.datetime(2026, 11, 24, 2, 0, 0, tzinfo=datetime.UTC)
#: What nobody calls a guest by accident.
HOSTILE = (
    "<script>document.title = 'taken'</script>",
    '"><img src=x onerror="document.title=\'taken\'">',
    "</title></style></svg><h1 id=main onclick=alert(1)>",
    "x]]><!--",
    "a|b|c",
    "@all",
    '=HYPERLINK("http://evil.example/")',
    "+1+cmd|' /C calc'!A0",
    "-2",
    "\x1b]0;title\x07\x1b[2Jred",
    "\u202egnp.exe",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)//&quot;&lt;",
    "n" * 300,
    "größe-データ-🐧",
)
REFUSAL = {"code": "hostdev", "reason": "PCI device 0000:3b:00.0 is passed through", "remedy": "virsh detach-device it"}


def at(seconds: float) -> str:
    """A time of the run."""
    moment = BEGAN + datetime.timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def events(start: float, end: float, method: str = "pre-copy") -> list[dict[str, t.Any]]:
    """What a source has recorded of one move."""
    middle = (start + end) / 2

    def event(seconds: float, name: str, **data: t.Any) -> dict[str, t.Any]:
        return {"at": at(seconds), "event": name, "data": data}

    told = [
        event(start - 0.4, "step.started"),
        event(start, "migration.started", destination="h2", strategy=method),
        *(
            event(start + number / 2, "migration.iteration", at_s=number / 2, iteration=number + 1,
                  remaining_bytes=32 * MIB // number, processed_bytes=64 * MIB, bytes_per_s=23000000)
            for number in (1, 2, 3)
        ),
        event(middle, "migration.decision", action="raise_downtime", reason="the rounds do not become smaller"),
    ]  # fmt: skip
    if method == "post-copy":
        told.append(event(middle, "migration.decision", action="start_postcopy", reason="one pass is done"))
    return [
        *told,
        event(end - 0.3, "migration.switchover"),
        event(end - 0.1, "step.verified", verdict="moved"),
        event(end, "step.finished"),
    ]


def told_plan(names: t.Sequence[str], seconds: float = 4.0) -> dict[str, t.Any]:
    """A drain of guests with these names, with forecasts; the last one has to stay."""
    going = [{**domain(f"guest{number}"), "name": name} for number, name in enumerate(names)]
    plan = plan_document(cluster(snapshot("h1", *going, free_bytes=8 * GIB), snapshot("h2", free_bytes=4096 * GIB)))
    forecast = choice(bandwidth_bytes_per_s=23900000, why_not={"post-copy": "allow_postcopy is off"})
    for step in plan["steps"]:
        step.update(strategy="pre-copy", forecast=forecast)
    plan["expected"] = expectation(plan["steps"], {})
    plan["expected"]["steps"] = {
        step["id"]: {"start_s": number * seconds, "end_s": (number + 1) * seconds}
        for number, step in enumerate(plan["steps"])
    }
    plan["expected"]["seconds"] = len(plan["steps"]) * seconds
    return plan


def measured(plan: dict[str, t.Any]) -> dict[str, t.Any]:
    """What was measured of the guests of a plan, by UUID."""
    return {step["guest"]["uuid"]: working_set(step["guest"] | {"memory_bytes": 512 * MIB}) for step in plan["steps"]}


def told_report(names: t.Sequence[str], failing: t.Container[int] = (), seconds: float = 4.0) -> dict[str, t.Any]:
    """The report on a drain.

    Args:
        names: of the guests.
        failing: numbers of those that did not move.
        seconds: that each move takes.
    """
    plan = told_plan(names, seconds)
    results, records = [], {}
    for number, step in enumerate(plan["steps"]):
        start = number * (seconds + 1) + 0.5
        records[step["id"]] = step_record.record_of(
            events(start, start + seconds, "post-copy" if number % 3 == 2 else "pre-copy")
        )
        failed = number in failing
        changes: dict[str, t.Any] = {"error": f"libvirt says no to {step['guest']['name']}"} if failed else {}
        changes |= {"started_at": at(start), "finished_at": at(start + seconds), "total_s": seconds}
        changes |= {"downtime_ms": None if failed else 80 + 300 * (number % 2)}
        results.append(step_result(step, "failed" if failed else "moved", **changes))
    plan["stays"] = [{"guest": {"name": names[0], "uuid": "u"}, "host": "h1", "refusals": [REFUSAL]}]
    made = report.join(
        plan,
        {"h1": results},
        started_at=at(0),
        finished_at=at(len(names) * (seconds + 1)),
        records=records,
        working_sets=measured(plan),
    )
    before = cluster(snapshot("h1", *(domain(name, cpus_used=0.4) for name in names)), snapshot("h2"))
    made["hosts"] = [
        {**change, "connect_uri": f"qemu+ssh://root@{change['host']}/system"}
        for change in host_changes(("h1", "h2"), before, {"h2": snapshot("h2", *map(domain, names))})
    ]
    made["again"] = "ansible-playbook kvmops.cluster.drain_host -e drain_host_name=h1"
    return made
