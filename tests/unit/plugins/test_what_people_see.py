# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No table, no line, no warning and no page has a character that a person does not see, whoever chose a name."""

from __future__ import annotations

import copy
import datetime
import typing as t
import unicodedata
from xml.etree import ElementTree as ET

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError

from ansible_collections.kvmops.cluster.plugins.filter.capsule_table import FilterModule as CapsuleTable
from ansible_collections.kvmops.cluster.plugins.filter.disk_copies_table import FilterModule as DiskCopiesTable
from ansible_collections.kvmops.cluster.plugins.filter.plan_table import FilterModule as PlanTable
from ansible_collections.kvmops.cluster.plugins.filter.preflight_matrix import FilterModule as PreflightMatrix
from ansible_collections.kvmops.cluster.plugins.filter.report_table import FilterModule as ReportTable
from ansible_collections.kvmops.cluster.plugins.filter.sends_table import FilterModule as SendsTable
from ansible_collections.kvmops.cluster.plugins.filter.upgrade_consent import FilterModule as UpgradeConsent
from ansible_collections.kvmops.cluster.plugins.filter.upgrade_standing import FilterModule as UpgradeStanding
from ansible_collections.kvmops.cluster.plugins.filter.upgrade_troubles import FilterModule as UpgradeTroubles
from ansible_collections.kvmops.cluster.plugins.filter.watch_summary import FilterModule as WatchSummary
from ansible_collections.kvmops.cluster.plugins.filter.working_set_table import FilterModule as WorkingSetTable
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean, visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal, sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import report, run_progress
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_record import NONE
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import module_common
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.registered_results import measurements
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import formats
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import plan_review, plan_summary
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import (
    live_action,
    live_block,
    progress_lines,
    watched_run,
)
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    cluster,
    domain,
    path,
    plan_document,
    snapshot,
    step_result,
    uuid_of,
    working_set,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.plugin_utils.tables.forecast_plans import (
    NOT_SURE,
    forecast_plan,
)

#: C0, DEL, C1, marks of direction, ends of lines, halves of characters, and what XML has not.
UNSEEN = "".join(
    map(
        chr,
        (
            *range(0x20),
            *range(0x7F, 0xA0),
            *range(0x202A, 0x202F),
            *range(0x2066, 0x206A),
            *(0x200B, 0x200E, 0x200F, 0x061C, 0x2028, 0x2029, 0xFEFF, 0xD800, 0xDC80, 0xDFFF, 0xFFFE, 0xFDD0, 0x1FFFF),
        ),
    )
)
NAME = f"web\x1b]0;x\x07\x9b31m{UNSEEN}"
REFUSAL = {"code": "x", "reason": f"because {NAME}", "remedy": f"remove {NAME}"}


def guest(prefix: str = "", **changes: t.Any) -> dict[str, t.Any]:
    return {**domain(prefix or "x", **changes), "name": f"{prefix}{NAME}"}


def is_seen(char: str) -> bool:
    """Whether a character leaves a mark, if only the box of one that a font has not."""
    nothing = 0xFDD0 <= ord(char) < 0xFDF0 or ord(char) % 0x10000 >= 0xFFFE
    return not nothing and unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def seen(text: t.Any) -> None:
    """Check that a text, and all texts in a document, have only what is seen."""
    if isinstance(text, dict):
        seen([*text, *text.values()])
    elif isinstance(text, (list, tuple)):
        for one in text:
            seen(one)
    elif isinstance(text, str):
        odd = [hex(ord(char)) for char in text if char != "\n" and not is_seen(char)]
        assert odd == []
        text.encode("utf-8")


def hostile_plan() -> dict[str, t.Any]:
    """A plan in which everything that somebody else chooses is odd."""
    hosts = cluster(
        snapshot("h1", guest(), guest("off", state="shutoff"), guest("stay", blockers=[REFUSAL])),
        snapshot("h2"),
    )
    made = plan_document(hosts)
    planned = copy.deepcopy(forecast_plan(NOT_SURE, NOT_SURE))
    for plan in (made, planned):
        plan["remarks"] = [REFUSAL]
        plan["figures"] = {"score_before": 0.5, "score_after": 0.25, "guests": 2}
        for step in plan["steps"]:
            step["guest"]["name"] = NAME
            step["reason"] = f"why {NAME}"
            if step["forecast"]:
                step["forecast"]["reason"] = f"how {NAME}"
        for host in list(plan["hosts"]):
            plan["hosts"][host]["qemu"] = NAME
        for stay in plan["stays"]:
            stay["refusals"] = [REFUSAL]
    planned["stays"], planned["off"] = made["stays"], made["off"]
    assert planned["stays"]
    assert planned["off"]
    return planned


