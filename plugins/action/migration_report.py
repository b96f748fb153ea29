# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
import time
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Plan, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean, visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.host_change import host_changes
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.report import goal_words, join
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_record import EVENTS, record_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import leaves_nothing_to_do
from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks import verification
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import report_files
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import registered_results
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import formats
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.commands import again
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.report_table import report_lines

#: Goals after which the hosts that they name are to run no guest.
TO_BE_EMPTY = ("drain", "evacuate")
#: Outcomes that fail a run even if it tries again who has not moved.
URGENT = ("unclear", "off", "lost")

Results = t.Mapping[str, t.Mapping[str, t.Any]]


class Told(t.NamedTuple):
    """What is told of a run beside its results.

    Attributes:
        events: that the sources have recorded, by step.
        working_sets: of guests, by UUID.
        before: snapshots of the hosts before the run.
    """

    events: t.Mapping[str, t.Any] = {}
    working_sets: t.Mapping[str, t.Any] = {}
    before: t.Mapping[str, Snapshot] = {}


class ActionModule(ControllerAction):
    """Holds what a run says against what the hosts show, and reports: a table, what to do now, and a file."""

    ARGUMENTS = {
        "plan": {"type": "dict", "required": True},
        "results_from": {"type": "str", "required": True},
        "snapshots_from": {"type": "list", "elements": "str", "required": True},
        "hosts": {"type": "list", "elements": "str"},
        "recorded_from": {"type": "str"},
        "before": {"type": "dict", "default": {}},
        "working_sets": {"type": "list", "elements": "dict", "default": []},
        "directory": {"type": "path"},
        "formats": {
            "type": "list",
            "elements": "str",
            "choices": ["json", "html", "markdown", "junit", "csv"],
            "default": ["json"],
        },
        "mode": {"type": "raw", "default": "0600"},
        "keep": {"type": "int", "default": 500},
        "keep_days": {"type": "float", "default": 365},
        "figures": {"type": "dict", "default": {}},
        "tolerant": {"type": "bool", "default": False},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Verify, join, write and show; fail when a guest is not where the plan wants it."""
        plan = _plan(arguments["plan"])
        hosts = arguments["hosts"] or variables["ansible_play_hosts_all"]
        applied = registered_results.results_of(variables["hostvars"], hosts, arguments["results_from"])
        seen = registered_results.results_of(variables["hostvars"], hosts, *arguments["snapshots_from"])
        snapshots = registered_results.snapshots(seen)

        report = report_of(plan, applied, snapshots, self._told(arguments, variables["hostvars"], hosts))
        if report["todo"]:
            report["again"] = again(plan["goal"], variables.get("ansible_inventory_sources") or ())
        if arguments["figures"]:
            report["figures"] = plain(arguments["figures"])
        left = verification.left_on(plan["goal"]["hosts"], snapshots)
        # What became of the guests is told whether or not there is room for a file.
        _show(plan, report, left)
        paths: dict[str, str] = {}
        if report["guests"] and arguments["directory"] and not self._task.check_mode:
            paths = _write(report, arguments)
            Display().display(visible(f"The report is in {', '.join(paths.values())}"))
        path = paths.get("json")

        result = {"changed": False, "report": report, "path": path, "paths": paths, "left": left}
        result["empty"] = _is_empty(plan, left)
        came = verification.newcomers(plan, snapshots)
        message = _failure(plan, report, [] if arguments["tolerant"] else came, arguments["tolerant"])
        if message:
            # A failed task shows its whole result on the terminal, so the long parts are left to the file.
            return {"changed": False, "failed": True, "msg": message, "path": path, "paths": paths, "left": left}
        return result

    @staticmethod
    def _told(arguments: t.Mapping[str, t.Any], hostvars: t.Any, hosts: t.Iterable[str]) -> Told:
        """What else is told of a run. What a host has given in another shape is as if it had given nothing."""
        recorded = arguments["recorded_from"]
        records = registered_results.results_of(hostvars, hosts, recorded) if recorded else {}
        events = [plain(result["events"]) for result in records.values() if isinstance(result.get("events"), t.Mapping)]
        measured = [one for one in plain(arguments["working_sets"]) if shape.fits(document_shapes.WORKING_SET, one)]
        return Told(
            {step: told for of_host in events for step, told in of_host.items() if shape.fits(EVENTS, told)},
            {one["guest"]["uuid"]: one for one in measured},
            plain(arguments["before"]),
        )


def report_of(
    plan: Plan, applied: Results, snapshots: t.Mapping[str, Snapshot], told: Told | None = None
) -> dict[str, t.Any]:
    """The report (C(kvmops.report/1)) on a plan, told by what the hosts show."""
    told = told or Told()
    said = [result for of_host in applied.values() for result in of_host.get("results") or []]
    results = verification.verified(plan, said, snapshots)
    report = join(
        plan,
        {"": results},
        started_at=min((r["started_at"] for r in results if r.get("started_at")), default=plan["created_at"]),
        finished_at=max((r["finished_at"] for r in results if r.get("finished_at")), default=_now()),
        records={step: record_of(events) for step, events in told.events.items()},
        working_sets=told.working_sets,
    )
    uris = {host: known.get("connect_uri") for host, known in plan["hosts"].items()}
    changes = host_changes(plan["hosts"], told.before, snapshots)
    report["hosts"] = [{**change, "connect_uri": uris[change["host"]]} for change in changes]
    troubles = [
        f"The run on {host} did not end normally: {registered_results.why(result)}."
        for host, result in applied.items()
        if "results" not in result and "msg" in result
    ]
    report["todo"] = [*troubles, *report["todo"]]
    came = verification.newcomers(plan, snapshots)
    if came:
        report["ok"] = False
        report["todo"] += [*came, f"Then run the {goal_words(plan['goal'])} again: it also moves what came."]
    return report


def _plan(mapping: t.Mapping[str, t.Any]) -> Plan:
    try:
        return read_plan(mapping)
    except plans.PlanError as error:
        raise AnsibleActionFail(str(error)) from error


def _is_empty(plan: Plan, left: t.Mapping[str, t.Sequence[str]]) -> bool:
    return all(host in left and not left[host] for host in plan["goal"]["hosts"])


def _show(plan: Plan, report: dict[str, t.Any], left: dict[str, list[str]]) -> None:
    display = Display()
    if report["guests"]:
        for line in report_lines(report):
            display.display(visible(line))
    for host, guests in left.items() if plan["goal"]["kind"] in TO_BE_EMPTY else ():
        if guests:
            display.display(clean(f"{host} still runs {', '.join(guests)}, and stays cordoned."), color="bright purple")
        else:
            display.display(clean(f"{host} runs no guest."), color="green")


def _failure(plan: Plan, report: dict[str, t.Any], came: list[str], tolerant: bool) -> str:
    """Why the task fails, if it does; guests that were to stay are no reason."""
    rows = [row for row in report["guests"] if not leaves_nothing_to_do(row)]
    undone = [row["guest"] for row in rows if row["outcome"] in URGENT or not tolerant]
    if not undone and not came:
        return ""
    moves = f"{len(undone)} of {len(report['guests'])} guests did not move as planned ({', '.join(undone)})"
    what = [moves] if undone else []
    what += ["guests came to it meanwhile"] if came else []
    return (
        f"The {goal_words(plan['goal'])} is not complete: {'; '.join(what)}."
        " The list above says what to do. All other guests keep running. Run the same again to finish the work."
    )


def _write(report: dict[str, t.Any], arguments: t.Mapping[str, t.Any]) -> dict[str, str]:
    """Write the report in each format that is asked for, and remove old ones; returns the paths by format.

    The document itself is always written: a return home reads it.
    """
    directory, mode = Path(arguments["directory"]), report_files.mode_of(plain(arguments["mode"]))
    texts = {"json": json.dumps(report, indent=2, ensure_ascii=False) + "\n"}
    texts.update(formats.report_texts(report, arguments["formats"]))
    paths = {name: directory / formats.file_name(report["plan"], name) for name in texts}
    for name, path in paths.items():
        report_files.write(path, texts[name], mode)
    report_files.remove_old(directory, report_files.Limits(arguments["keep"], arguments["keep_days"]), time.time())
    return {name: str(path) for name, path in paths.items()}


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
