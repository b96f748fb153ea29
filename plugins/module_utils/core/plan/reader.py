# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Read a plan from a file's text or from a mapping, and check each field of it."""

from __future__ import annotations

import json
import math
import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import PLAN, Plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import GOALS, PlanError

_GIVE = "give the file that migration_plan wrote"


def read_plan(document: str | bytes | t.Mapping[str, t.Any]) -> Plan:
    """Return a plan from a file's text or from a mapping. A PlanError says what is wrong with it, and where."""
    mapping = _parsed(document) if isinstance(document, (str, bytes)) else document
    if not isinstance(mapping, t.Mapping) or not str(mapping.get("schema", "")).startswith("kvmops."):
        raise PlanError(
            "not_a_plan", f"this is not a plan: it has no schema {PLAN}", "give the file that migration_plan wrote"
        )
    schema = str(mapping["schema"])
    if schema != PLAN:
        raise _other_schema(schema)
    _Reader(mapping).check()
    return t.cast(Plan, {"off": [], "remarks": [], "figures": {}, "waves": [], **mapping})


def _parsed(text: str | bytes) -> t.Any:
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError:
        raise PlanError("not_json", "the plan is not a text file", _GIVE) from None
    if not text.strip():
        raise PlanError("plan_truncated", "the plan is empty", "copy the whole file again, or make a new plan")
    try:
        return json.loads(text)
    except json.JSONDecodeError as exc:
        if _is_cut(text, exc):
            raise PlanError(
                "plan_truncated",
                f"the plan is cut short: it ends in the middle (line {exc.lineno}, column {exc.colno})",
                "copy the whole file again, or make a new plan",
            ) from None
        raise PlanError(
            "not_json",
            f"the plan is not JSON: {exc.msg} (line {exc.lineno}, column {exc.colno})",
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


class _Reader:
    """Checks a mapping field by field. The first error names its place."""

    def __init__(self, plan: t.Mapping[str, t.Any]) -> None:
        self.plan = plan

    def check(self) -> None:
        plan = self.plan
        goal = self.field(plan, "goal", dict, "")
        kind = self.field(goal, "kind", str, "goal.")
        if kind not in GOALS:
            raise self.wrong("goal.kind", f"must be one of {', '.join(GOALS)}, not '{kind}'")
        self.field(goal, "hosts", list, "goal.")
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", self.field(plan, "id", str, "")):
            raise self.wrong("id", "must be letters, digits, '.', '_' and '-' only, as it names a directory")
        self.field(plan, "created_at", str, "")
        self.field(plan, "intent", dict, "")
        self.field(plan, "snapshots", dict, "")
        self.field(plan, "expected", dict, "")
        for name, host in self.field(plan, "hosts", dict, "").items():
            self.field(self.a_mapping(host, f"hosts.{name}"), "host_uuid", str, f"hosts.{name}.")
            self.bandwidth(host.get("bandwidth_mib_s"), f"hosts.{name}.bandwidth_mib_s")
        self.steps(self.field(plan, "steps", list, ""))
        for number, stay in enumerate(self.field(plan, "stays", list, "")):
            place = f"stays[{number}]"
            self.guest(self.a_mapping(stay, place), place)
            self.field(stay, "refusals", list, f"{place}.")

    def bandwidth(self, value: t.Any, place: str) -> None:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if value is not None and not (is_number and 0 < value < math.inf):
            raise self.wrong(place, "must be a number above 0 (MiB/s), or null")

    def steps(self, steps: list[t.Any]) -> None:
        seen: set[str] = set()
        for number, step in enumerate(steps):
            place = f"steps[{number}]"
            step_id = self.field(self.a_mapping(step, place), "id", str, f"{place}.")
            if step_id in seen:
                raise PlanError(
                    "plan_invalid", f"the plan has two steps called {step_id}", "give each step an id of its own"
                )
            seen.add(step_id)
            self.guest(step, place)
            for end in ("source", "destination"):
                self.host(self.field(step, end, str, f"{place}."), step_id, end)
            self.field(step, "memory_bytes", int, f"{place}.")
            self.field(step, "intent", dict, f"{place}.")
            self.field(step, "reason", str, f"{place}.")
            self.field_or_null(step, "strategy", str, f"{place}.")
            self.field_or_null(step, "forecast", dict, f"{place}.")
            self.field(step, "after", list, f"{place}.")
        for step in steps:
            for earlier in step["after"]:
                if earlier not in seen:
                    raise self.wrong(f"step {step['id']}", f"waits for step {earlier}, which is not in the plan")

    def host(self, host: str, step_id: str, end: str) -> None:
        if host not in self.plan["hosts"]:
            raise PlanError(
                "unknown_host",
                f"step {step_id} has the {end} {host}, which is not among the hosts of the plan "
                f"({', '.join(sorted(self.plan['hosts']))})",
                "correct the step, or make a new plan",
            )

    def guest(self, item: t.Mapping[str, t.Any], place: str) -> None:
        guest = self.field(item, "guest", dict, f"{place}.")
        self.field(guest, "name", str, f"{place}.guest.")
        self.field(guest, "uuid", str, f"{place}.guest.")

    def a_mapping(self, value: t.Any, place: str) -> t.Mapping[str, t.Any]:
        if not isinstance(value, t.Mapping):
            raise self.wrong(place, f"must be a mapping, not {_kind(value)}")
        return value

    def field(self, mapping: t.Mapping[str, t.Any], key: str, kind: type, place: str) -> t.Any:
        if key not in mapping:
            raise self.wrong(f"{place}{key}", "is missing")
        value = mapping[key]
        fits = isinstance(value, t.Mapping) if kind is dict else isinstance(value, kind) and not isinstance(value, bool)
        if not fits:
            raise self.wrong(f"{place}{key}", f"must be {_KINDS[kind]}, not {_kind(value)}")
        return value

    def field_or_null(self, mapping: t.Mapping[str, t.Any], key: str, kind: type, place: str) -> None:
        if key not in mapping or mapping[key] is not None:
            self.field(mapping, key, kind, place)

    @staticmethod
    def wrong(place: str, what: str) -> PlanError:
        return PlanError("plan_invalid", f"the plan is damaged: {place} {what}", "correct it there, or make a new plan")


_KINDS: dict[type, str] = {dict: "a mapping", list: "a list", str: "a text", int: "a whole number"}


def _kind(value: t.Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return next((word for kind, word in _KINDS.items() if isinstance(value, kind)), type(value).__name__)
