# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a plan for review: JUnit for the pipeline, Markdown for the reader.

from __future__ import annotations

import typing as t
from xml.etree import ElementTree

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan_limits
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text, plan_summary
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.markdown_text import cell, header, row
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean

Document = t.Mapping[str, t.Any]


def junit(plan: Document) -> str:
    """A test suite that fails where there is something to do: a case for the whole, and one for each move.

    What the plan only remarks is a skipped case, so that failures and the exit status of the run agree.
    """
    kind = plan["goal"]["kind"]
    suite = ElementTree.Element("testsuite", {"name": f"kvmops.{kind}", "timestamp": plan["created_at"].rstrip("Z")})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in {"plan": plan["id"], **(plan.get("figures") or {})}.items():
        ElementTree.SubElement(properties, "property", {"name": clean(name), "value": clean(value)})
    _case(suite, kind, "there is nothing to do", "failure" if plan["steps"] else None, summary(plan))
    for step in plan["steps"]:
        _case(
            suite, kind, f"{_guest(step)} stays on {clean(step['source'])}", "failure", f"{_move(step)}: {_why(step)}"
        )
    for stay in plan["stays"]:
        why = "; ".join(sentence(refused) for refused in stay["refusals"])
        _case(suite, kind, f"{_guest(stay)} on {clean(stay['host'])}", "skipped", why)
    for remark in plan.get("remarks") or ():
        _case(suite, kind, str(remark["code"]), None if remark["code"] == "balanced" else "skipped", sentence(remark))
    for counted, name in (("testcase", "tests"), ("failure", "failures"), ("skipped", "skipped")):
        suite.set(name, str(sum(1 for dummy in suite.iter(counted))))
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=False) + "\n"


def markdown(plan: Document, apply: str | None = None) -> str:
    """What a reviewer reads in a merge request: what would move, what for, at what cost, and how to have it done.

    Args:
        apply: the command that carries the plan out, to be told.
    """
    lines = [f"# {plan['goal']['kind'].capitalize()}: {summary(plan)}", "", f"Plan `{plan['id']}`."]
    lines += [f"- {cell(fact)}" for fact in plan_summary.facts(plan)]
    lines += [f"- {cell(sentence(remark))}" for remark in plan.get("remarks") or ()]
    waves = plan_summary.wave_rows(plan)
    if waves:
        lines += ["", *header([name.lower() for name in plan_summary.WAVES]), *map(row, waves)]
    if plan["steps"]:
        names = ["step", "guest", "memory", "from", "to", "time", "sent", "downtime", "how", "why"]
        lines += ["", *header(names), *(row(_cells(step)) for step in plan["steps"])]
    beyond = plan_limits.deviations(plan)
    if beyond:
        lines += ["", "What these moves may do beyond the defaults, or are held to:", ""]
        lines += [f"- {cell(line)}" for line in beyond]
    if plan["steps"] and apply:
        lines += ["", "To carry it out, once it is agreed to:", "", "```console", f"$ {apply}", "```"]
    for stay in plan["stays"]:
        why = "; ".join(sentence(refused) for refused in stay["refusals"])
        lines += ["", f"{cell(_guest(stay))} stays on {cell(stay['host'])}: {cell(why)}."]
    return "\n".join(lines) + "\n"


def summary(plan: Document) -> str:
    """The whole plan in one line."""
    figures = plan.get("figures") or {}
    before, after = figures.get("score_before"), figures.get("score_after")
    score = None if before is None or after is None else f"score {before:.3f}"
    if not plan["steps"]:
        return ", ".join(filter(None, ["nothing to do", score]))
    count = len(plan["steps"])
    moves = f"{count} move{'' if count == 1 else 's'} of {human_bytes(sum(s['memory_bytes'] for s in plan['steps']))}"
    return f"{moves}, {score} to {after:.3f}" if score else moves


def _case(suite: ElementTree.Element, kind: str, name: str, outcome: str | None, text: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", {"classname": f"kvmops.{kind}", "name": name, "time": "0"})
    if outcome:
        ElementTree.SubElement(case, outcome, {"message": clean(text)})


def _guest(item: Document) -> str:
    return clean(item["guest"]["name"])


def _move(step: Document) -> str:
    return f"{_guest(step)}: {clean(step['source'])} to {clean(step['destination'])}"


def _why(step: Document) -> str:
    told = [step["reason"], forecast_text.why(step["forecast"]) if step["forecast"] else None]
    return "; ".join(filter(None, told))


def _cells(step: Document) -> list[str]:
    how, *figures = forecast_text.cells(step["forecast"])
    memory = human_bytes(step["memory_bytes"])
    return [step["id"], _guest(step), memory, step["source"], step["destination"], *figures, how, step["reason"]]
