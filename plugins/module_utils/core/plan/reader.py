# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Read a plan from a file's text or from a mapping, and check each field of it."""

from __future__ import annotations

import json
import re
import typing as t
from collections import Counter

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import PLAN, Plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan_shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.shape import ShapeError

_GIVE = "give the file that migration_plan wrote"


def read_plan(document: str | bytes | t.Mapping[str, t.Any]) -> Plan:
    """Return a plan from a file's text or from a mapping. A PlanError says what is wrong with it, and where."""
    mapping = _parsed(document) if isinstance(document, (str, bytes)) else document
    if not isinstance(mapping, t.Mapping) or not _schema_of(mapping).startswith("kvmops."):
        raise PlanError(
            "not_a_plan", f"this is not a plan: it has no schema {PLAN}", "give the file that migration_plan wrote"
        )
    schema = _schema_of(mapping)
    if schema != PLAN:
        raise _other_schema(schema)
    try:
        plan_shape.PLAN(mapping, "")
    except ShapeError as error:
        raise _damaged(error.place, error.what) from None
    _check_steps(mapping)
    return t.cast(Plan, {"off": [], "remarks": [], "figures": {}, "waves": [], **mapping})


def _schema_of(mapping: t.Mapping[str, t.Any]) -> str:
    return str(mapping.get("schema", ""))[:60]


def _parsed(text: str | bytes) -> t.Any:
    if not text.strip():
        raise PlanError("plan_truncated", "the plan is empty", "copy the whole file again, or make a new plan")
    try:
        return json_text.parsed(text)
    except json_text.JsonTextError as error:
        at = error.at
        if at is not None and _is_cut(at.doc, at):
            raise PlanError(
                "plan_truncated",
                f"the plan is cut short: it ends in the middle (line {at.lineno}, column {at.colno})",
                "copy the whole file again, or make a new plan",
            ) from None
        if at is None:
            raise PlanError("not_json", f"the plan cannot be read: {error}", _GIVE) from None
        raise PlanError(
            "not_json",
            f"the plan is not JSON: {error}",
            "give the file that migration_plan wrote, unedited or edited with care",
        ) from None


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Return whether the text ends in the middle: in a string, a word or a number."""
    rest = text[error.pos :].strip()
    in_a_word = any(word.startswith(rest) for word in ("true", "false", "null"))
    in_a_number = re.fullmatch(r"-|\.|[eE][+-]?", rest) is not None
    in_an_escape = "escape" in error.msg and len(rest) < len(r"\u0000")
    return text.lstrip().startswith("{") and ("Unterminated" in error.msg or in_a_word or in_a_number or in_an_escape)


def _other_schema(schema: str) -> PlanError:
    if schema.startswith("kvmops.plan/"):
        return PlanError(
            "plan_version",
            f"the plan has version {schema.partition('/')[2]}, and this release of kvmops.cluster reads version "
            f"{PLAN.partition('/')[2]}",
            "make the plan with the release that carries it out",
        )
    return PlanError("not_a_plan", f"this is not a plan but a {schema}", _GIVE)


def _check_steps(plan: t.Mapping[str, t.Any]) -> None:
    """Raise PlanError for steps that each are right and do not go together."""
    steps = plan["steps"]
    for step_id, times in Counter(step["id"] for step in steps).items():
        if times > 1:
            why = f"the plan has two steps called {step_id}"
            raise PlanError("plan_invalid", why, "give each step an id of its own")
    left = set[tuple[str, str]]()
    for step in steps:
        _check_hosts(plan, step)
        guest, source = step["guest"], step["source"]
        if (guest["uuid"], source) in left:
            raise _damaged(f"step {step['id']}", f"takes {guest['name']} away from {source} a second time")
        left.add((guest["uuid"], source))
        for earlier in step["after"]:
            if earlier not in {one["id"] for one in steps}:
                raise _damaged(f"step {step['id']}", f"waits for step {earlier}, which is not in the plan")


def _check_hosts(plan: t.Mapping[str, t.Any], step: t.Mapping[str, t.Any]) -> None:
    for end in ("source", "destination"):
        if step[end] not in plan["hosts"]:
            raise PlanError(
                "unknown_host",
                f"step {step['id']} has the {end} {step[end]}, which is not among the hosts of the plan "
                f"({', '.join(sorted(plan['hosts']))})",
                "correct the step, or make a new plan",
            )
    if step["source"] == step["destination"]:
        raise _damaged(f"step {step['id']}", f"goes from {step['source']} to the same host")


def _damaged(place: str, what: str) -> PlanError:
    return PlanError("plan_invalid", f"the plan is damaged: {place} {what}", "correct it there, or make a new plan")