PLAN = hostile_plan()


def hostile_report() -> dict[str, t.Any]:
    first, second = PLAN["steps"][:2]
    odd = {"error": NAME, "notes": [NAME], "corrected": [NAME], "faults": [REFUSAL], "reason": NAME}
    results = [
        step_result(first, **odd),
        step_result(second, "failed", refusals=[REFUSAL], **odd),
    ]
    at = "2026-11-24T02:00:01.000Z"
    return t.cast("dict[str, t.Any]", report.join(PLAN, {"h1": results}, started_at=at, finished_at=at))


def filtered(filters: t.Any, *arguments: t.Any, **options: t.Any) -> t.Any:
    (call,) = filters().filters().values()
    return call(*arguments, **options)


def choice_of(mode: str | None) -> dict[str, t.Any]:
    band = {"value": 1.0, "low": 0.5, "high": 2.0}
    figures = {
        **dict.fromkeys(("useful_s", "downtime_s", "bytes", "fill_s"), band),
        "settings": {"method": NAME},
        "avoided_by": {"zero": 5},
    }
    return {
        "schema": "kvmops.capsule_choice/1",
        "guest": {"name": NAME, "uuid": "u"},
        "source": NAME,
        "destination": NAME,
        "mode": mode,
        "reason": NAME,
        "refusal": REFUSAL,
        "modes": {"suspended": figures},
    }


def copies() -> list[dict[str, t.Any]]:
    copy = {
        "guest": {"name": NAME, "uuid": "u"},
        **dict.fromkeys(("host", "target", "path", "destination"), NAME),
        "size_bytes": 5,
        "allocated_bytes": 5,
        "at": "2026-11-24T02:00:00Z",
        "age_s": 5,
    }
    return [{**copy, "status": "kept", "why": REFUSAL}, {**copy, "status": "would_remove", "why": None}]


def sends() -> list[dict[str, t.Any]]:
    row = {
        "host": NAME,
        "source": NAME,
        "outcome": "sent",
        **dict.fromkeys(("sent", "bytes_out", "bytes_back", "seconds"), 5),
        "avoided_by": {"base": 5},
        "full_because": [NAME],
        "refusal": None,
        "seeded": [],
    }
    return [row, {**row, "outcome": "refused", "refusal": REFUSAL}]


def measured() -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    odd, never = guest(), guest("never")
    made = {**working_set(odd), "sentence": NAME, "unusual": NAME}
    hosts = cluster(snapshot("h1", odd, never), snapshot("h2"))
    view = {"snapshots": hosts, "connect": {host: {} for host in hosts}, "open": list(hosts)}
    learned = {"guests": {}, "paths": {}}
    told = {"h1": {"working_sets": [made], "refusals": [REFUSAL], "calibration": learned}}
    return measurements(told), view


def ways() -> list[dict[str, t.Any]]:
    check = {"check": "ports", "ok": False, **REFUSAL}
    guests = [{"name": NAME, "uuid": "u", "refusals": [REFUSAL]}]
    return [path("h1", f"h2{NAME}", ok=False, checks=[check]), path(f"h2{NAME}", "h1", guests=guests)]


def hostile_block() -> list[str]:
    rows = run_progress.rows_of(PLAN)
    told = {"destination": NAME, "phase": NAME, "message": NAME, "at": NAME}
    run_progress.follow(rows, {"guest": NAME, "step": PLAN["steps"][0]["id"], **told})
    run_progress.follow(rows, {"guest": f"other {NAME}", "percent": 5, "eta_s": 5, **told})
    views = [live_block.View(NAME, rows, datetime.datetime.now(datetime.UTC), 60.0)]
    return [line.text for width in (20, 40, 80, 200) for line in live_block.block(views, width, 8)]


def watched_lines() -> list[str]:
    run = {"plan": NAME, "owner": NAME}
    seen = {
        NAME: {"watched": run, "outcomes": [step_result(PLAN["steps"][0], "failed", error=NAME, refusals=[REFUSAL])]},
        f"2{NAME}": {"watched": run, "outcomes": None},
        f"3{NAME}": {"watched": None, "lease": {"owner": NAME, "run": NAME, "since": NAME}},
        f"4{NAME}": {"failed": True, "msg": NAME},
    }
    said = filtered(WatchSummary, seen)
    return [*said["lines"], said["failure"]]


