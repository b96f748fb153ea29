# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The plan document: made, read back, and held against the cluster it was made for."""

from __future__ import annotations

import hashlib
import json
import math
import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import compatibility
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    PLAN,
    Domain,
    Goal,
    Off,
    Plan,
    PlanHost,
    Snapshot,
    Step,
    Wave,
    group_of,
    is_off,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan_steps import Planned
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

GOALS = ("drain", "evacuate", "rebalance", "restore", "upgrade")


_GIVE = "give the file migration_plan wrote"


class PlanError(ValueError):
    """A plan that cannot be made or used; ``refusal`` says why and what to do, ``str()`` says both in one line."""

    def __init__(self, code: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.refusal = refusal(code, reason, remedy)


def build(
    *,
    plan_id: str,
    goal: Goal,
    created_at: str,
    intent: t.Mapping[str, t.Any],
    snapshots: t.Mapping[str, Snapshot],
    connect: t.Mapping[str, t.Mapping[str, t.Any]],
    planned: Planned,
    off: list[Off],
    waves: list[Wave] | None = None,
) -> Plan:
    """Put a plan together.

    Args:
        connect: how hosts reach each other's libvirtd, and what their links give, by host.
        planned: what a goal's planner found.
        waves: the outline of a whole rolling upgrade, of which the steps are the first wave.
    """
    return {
        "schema": PLAN,
        "id": plan_id,
        "goal": goal,
        "created_at": created_at,
        "intent": dict(intent),
        "snapshots": {host: snapshot_digest(snapshots[host]) for host in sorted(snapshots)},
        "hosts": {host: _host(snapshots[host], connect.get(host) or {}) for host in sorted(snapshots)},
        "steps": planned.placement.steps,
        "stays": planned.placement.stays,
        "off": off,
        "expected": planned.expected,
        "remarks": planned.remarks,
        "figures": planned.figures,
        "waves": list(waves or ()),
    }


def new_id(goal: Goal, created_at: str, nonce: str) -> str:
    """A plan's id, which is also the name of its directory on the hosts.

    >>> new_id({"kind": "drain", "hosts": ["h1", "h2 b"]}, "2026-11-24T02:00:00Z", "3f9a")
    'drain-h1-and-1-more-20261124T020000Z-3f9a'
    """
    host = re.sub(r"[^A-Za-z0-9._-]+", "_", goal["hosts"][0])[:48].strip("._-") if goal["hosts"] else "cluster"
    more = f"-and-{len(goal['hosts']) - 1}-more" if len(goal["hosts"]) > 1 else ""
    return f"{goal['kind']}-{host or 'host'}{more}-{re.sub(r'[-:]', '', created_at)}-{nonce}"


def snapshot_digest(snapshot: Snapshot) -> str:
    """A hash over what a plan rests on: hosts, versions, maintenance and guests; not over counters that run."""
    capacity, versions = snapshot.get("capacity") or {}, snapshot.get("versions") or {}
    matters = {
        "host": snapshot["host"],
        "host_uuid": snapshot.get("host_uuid"),
        "versions": [versions.get("libvirt"), versions.get("qemu")],
        "capacity": [capacity.get("cpus"), capacity.get("memory_bytes")],
        "cpu": snapshot.get("cpu"),
        "state": (snapshot.get("maintenance") or {}).get("state") or "active",
        "domains": sorted(
            (_domain_matters(domain) for domain in snapshot.get("domains") or []), key=lambda d: str(d[0])
        ),
    }
    text = json.dumps(matters, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode("ascii")).hexdigest()


def read(document: str | bytes | t.Mapping[str, t.Any]) -> Plan:
    """Read a plan from a file's text or from a mapping; PlanError says what is wrong with it, and where."""
    mapping = _parsed(document) if isinstance(document, (str, bytes)) else document
    if not isinstance(mapping, t.Mapping) or not str(mapping.get("schema", "")).startswith("kvmops."):
        raise PlanError(
            "not_a_plan", f"this is not a plan: it has no schema {PLAN}", "give the file migration_plan wrote"
        )
    schema = str(mapping["schema"])
    if schema != PLAN:
        raise _other_schema(schema)
    _Reader(mapping).check()
    return t.cast(Plan, {"off": [], "remarks": [], "figures": {}, "waves": [], **mapping})


def steps_of(plan: Plan, host: str) -> list[Step]:
    """The steps that start on this host, in their order."""
    return [step for step in plan["steps"] if step["source"] == host]


def check_cluster(plan: Plan, host_uuids: t.Mapping[str, str | None]) -> None:
    """Refuse a plan for other machines than these.

    ``host_uuids`` says for some or all hosts of the plan what they call themselves now; a null is not held against it.
    """
    unknown = sorted(set(host_uuids) - set(plan["hosts"]))
    known = {host: uuid for host, uuid in host_uuids.items() if host in plan["hosts"]}
    wrong = sorted(host for host, uuid in known.items() if uuid and uuid != plan["hosts"][host]["host_uuid"])
    if unknown and not known:
        raise PlanError(
            "other_cluster",
            f"plan {plan['id']} is for another cluster: it does not know {', '.join(unknown)}, "
            f"only {', '.join(sorted(plan['hosts']))}",
            "give the plan that was made for these hosts",
        )
    if wrong and len(wrong) == len(known) and len(known) > 1:
        raise PlanError(
            "other_cluster",
            f"plan {plan['id']} is for another cluster: {', '.join(wrong)} are other machines (their UUIDs differ)",
            "give the plan that was made for these hosts",
        )
    if wrong:
        host = wrong[0]
        raise PlanError(
            "host_reinstalled",
            f"{host} is not the host that plan {plan['id']} was made for: its UUID was "
            f"{plan['hosts'][host]['host_uuid']} and is now {known[host]}",
            "make a new plan",
        )


def check_fresh(plan: Plan, snapshots: t.Mapping[str, Snapshot]) -> list[Refusal]:
    """What has changed since the plan was made, as far as it matters for its steps; empty when nothing has.

    Free memory is not looked at: each step asks its destination when its turn comes. A guest that is at its
    destination already is no change that matters.

    Args:
        snapshots: every host that gives an answer now.
    """
    changed = {host for host, now in snapshots.items() if plan["snapshots"].get(host) != snapshot_digest(now)}
    found = _silent(plan, snapshots)
    found.extend(refused for host in sorted(changed) for refused in _closed(plan, snapshots[host]))
    for step in plan["steps"]:
        if step["source"] in changed or step["destination"] in changed:
            found.extend(_step_changed(plan, step, snapshots))
    found.extend(refused for host in sorted(changed) for refused in _newcomers(plan, snapshots[host]))
    return found


def _host(snapshot: Snapshot, connect: t.Mapping[str, t.Any]) -> PlanHost:
    return {
        "host_uuid": snapshot["host_uuid"],
        "connect_uri": connect.get("connect_uri"),
        "migration_address": connect.get("migration_address"),
        "bandwidth_mib_s": connect.get("bandwidth_mib_s"),
    }


def _domain_matters(domain: Domain) -> list[t.Any]:
    blockers = sorted(blocker["code"] for blocker in domain.get("blockers") or [])
    disks = [[disk.get("target"), disk.get("source"), disk.get("shared")] for disk in domain.get("disks") or []]
    keys = ("uuid", "name", "memory_bytes", "hugepage_bytes", "vcpus", "machine", "metadata")
    return [*(domain.get(key) for key in keys), is_off(domain), blockers, disks]


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
            "give the file migration_plan wrote, unedited or edited with care",
        ) from None


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Does the text end where something was still to come: in a string, a word, a number, or between two?"""
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
    """Checks a mapping field by field and names the place of the first thing wrong."""

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


def _closed(plan: Plan, snapshot: Snapshot) -> list[Refusal]:
    """A destination of the plan that has been cordoned since."""
    if all(step["destination"] != snapshot["host"] for step in plan["steps"]):
        return []
    refused = compatibility.closed(snapshot)
    return [refused] if refused else []


def _silent(plan: Plan, snapshots: t.Mapping[str, Snapshot]) -> list[Refusal]:
    """Hosts that the plan moves guests from or to, and that gave no answer."""
    missing: dict[str, Step] = {}
    for step in plan["steps"]:
        for host in (step["source"], step["destination"]):
            if host not in snapshots:
                missing.setdefault(host, step)
    return [
        refusal(
            "host_silent",
            f"{host} gives no answer, and {_in_step(host, step)}",
            "look at that host, then make a new plan",
        )
        for host, step in missing.items()
    ]


def _in_step(host: str, step: Step) -> str:
    return f"{step['guest']['name']} is to {'leave' if host == step['source'] else 'go to'} it"


def _step_changed(plan: Plan, step: Step, snapshots: t.Mapping[str, Snapshot]) -> list[Refusal]:
    """What has changed about one guest. Of a guest that moves twice, only its first step is looked at."""
    guest, uuid = step["guest"]["name"], step["guest"]["uuid"]
    ways = [one for one in plan["steps"] if one["guest"]["uuid"] == uuid]
    if any(_is_active(_find(uuid, snapshots.get(one["destination"]))) for one in ways) or step is not ways[0]:
        return []
    if step["source"] not in snapshots:
        return []
    here = _find(uuid, snapshots[step["source"]])
    if here is None:
        elsewhere = sorted(host for host, snapshot in snapshots.items() if _is_active(_find(uuid, snapshot)))
        now = f"it runs on {elsewhere[0]} now" if elsewhere else "none of the hosts looked at has it"
        return [refusal("guest_gone", f"{guest} is no longer on {step['source']}: {now}", "make a new plan")]
    if is_off(here):
        return [refusal("guest_off", f"{guest} has been shut off on {step['source']} since", "make a new plan")]
    if int(here["memory_bytes"]) > step["memory_bytes"]:
        return [refusal("guest_grew", f"{guest} has more memory now than when the plan was made", "make a new plan")]
    held = [
        refusal(b["code"], f"{guest} cannot leave {step['source']} any more: {b['reason']}", b.get("remedy") or "")
        for b in here.get("blockers") or []
    ]
    there = snapshots.get(ways[-1]["destination"])
    return held or (_not_apart(plan, here, there) if there else [])


def _not_apart(plan: Plan, here: Domain, there: Snapshot) -> list[Refusal]:
    """A guest of the same keep-apart group has come to where this one is to go, and does not leave."""
    group, leaving = group_of(here, "apart"), {one["guest"]["uuid"] for one in plan["steps"]}
    for other in there.get("domains") or [] if group else []:
        if group_of(other, "apart") == group and not is_off(other) and other["uuid"] not in leaving:
            reason = (
                f"{there['host']} runs {other['name']} now, from which {here['name']} is kept apart (group {group})"
            )
            return [refusal("keep_apart", reason, "make a new plan")]
    return []


def _newcomers(plan: Plan, snapshot: Snapshot) -> list[Refusal]:
    """Guests that have come to a host the plan empties."""
    host = snapshot["host"]
    if plan["goal"]["kind"] not in ("drain", "evacuate") or host not in plan["goal"]["hosts"]:
        return []
    known = {item["guest"]["uuid"] for item in [*plan["steps"], *plan["stays"]]}
    return [
        refusal("guest_came", f"{domain['name']} runs on {host} and is not in the plan", "make a new plan")
        for domain in snapshot.get("domains") or []
        if not is_off(domain) and domain["uuid"] not in known
    ]


def _find(uuid: str, snapshot: Snapshot | None) -> Domain | None:
    domains = (snapshot or {}).get("domains") or []
    return next((domain for domain in domains if domain["uuid"] == uuid), None)


def _is_active(domain: Domain | None) -> bool:
    return domain is not None and not is_off(domain)
