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
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import Planned
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.duplicates import duplicates
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import parsed, shown

GOALS = ("drain", "evacuate", "rebalance", "restore", "upgrade")


_GIVE = "give the file that migration_plan wrote"


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
            "not_a_plan", f"this is not a plan: it has no schema {PLAN}", "give the file that migration_plan wrote"
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
    now = _CurrentCluster(plan, snapshots)
    found = _silent(plan, now)
    found.extend(now.duplicates_by_uuid[uuid] for uuid in now.steps_of_guest if uuid in now.duplicates_by_uuid)
    found.extend(refused for host in sorted(changed) for refused in _closed(plan, snapshots[host]))
    for step in plan["steps"]:
        if step["source"] in changed or step["destination"] in changed:
            found.extend(_step_changed(plan, step, now))
    found.extend(refused for host in sorted(changed) for refused in _newcomers(plan, snapshots[host]))
    return found


class _CurrentCluster:
    """The cluster as it is now, beside what the plan has in mind for each guest.

    Attributes:
        snapshots: every host that gives an answer.
        ways: all steps of each guest of the plan, in order, by UUID.
        ending: guests (UUIDs) that are to end on a host, by host.
        twice: guests that run more than once, by UUID.
    """

    def __init__(self, plan: Plan, snapshots: t.Mapping[str, Snapshot]) -> None:
        self.snapshots = snapshots
        self.steps_of_guest: dict[str, list[Step]] = {}
        for step in plan["steps"]:
            self.steps_of_guest.setdefault(step["guest"]["uuid"], []).append(step)
        self.ending: dict[str, list[str]] = {}
        for uuid, steps_of_guest in self.steps_of_guest.items():
            self.ending.setdefault(steps_of_guest[-1]["destination"], []).append(uuid)
        self.duplicates_by_uuid = duplicates(snapshots)
        self._at = {
            host: {domain["uuid"]: domain for domain in one.get("domains") or []} for host, one in snapshots.items()
        }
        self._active = {
            domain["uuid"]: domain for at in self._at.values() for domain in at.values() if not is_off(domain)
        }

    def at(self, uuid: str, host: str) -> Domain | None:
        """The guest on this host, active or not."""
        return self._at.get(host, {}).get(uuid)

    def is_active_at(self, uuid: str, host: str) -> bool:
        domain = self.at(uuid, host)
        return domain is not None and not is_off(domain)

    def active(self, uuid: str) -> Domain | None:
        """The guest, wherever it is active."""
        return self._active.get(uuid)

    def has_gone(self, uuid: str) -> bool:
        """Is it on a host to which the plan takes it?"""
        return any(self.is_active_at(uuid, step["destination"]) for step in self.steps_of_guest[uuid])

    def is_done(self, step: Step) -> bool:
        """Is the guest where this step takes it, or where a later one does?"""
        steps_of_guest = self.steps_of_guest[step["guest"]["uuid"]]
        later = steps_of_guest[steps_of_guest.index(step) :]
        return any(self.is_active_at(step["guest"]["uuid"], one["destination"]) for one in later)

    def end_of(self, uuid: str, otherwise: str) -> str:
        """Where the guest is when the plan is done; ``otherwise`` is where it is if it has no step."""
        steps_of_guest = self.steps_of_guest.get(uuid)
        return steps_of_guest[-1]["destination"] if steps_of_guest else otherwise


