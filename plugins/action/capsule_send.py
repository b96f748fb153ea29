# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The part of capsule_send on the controller. It has trusted connections to all hosts, so it tells each what the other
# is: the source makes a key, the far ends permit that key to send this one capsule, and the source is told their keys.

from __future__ import annotations

import itertools
import typing as t
import uuid

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import far_end
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.other_host import OtherHost
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_action import LiveAction

display = Display()

MODULE = "kvmops.cluster.capsule_send"
RECEIVE = "kvmops.cluster.capsule_receive"
#: Those of its options that the module on the far end has as well.
FOR_FAR_END = ("allow_older", "seed_from", "disks")
#: Options that each host has for itself, and the variables of the inventory that have them.
OF_EACH_HOST = {
    "uri": "kvmops_cluster_uri",
    "capsule_dir": "kvmops_cluster_capsule_dir",
    "state_dir": "kvmops_cluster_state_dir",
}
#: A permission lasts for three times what the send should take, and a day.
LEAST_EXPIRES_S, MOST_EXPIRES_S = 86_400, 90 * 86_400
#: A far end that has started anew has forgotten the permission. It is asked again, so many times.
OPEN_AGAIN = 5
MIB = 1024**2


class ActionModule(LiveAction):
    """Sends a capsule and shows how that goes."""

    INTERRUPT_NOTE = "The send stops. Run the same playbook again: it goes on from what has come."

    _far_ends: list[dict[str, t.Any]] | None = None
    _ticket = ""

    def module_arguments(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        arguments = {**super().module_arguments(task_vars), "ticket": self._ticket}
        if self._far_ends is not None:
            arguments["far_ends"] = self._far_ends
        return arguments

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        to, via = self._hosts(task_vars)
        first = [via] if via else to
        result = self._send_first(tmp, task_vars, first)
        if via is not None and len(to) > 1:
            result = self._through(tmp, task_vars, result, via, [host for host in to if host != via])
        result.pop("offer", None)
        return result

    def _through(
        self, tmp: str | None, task_vars: dict[str, t.Any], result: dict[str, t.Any], via: str, rest: list[str]
    ) -> dict[str, t.Any]:
        passed = [row for row in result.get("hosts") or [] if row["outcome"] in ("sent", "there", "would_send")]
        if self._task.check_mode or result.get("failed") or not passed:
            result["hosts"] = [*(result.get("hosts") or []), *self._not_passed_on(task_vars, result, via, rest)]
            return result
        return self._passed_on(tmp, task_vars, result, via, rest)

    def _hosts(self, task_vars: dict[str, t.Any]) -> tuple[list[str], str | None]:
        """To whom, and through whom."""
        given = plain(self._task.args.get("to") or [])
        to = [str(host) for host in ([given] if isinstance(given, str) else given)]
        via = plain(self._task.args.get("via"))
        source = self._task.delegate_to or task_vars.get("inventory_hostname")
        if not to:
            raise AnsibleError("to has no host. Name those that are to have the capsule.")
        if source in to:
            raise AnsibleError(f"{source} is to send the capsule, and is in to as well. Take it out of to.")
        if len(set(to)) != len(to):
            raise AnsibleError("to names a host twice. Name each host once.")
        if via is not None and via not in to:
            raise AnsibleError(f"via is {via}, which is not in to. It keeps what it passes on: add it to to.")
        return to, str(via) if via is not None else None

    # From this task's host

    def _send_first(self, tmp: str | None, task_vars: dict[str, t.Any], hosts: list[str]) -> dict[str, t.Any]:
        for again in itertools.count(1):
            result = self._send_once(tmp, task_vars, hosts)
            gone = [
                row["host"] for row in result.get("hosts") or [] if (row["refusal"] or {}).get("code") == "ticket_gone"
            ]
            if not gone or again == OPEN_AGAIN:
                return result
            display.warning(f"{', '.join(gone)} has forgotten the permission to send. Asking for it again.")
        raise AssertionError("unreachable")

    def _send_once(self, tmp: str | None, task_vars: dict[str, t.Any], hosts: list[str]) -> dict[str, t.Any]:
        self._far_ends, self._ticket = None, str(uuid.uuid4())
        offered = self._execute_module(
            module_name=MODULE, module_args=self.module_arguments(task_vars), task_vars=task_vars
        )
        if offered.get("failed"):
            return t.cast("dict[str, t.Any]", offered)
        send = _Send(self, task_vars, offered, self._ticket)
        try:
            rows, far_ends = send.open(hosts)
            if not far_ends:
                return send.result(rows)
            self._far_ends = far_ends
            result = super().run(tmp, task_vars)
            return send.merged(rows, result)
        finally:
            send.close()

    # Through another host

    def _not_passed_on(
        self, task_vars: dict[str, t.Any], result: dict[str, t.Any], via: str, rest: list[str]
    ) -> list[dict[str, t.Any]]:
        """Rows of the hosts that have not got it, because the host before them has not, or in check mode."""
        offer = result.get("offer")
        if self._task.check_mode and offer and not result.get("failed"):
            # What via will have then, it does not have yet; what this host would send is the same.
            send = _Send(self, task_vars, result, "")
            try:
                rows, far_ends = send.open(rest)
                self._far_ends = far_ends
                if far_ends:
                    checked = super().run(None, task_vars)
                    rows = send.merged(rows, checked)["hosts"]
                return [{**row, "source": via} for row in rows]
            finally:
                send.close()
        why = {
            "code": "via_failed",
            "reason": f"{via} has not got the capsule, so it cannot pass it on",
            "remedy": f"see why {via} has not got it; run capsule_send again",
        }
        return [{**_row(host, via), "outcome": "refused", "refusal": why} for host in rest]

    def _passed_on(
        self, tmp: str | None, task_vars: dict[str, t.Any], result: dict[str, t.Any], via: str, rest: list[str]
    ) -> dict[str, t.Any]:
        other = OtherHost(self, task_vars, via)
        given = self._task.args
        arguments = {key: given[key] for key in given if key not in ("via", "seed_from", "name", *OF_EACH_HOST)}
        arguments.update(_own(other, given), to=rest, guest=result["guest"]["uuid"], number=result["number"])
        try:
            passed = other.action(ActionModule, arguments).run(tmp, other.variables)
        finally:
            other.close()
        rows = [*(result.get("hosts") or []), *(passed.get("hosts") or [])]
        if not passed.get("hosts"):
            why = passed.get("refusal") or {"code": "via_failed", "reason": str(passed.get("msg")), "remedy": ""}
            rows += [{**_row(host, via), "outcome": "refused", "refusal": why} for host in rest]
        changed = bool(result.get("changed")) or bool(passed.get("changed"))
        merged = {**result, "hosts": rows, "changed": changed}
        if passed.get("failed"):
            merged.update(failed=True, msg=passed.get("msg"), refusal=passed.get("refusal"))
        return merged


class _Send:
    """One send from one host to some others.

    Args:
        action: of the task.
        task_vars: of the task.
        offered: what the module on the source has said of the capsule.
        ticket: id of the permissions; empty: nothing is to be permitted.
    """

    def __init__(
        self, action: ActionModule, task_vars: dict[str, t.Any], offered: dict[str, t.Any], ticket: str
    ) -> None:
        self._action = action
        self._vars = task_vars
        self._offered = offered
        self._ticket = ticket
        self._source = str(action._task.delegate_to or task_vars.get("inventory_hostname"))
        self._opened: list[tuple[OtherHost, str]] = []
        self._seeded: dict[str, list[str]] = {}

    def open(self, hosts: list[str]) -> tuple[list[dict[str, t.Any]], list[dict[str, t.Any]]]:
        """Ask each host; returns the rows of those to which nothing is sent, and how the others are reached."""
        rows, far_ends = [], []
        for host in hosts:
            other = OtherHost(self._action, self._vars, host)
            try:
                reached, row = self._ask(other)
            except AnsibleConnectionFailure as error:
                reached, row = None, _refused(host, self._source, far_end.unreachable(host, error))
            if reached is not None:
                far_ends.append(reached)
            if row is not None:
                rows.append(row)
        return rows, far_ends

    def _ask(self, other: OtherHost) -> tuple[dict[str, t.Any] | None, dict[str, t.Any] | None]:
        user = other.user()
        how = far_end.connection(other)
        answer = other.module(RECEIVE, self._question(other, user, how))
        if answer.get("failed") or answer.get("unreachable"):
            why = answer.get("refusal") or far_end.unreachable(other.name, answer.get("msg"))
            other.close()
            return None, _refused(other.name, self._source, why)
        self._seeded[other.name] = answer["seeded"]
        if answer["there"]:
            other.close()
            return None, {**_row(other.name, self._source), "seeded": answer["seeded"]}
        self._opened.append((other, user))
        wanted = {key: answer[key] for key in ("there", "wanted", "free_bytes")}
        return {**far_end.reached(other, user, how, answer["far_end"]), "wanted": wanted}, None

    def _question(self, other: OtherHost, user: str, how: dict[str, t.Any]) -> dict[str, t.Any]:
        offer = self._offered["offer"]
        given = self._action._task.args
        expected_s = offer["image_bytes"] / (48_000 if how["bandwidth_mib_s"] is None else how["bandwidth_mib_s"] * MIB)
        return {
            **{key: given[key] for key in FOR_FAR_END if key in given},
            **_own(other, {key: given[key] for key in ("capsule_dir", "state_dir") if key in given}),
            "keys": given.get("keys") or other.variable("kvmops_cluster_capsule_signers") or [],
            "name": other.name,
            "ticket": self._ticket or str(uuid.uuid4()),
            "user": user,
            "public_key": offer["public_key"] if self._ticket else None,
            "sender": self._source,
            "sender_id": offer["sender_id"],
            "document": offer["document"],
            "signature": offer["signature"],
            "cpu": offer.get("cpu"),
            "require_encrypted": far_end.encryption(other),
            "expires_s": int(min(MOST_EXPIRES_S, LEAST_EXPIRES_S + 3 * expected_s)),
        }

    def close(self) -> None:
        """End the permissions. One that cannot be ended ends by itself."""
        for other, user in self._opened:
            try:
                if not self._action._task.check_mode and self._ticket:
                    ended = {"state": "closed", "ticket": self._ticket, "user": user, "name": other.name}
                    other.module(RECEIVE, ended)
            except AnsibleError as error:
                display.warning(
                    clean(f"{other.name} could not be told that the send has ended ({error}). Its permission ends.")
                )
            finally:
                other.close()
        self._opened = []

    def merged(self, rows: list[dict[str, t.Any]], sent: dict[str, t.Any]) -> dict[str, t.Any]:
        """The result, with the rows of hosts to which nothing was sent."""
        for row in sent.get("hosts") or []:
            row["seeded"] = self._seeded.get(row["host"], [])
        return self.result([*rows, *(sent.get("hosts") or [])], sent)

    def result(self, rows: list[dict[str, t.Any]], sent: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The result of all rows."""
        sent = sent or {}
        named = {key: self._offered[key] for key in ("guest", "number", "digest")}
        changed = any(row["seeded"] or row["outcome"] in ("sent", "would_send") for row in rows)
        result = {**sent, **named, "hosts": rows, "changed": changed or bool(sent.get("changed"))}
        if self._action._task.check_mode:
            result["offer"] = self._offered["offer"]
        refused = [row for row in rows if row["refusal"]]
        if refused:
            texts = [f"{row['host']}: {row['refusal']['reason']}: {row['refusal']['remedy']}" for row in refused]
            result.update(failed=True, msg="; ".join(texts), refusal=refused[0]["refusal"])
        return result


def _own(other: OtherHost, given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The options that a host has for itself: as the inventory says it of that host, else as the task says it."""
    found = {key: other.variable(name) for key, name in OF_EACH_HOST.items()}
    found = {key: value if value is not None else given.get(key) for key, value in found.items()}
    return {key: value for key, value in found.items() if value is not None}


def _row(host: str, source: str) -> dict[str, t.Any]:
    """The row of a host to which nothing is sent, as it has all."""
    return {
        "host": host,
        "source": source,
        "outcome": "there",
        "sent": 0,
        "avoided_by": dict.fromkeys(("base", "zero", "balloon", "previous", "hash"), 0),
        "full_because": [],
        "bytes_out": 0,
        "bytes_back": 0,
        "seconds": 0.0,
        "interruptions": 0,
        "resumed_bytes": 0,
        "images": [],
        "seeded": [],
        "refusal": None,
    }


def _refused(host: str, source: str, why: dict[str, t.Any]) -> dict[str, t.Any]:
    return {**_row(host, source), "outcome": "refused", "refusal": why}