SHOWN: dict[str, t.Callable[[], t.Any]] = {
    "plan": lambda: filtered(PlanTable, PLAN),
    "plan in Markdown": lambda: filtered(PlanTable, PLAN, format="markdown"),
    "facts of a plan": lambda: [*plan_summary.facts(PLAN), plan_review.summary(PLAN)],
    "report": lambda: filtered(ReportTable, hostile_report()),
    "paths": lambda: filtered(PreflightMatrix, ways()),
    "working sets": lambda: filtered(WorkingSetTable, *measured()),
    "capsules": lambda: filtered(CapsuleTable, [choice_of("suspended"), choice_of(None)]),
    "copies of disks": lambda: filtered(DiskCopiesTable, copies()),
    "sends": lambda: filtered(SendsTable, sends()),
    "standing of an upgrade": lambda: filtered(
        UpgradeStanding,
        ["h1", "h2"],
        {"h1": {**NONE, "run": NAME, "owner": NAME, "qemu": NAME, "phase": "begun"}, "h2": NONE},
        cluster(snapshot("h1", versions={**snapshot("h1")["versions"], "qemu": NAME}), snapshot("h2")),
        "new",
    )["lines"],
    "troubles of an upgrade": lambda: filtered(
        UpgradeTroubles, ["h1"], well=[], said={"h1": NAME}, snapshots=cluster(snapshot("h1")), paths=ways()
    ),
    "consent to an upgrade": lambda: [
        sentence(refused)
        for stay in filtered(
            UpgradeConsent,
            [{"guest": {"name": NAME, "uuid": uuid_of("x")}, "host": "h1", "refusals": []}],
            cluster(snapshot("h1", guest())),
        )["blocked"]
        for refused in stay["refusals"]
    ],
    "a line of progress": lambda: progress_lines.phrase(
        NAME, {"guest": NAME, "destination": NAME, "phase": NAME, "message": NAME}
    ),
    "lines that are rewritten": hostile_block,
    "what is said of a run that is watched": lambda: [
        watched_run.greeting(
            NAME, {"plan": NAME, "owner": NAME, "since": NAME, "ended": 0, "guests": 1, "eta_s": None}
        ),
        *watched_lines(),
    ],
    "a line of a host": lambda: progress_lines.phrase(NAME, {"message": NAME}),
    "a refusal": lambda: [sentence(REFUSAL), refusal("x", NAME, NAME)],
    "a module's failure": lambda: module_common.summary(
        [step_result(PLAN["steps"][0], "failed", refusals=[REFUSAL]), step_result(PLAN["steps"][0], error=NAME)], 2
    ),
    "report in other formats": lambda: [
        text
        for shown in formats.report_texts(hostile_report(), formats.SUFFIXES).values()
        for text in shown.splitlines()
    ],
    "plan in other formats": lambda: [
        text
        for shown in formats.plan_texts(PLAN, formats.SUFFIXES, {}, {}, "apply").values()
        for text in shown.splitlines()
    ],
    "JUnit": lambda: plan_review.junit({**PLAN, "figures": {NAME: NAME}}),
}


@pytest.mark.parametrize("what", list(SHOWN))
def test_nothing_unseen_is_shown(what):
    shown = SHOWN[what]()
    assert shown
    seen(shown)


def test_a_page_for_programs_is_well_formed():
    suite = ET.fromstring(plan_review.junit({**PLAN, "figures": {NAME: NAME}}))
    seen([value for element in suite.iter() for value in element.attrib.values()])


def test_what_an_operator_is_told_after_an_interrupt(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr(live_action.os, "getppid", lambda: 0)
    monkeypatch.setattr(live_action.display, "warning", told.append)
    live_action._tell_operator(NAME)
    seen(told)


class Failing(ControllerAction):
    def __init__(self, outcome: t.Any) -> None:
        self._outcome = outcome

    def run(self, tmp=None, task_vars=None):
        return super().run(tmp, task_vars)

    def validate_argument_spec(self, **_options):
        return None, {}

    def result(self, arguments, variables):
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome


def test_the_error_of_an_action(monkeypatch):
    monkeypatch.setattr(ControllerAction.__mro__[1], "run", lambda self, tmp, task_vars: {})
    with pytest.raises(AnsibleActionFail) as failed:
        Failing(AnsibleError(NAME)).run()
    seen(str(failed.value))
    seen(Failing({"msg": NAME}).run()["msg"])
    with pytest.raises(AnsibleError, match=r"^plain$"):
        Failing(AnsibleError("plain")).run()


def test_every_character_is_seen_or_marked():
    for number in range(0x110000):
        char = chr(number)
        if char.isprintable() or unicodedata.category(char) in ("Zs", "Co", "Cn"):
            continue
        assert visible(char) in (" ", "\N{REPLACEMENT CHARACTER}")
    assert clean(f" {UNSEEN} ").isprintable()
    assert visible("größe-データ-🐧  x") == "größe-データ-🐧  x"