def _host(snapshot: Snapshot, connect: t.Mapping[str, t.Any]) -> PlanHost:
    return {
        "host_uuid": snapshot["host_uuid"],
        "connect_uri": connect.get("connect_uri"),
        "migration_address": connect.get("migration_address"),
        "bandwidth_mib_s": connect.get("bandwidth_mib_s"),
        "qemu": (snapshot.get("versions") or {}).get("qemu"),
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
            "give the file that migration_plan wrote, unedited or edited with care",
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


def _closed(plan: Plan, snapshot: Snapshot) -> list[Refusal]:
    """A destination of the plan that has been cordoned since."""
    if all(step["destination"] != snapshot["host"] for step in plan["steps"]):
        return []
    refused = compatibility.cordon_refusal(snapshot)
    return [refused] if refused else []


def _silent(plan: Plan, now: _CurrentCluster) -> list[Refusal]:
    """Hosts that the plan still moves guests from or to, and that gave no answer."""
    missing: dict[str, Step] = {}
    for step in plan["steps"]:
        for host in (step["source"], step["destination"]):
            if host not in now.snapshots and not now.is_done(step):
                missing.setdefault(host, step)
    return [
        refusal(
            "host_silent",
            f"{host} does not answer, and {_in_step(host, step)}",
            "look at that host, then make a new plan",
        )
        for host, step in missing.items()
    ]


def _in_step(host: str, step: Step) -> str:
    return f"{step['guest']['name']} is to {'leave' if host == step['source'] else 'go to'} it"


def _step_changed(plan: Plan, step: Step, now: _CurrentCluster) -> list[Refusal]:
    """What has changed about one guest. Of a guest that moves twice, only its first step is looked at."""
    guest, uuid, source = step["guest"]["name"], step["guest"]["uuid"], step["source"]
    steps_of_guest = now.steps_of_guest[uuid]
    if step is not steps_of_guest[0]:
        return []
    if uuid in now.duplicates_by_uuid or now.has_gone(uuid) or source not in now.snapshots:
        return []
    here = now.at(uuid, source)
    if here is None:
        elsewhere = sorted(host for host in now.snapshots if now.is_active_at(uuid, host))
        where = f"it runs on {elsewhere[0]} now" if elsewhere else "no host in the snapshots has it"
        return [refusal("guest_gone", f"{guest} is no longer on {source}: {where}", "make a new plan")]
    if is_off(here):
        return [refusal("guest_off", f"{guest} is now shut off on {source}", "make a new plan")]
    if int(here["memory_bytes"]) > step["memory_bytes"]:
        return [refusal("guest_grew", f"{guest} has more memory now than when the plan was made", "make a new plan")]
    held = [
        refusal(b["code"], f"{guest} cannot leave {source} any more: {b['reason']}", b.get("remedy") or "")
        for b in here.get("blockers") or []
    ]
    return held or [
        *_older(plan, steps_of_guest, now),
        *_not_together(here, source, now),
        *_not_apart(here, steps_of_guest[-1], now),
    ]


def _older(plan: Plan, steps_of_guest: t.Sequence[Step], now: _CurrentCluster) -> list[Refusal]:
    """A host on the guest's way has got an older QEMU than the one before it, and had not when the plan was made."""
    for step in steps_of_guest:
        ends = (step["source"], step["destination"])
        here, there = (parsed((now.snapshots.get(host, {}).get("versions") or {}).get("qemu")) for host in ends)
        # Plans from before versions were stated do not tell, and what was older then was permitted.
        here_then, there_then = (parsed(plan["hosts"][host].get("qemu")) for host in ends)
        if not (here and there and here_then and there_then):
            continue
        if there[:2] < here[:2] and there_then[:2] >= here_then[:2]:
            reason = (
                f"{ends[1]} runs an older QEMU ({shown(there)}) now than {ends[0]} ({shown(here)}), "
                f"from where {step['guest']['name']} is to go there"
            )
            return [refusal("older_hypervisor", reason, f"upgrade QEMU on {ends[1]}, then make a new plan")]
    return []


def _not_together(here: Domain, source: str, now: _CurrentCluster) -> list[Refusal]:
    """A guest of the same keep-together group is on its host and is not to go where this one goes."""
    group, end = group_of(here, "together"), now.end_of(here["uuid"], source)
    for other in now.snapshots[source].get("domains") or [] if group else []:
        if group_of(other, "together") == group and not is_off(other) and now.end_of(other["uuid"], source) != end:
            reason = f"{here['name']} is to leave {other['name']}, with which it is kept together now (group {group})"
            return [refusal("keep_together", reason, "make a new plan")]
    return []


def _not_apart(here: Domain, last: Step, now: _CurrentCluster) -> list[Refusal]:
    """Where this guest is to end there is, or ends, another of its keep-apart group or of its name."""
    group, host = group_of(here, "apart"), last["destination"]
    coming = (now.active(uuid) for uuid in now.ending.get(host, ()))
    there = now.snapshots.get(host, {}).get("domains") or []
    staying = [domain for domain in there if now.end_of(domain["uuid"], host) == host]
    for other in [*staying, *(domain for domain in coming if domain is not None)]:
        if other["uuid"] == here["uuid"]:
            continue
        what = f"{host} {'runs' if now.is_active_at(other['uuid'], host) else 'is to run'} {other['name']} now"
        if group and group_of(other, "apart") == group and not is_off(other):
            reason = f"{what}, from which {here['name']} is kept apart (group {group})"
            return [refusal("keep_apart", reason, "make a new plan")]
        if other["name"] == here["name"]:
            reason = f"{host} has, or will have, another guest called {here['name']} (UUID {other['uuid']})"
            return [refusal("name_clash", reason, "make a new plan")]
    return []


def _newcomers(plan: Plan, snapshot: Snapshot) -> list[Refusal]:
    """Guests that have come to a host the plan empties."""
    host = snapshot["host"]
    if host not in _emptied(plan):
        return []
    known = {item["guest"]["uuid"] for item in [*plan["steps"], *plan["stays"]]}
    return [
        refusal("guest_came", f"{domain['name']} runs on {host} and is not in the plan", "make a new plan")
        for domain in snapshot.get("domains") or []
        if not is_off(domain) and domain["uuid"] not in known
    ]


def _emptied(plan: Plan) -> t.Sequence[str]:
    """Hosts that the steps of the plan empty; of a whole upgrade those of the first wave."""
    if plan["goal"]["kind"] not in ("drain", "evacuate", "upgrade"):
        return []
    return plan["waves"][0]["hosts"] if plan["waves"] else plan["goal"]["hosts"]
