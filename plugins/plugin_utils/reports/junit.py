# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a report as JUnit XML: a test case for each guest.

from __future__ import annotations

import typing as t
from xml.etree import ElementTree

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.report import goal_words
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import leaves_nothing_to_do
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import report_table

Document = t.Mapping[str, t.Any]

#: Outcomes that no pipeline may take for a refused move: a person must look.
_ERRORS = ("unclear", "off", "lost")


def junit(report: Document) -> str:
    """A test suite: a case for each guest that was to move or stays, and one for the run as a whole.

    A guest that is where it should be passes. One that was not moved fails, and so does one that can not leave. One of
    which a person must find out where it is, is an error. Guests that the operator left out are skipped. So the suite
    passes exactly if the run did.
    """
    kind = f"kvmops.{report['goal']['kind']}"
    suite = ElementTree.Element("testsuite", {"name": kind})
    if report["started_at"]:
        suite.set("timestamp", str(report["started_at"]).rstrip("Z"))
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in {"plan": report["plan"], **(report.get("figures") or {})}.items():
        ElementTree.SubElement(properties, "property", {"name": clean(name), "value": clean(value)})
    for row in report["guests"]:
        _guest(suite, kind, row)
    for stay in report["stays"]:
        why = "; ".join(sentence(refused) for refused in stay["refusals"])
        excluded = all(refused["code"] == "excluded" for refused in stay["refusals"])
        case = _case(suite, kind, f"{stay['guest']['name']} leaves {stay['host']}", 0.0)
        _mark(case, "skipped" if excluded else "failure", why)
    whole = _case(suite, kind, f"the {goal_words(report['goal'])} as a whole", report["total_s"])
    if not report["ok"]:
        _mark(whole, "failure", "; ".join(report["todo"]) or report_table.headline(report))
    for counted, name in (("testcase", "tests"), ("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for dummy in suite.iter(counted))))
    suite.set("time", _seconds(report["total_s"]))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=False) + "\n"


def _guest(suite: ElementTree.Element, kind: str, row: Document) -> None:
    case = _case(suite, kind, f"{row['guest']} moves from {row['source']} to {row['destination']}", row["total_s"])
    if not leaves_nothing_to_do(row):
        told = [str(row["error"] or ""), *(sentence(refused) for refused in row["refusals"])]
        _mark(
            case, "error" if row["outcome"] in _ERRORS else "failure", "; ".join(filter(None, told)) or row["outcome"]
        )
        return
    figures = [f"{name}={row[name]}" for name in ("bytes", "downtime_ms") if row[name] is not None]
    told = [*figures, *(sentence(fault) for fault in row.get("faults") or ())]
    if told:
        ElementTree.SubElement(case, "system-out").text = clean("; ".join(told))


def _case(suite: ElementTree.Element, kind: str, name: str, seconds: float | None) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", {"classname": kind, "name": clean(name), "time": _seconds(seconds)}
    )


def _mark(case: ElementTree.Element, kind: str, text: str) -> None:
    ElementTree.SubElement(case, kind, {"message": clean(text)})


def _seconds(seconds: float | None) -> str:
    return f"{seconds or 0:.3f}"
