# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What has changed in the cluster since a plan was made, as far as it matters for the plan's steps."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Plan,
    Snapshot,
    Step,
    group_of,
    is_off,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import left_definitions
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import snapshot_digest
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.duplicates import duplicates
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import parsed, shown


def changes_since(plan: Plan, snapshots: t.Mapping[str, Snapshot]) -> list[Refusal]:
    """Return what has changed since the plan was made and matters for its steps; empty if nothing has.

    Free memory is not checked: each step asks its destination when its turn comes. A guest that is at its destination
    already is no change.

    Args:
        snapshots: every host that gives an answer now.
    """
    changed = {host for host, now in snapshots.items() if plan["snapshots"].get(host) != snapshot_digest(now)}
    now = _CurrentCluster(plan, snapshots)
    found = [*_silent(plan, now), *_misdescribed(plan, now)]
    found.extend(now.duplicates_by_uuid[uuid] for uuid in now.steps_of_guest if uuid in now.duplicates_by_uuid)
    found.extend(refused for host in sorted(changed) for refused in _closed(plan, snapshots[host]))
    for step in plan["steps"]:
        if step["source"] in changed or step["destination"] in changed:
            found.extend(_step_changed(plan, step, now))
    found.extend(refused for host in sorted(changed) for refused in _newcomers(plan, snapshots[host]))
    found.extend(left_definitions.dangerous(_emptied(plan), snapshots))
    return found


class _CurrentCluster:
    """The cluster as it is now, beside what the plan intends for each guest.

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


def _closed(plan: Plan, snapshot: Snapshot) -> list[Refusal]:
    """A destination of the plan that has been cordoned since."""
    if all(step["destination"] != snapshot["host"] for step in plan["steps"]):
        return []
    refused = compatibility.cordon_refusal(snapshot)
    return [refused] if refused else []


def _silent(plan: Plan, now: _CurrentCluster) -> list[Refusal]:
    """Return refusals for hosts that steps still need and that gave no answer."""
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


def _misdescribed(plan: Plan, now: _CurrentCluster) -> list[Refusal]:
    """Return what a plan says of guests that move and that is not so: who reads it must know which guest it means."""
    found = []
    for step in plan["steps"]:
        here = now.at(step["guest"]["uuid"], step["source"])
        if here is not None and here["name"] != step["guest"]["name"]:
            reason = (
                f"the guest {step['guest']['uuid']} of step {step['id']} is {here['name']}, not {step['guest']['name']}"
            )
            found.append(refusal("other_guest", reason, "make a new plan"))
    return found


def _step_changed(plan: Plan, step: Step, now: _CurrentCluster) -> list[Refusal]:
    """Return what has changed about one guest. Of a guest that moves twice, only the first step is checked."""
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
    """Return a refusal if a host on the guest's way has an older QEMU now than the one before it, and had not then."""
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
