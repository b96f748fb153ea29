# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import IntentError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan_limits
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.input_checks import by_host
from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks import plan_freshness
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play import registered_results
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.operator_name import operator_name
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.live_action import LiveAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.progress_lines import color_of, phrase
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean

display = Display()


class ActionModule(LiveAction):
    """Carries out one host's steps of a plan and shows how they go."""

    _peeking = False

    IN_PLACE = True
    INTERRUPT_NOTE = (
        "No further move starts there; the move in flight completes. Run the same playbook again to continue."
    )

    def module_arguments(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        arguments = {"owner": operator_name(), **super().module_arguments(task_vars)}
        for option in ("snapshots", "intent", "sha256"):
            arguments.pop(option, None)
        path = arguments.pop("plan_path", None)
        if path or arguments.get("plan"):
            arguments["plan"], arguments["connect"] = self._accepted(path, arguments.get("plan"), task_vars)
        return arguments

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        stale = self._stale(task_vars or {})
        if stale:
            return stale
        # Whether there is a run to join can be told at once; only then is it worth a job.
        if boolean(self._task.args.get("attach_only", False)):
            self._peeking = True
            peeked = super().run(tmp, task_vars)
            self._peeking = False
            if self._task.check_mode or peeked.get("failed") or not peeked["run"]["attached"]:
                return peeked
        result = super().run(tmp, task_vars)
        if self._task.check_mode:
            self._show(result.get("results") or [], self.module_arguments(task_vars or {}))
        return result

    def _stale(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any] | None:
        """A failed result where the cluster is not what the plan was made for; None where it is, or nobody says."""
        given = plain(self._task.args.get("snapshots"))
        plan = self.module_arguments(task_vars).get("plan")
        if given is None or not plan:
            return None
        try:
            document = read_plan(plain(plan))
            found = plan_freshness.stale_result(document, by_host(given), f"plan {document['id']}")
        except plans.PlanError as error:
            raise AnsibleError(f"The plan cannot be used: {clean(str(error))}") from None
        return {**found, "results": [], "run": {"plan": document["id"], "attached": False}} if found else None

    def _show(self, results: list[dict[str, t.Any]], arguments: dict[str, t.Any]) -> None:
        """Show what a check has found, as the live lines show what is done."""
        steps = (arguments.get("plan") or {}).get("steps") or []
        planned = {step["id"]: step["strategy"] for step in steps if step.get("forecast")}
        for result in results:
            line = forecast_text.check_line(result, planned.get(result["step"]))
            display.display(phrase(str(arguments["name"]), line), color=color_of(line))

    def is_short(self, arguments: dict[str, t.Any]) -> bool:
        return self._peeking

    def _accepted(
        self, path: str | None, given: t.Any, task_vars: dict[str, t.Any]
    ) -> tuple[dict[str, t.Any], dict[str, t.Any]]:
        """The plan, which leads nowhere else than the inventory, and permits no more than the task says; and where the
        inventory leads.
        """
        what = f"plan {path}" if path else "plan"
        intent = plain(self._task.args.get("intent"))
        try:
            if path:
                with open(self._loader.path_dwim(path), "rb") as file:
                    given = file.read()
                if self._task.args.get("sha256"):
                    plan_limits.check_digest(given, str(self._task.args["sha256"]))
            plan = read_plan(given if path else plain(given))
            connect = plain(self._task.args.get("connect")) or _addresses(plan["hosts"], task_vars)
            plan = plan_limits.with_known_addresses(plan, connect)
            if intent is not None:
                plan_limits.check_permissions(plan, intent)
        except OSError as error:
            raise AnsibleError(f"The {what} cannot be read: {error.strerror}.") from None
        except (plans.PlanError, IntentError) as error:
            raise AnsibleError(f"The {what} cannot be used: {clean(str(error))}") from None
        return t.cast("dict[str, t.Any]", json.loads(json.dumps(plan))), connect


def _addresses(of_plan: t.Iterable[str], task_vars: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """The addresses of all hosts of the play and of the plan, as far as the inventory has them."""
    hostvars = task_vars.get("hostvars") or {}
    hosts = dict.fromkeys([*(task_vars.get("ansible_play_hosts_all") or ()), *of_plan])
    return {host: registered_results.connection(host, hostvars[host]) for host in hosts if host in hostvars}
