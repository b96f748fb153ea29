# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Asks the source what it is about to send, has the far end permit that, and lets the source do all the rest: the guest
# stands still meanwhile, and waits for nothing that the controller does.

from __future__ import annotations

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

MODULE = "kvmops.cluster.capsule_move"
RECEIVE = "kvmops.cluster.capsule_receive"
OPEN_AGAIN = 5
EXPIRES_S = 7 * 86_400
#: Options of capsule_start, and the variables of a host that have them.
START = {
    "uri": "kvmops_cluster_uri",
    "image_dir": "kvmops_cluster_capsule_image_dir",
    "networks": "kvmops_cluster_capsule_networks",
    "allow_files": "kvmops_cluster_capsule_files",
}


class ActionModule(LiveAction):
    """Moves one guest as a capsule and shows how that goes."""

    INTERRUPT_NOTE = (
        "Unless it is being started at the far end, the guest goes on where it was. Run the same playbook again."
    )

    _far_end: dict[str, t.Any] | None = None
    _ticket = ""
    _join = ""

    def module_arguments(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        arguments = {**super().module_arguments(task_vars), "ticket": self._ticket}
        if self._join:
            arguments.update(guest=self._join, join=True)
        if self._far_end is not None:
            arguments["far_end"] = self._far_end
        return arguments

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        to = str(plain(self._task.args.get("to") or ""))
        source = self._task.delegate_to or task_vars.get("inventory_hostname")
        if not to or to == source:
            raise AnsibleError(
                f"to is {to or 'empty'}. Name the host that is to have the guest, another than {source}."
            )
        result: dict[str, t.Any] = {}
        for dummy in range(OPEN_AGAIN):
            result = self._once(tmp, task_vars, to, str(source))
            if result.pop("ended", False):
                display.warning(f"{source}: the earlier run has ended without a result. This run goes on from there.")
                continue
            if (result.get("refusal") or {}).get("code") != "ticket_gone":
                break
            display.warning(f"{to} has forgotten the permission to send. Asking for it again.")
        return result

    def _once(self, tmp: str | None, task_vars: dict[str, t.Any], to: str, source: str) -> dict[str, t.Any]:
        self._far_end, self._ticket, self._join = None, str(uuid.uuid4()), ""
        offered = self._execute_module(
            module_name=MODULE, module_args=self.module_arguments(task_vars), task_vars=task_vars
        )
        if offered.get("failed"):
            return t.cast("dict[str, t.Any]", offered)
        if offered.get("result") is not None:
            return t.cast("dict[str, t.Any]", offered["result"])
        if offered["offer"] is None:
            now, self._join = offered["running"], offered["guest"]["uuid"]
            display.display(
                clean(
                    f"{source}: an earlier run moves {offered['guest']['name']} to {to} since {now['at']} (process"
                    f" {now['pid']}); waiting for its end"
                )
            )
            return super().run(tmp, task_vars)
        other = OtherHost(self, task_vars, to)
        try:
            user = other.user()
            how = far_end.connection(other)
            answer = other.module(RECEIVE, self._question(other, user, offered, source))
            if answer.get("failed") or answer.get("unreachable"):
                return _failed(answer.get("refusal") or far_end.unreachable(to, answer.get("msg")))
            self._far_end = far_end.reached(other, user, how, answer["far_end"])
            try:
                result = super().run(tmp, task_vars)
            finally:
                self._close(other, user)
            if self._task.check_mode and not result.get("failed"):
                result["notes"] = [*result["notes"], *answer["notes"]]
            return result
        except AnsibleConnectionFailure as error:
            return _failed(far_end.unreachable(to, error))
        finally:
            other.close()

    def _question(self, other: OtherHost, user: str, offered: dict[str, t.Any], source: str) -> dict[str, t.Any]:
        offer = offered["offer"]
        given = self._task.args
        start = {key: other.variable(name) for key, name in START.items()}
        start.update({key: given[key] for key in START if key in given and key != "uri"})
        question = {
            "name": other.name,
            "ticket": self._ticket,
            "user": user,
            "public_key": offer["public_key"],
            "sender": source,
            "sender_id": offer["sender_id"],
            "guest": offered["guest"]["uuid"],
            "needs": offer["needs"],
            "signature": offer["signature"],
            "start": {key: value for key, value in start.items() if value is not None},
            "keys": given.get("keys") or other.variable("kvmops_cluster_capsule_signers") or [],
            "require_encrypted": far_end.encryption(other),
            "expires_s": EXPIRES_S,
        }
        for key in ("uri", "state_dir", "capsule_dir"):
            value = other.variable(f"kvmops_cluster_{key}")
            if value is not None:
                question[key] = value
        return question

    def _close(self, other: OtherHost, user: str) -> None:
        """End the permission. One that cannot be ended ends by itself."""
        if self._task.check_mode:
            return
        ended = {"state": "closed", "ticket": self._ticket, "user": user, "name": other.name}
        try:
            other.module(RECEIVE, ended)
        except AnsibleError as error:
            display.warning(
                clean(f"{other.name} could not be told that the move has ended ({error}). Its permission ends.")
            )


def _failed(why: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"failed": True, "msg": f"{why['reason']}: {why['remedy']}", "refusal": why}
