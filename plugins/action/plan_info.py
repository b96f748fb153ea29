# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Goal, Plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import IntentError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan_limits
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan_shape import GOALS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.report import goal_words
from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks import plan_freshness
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_result import plan_result
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean


class ActionModule(ControllerAction):
    """Reads a plan from a file, and refuses one that is not for this cluster as it is now."""

    ARGUMENTS = {
        "path": {"type": "path", "required": True},
        "snapshots": {"type": "dict"},
        "connect": {"type": "dict"},
        "intent": {"type": "dict"},
        "sha256": {"type": "str"},
        "goal": {"type": "str", "choices": list(GOALS)},
        "hosts": {"type": "list", "elements": "str"},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Read, check, and return what migration_plan returned when the plan was made."""
        arguments = plain(arguments)
        path, snapshots = Path(arguments["path"]), arguments["snapshots"]
        try:
            data = path.read_bytes()
            if arguments["sha256"]:
                plan_limits.check_digest(data, arguments["sha256"])
            plan = read_plan(data)
            _check_goal(plan, arguments["goal"], arguments["hosts"])
            if arguments["connect"] is not None:
                plan = plan_limits.with_known_addresses(plan, arguments["connect"])
            if arguments["intent"] is not None:
                plan_limits.check_permissions(plan, arguments["intent"])
            stale = None if snapshots is None else plan_freshness.stale_result(plan, snapshots, str(path))
        except OSError as error:
            raise AnsibleActionFail(f"The plan {path} cannot be read: {error.strerror}.") from None
        except (plans.PlanError, IntentError) as error:
            raise AnsibleActionFail(f"The plan {path} cannot be used: {clean(str(error))}.") from None
        if stale:
            return stale
        return {"changed": False, "changes": [], **plan_result(plan)}


def _check_goal(plan: Plan, kind: str | None, hosts: t.Sequence[str] | None) -> None:
    """Refuse a plan for something else than what is being done."""
    goal = plan["goal"]
    if (kind is not None and goal["kind"] != kind) or (hosts is not None and sorted(goal["hosts"]) != sorted(hosts)):
        wanted: Goal = {"kind": kind or goal["kind"], "hosts": list(hosts or ())}
        raise plans.PlanError(
            "other_goal",
            f"it is for the {goal_words(goal)}, not for the {goal_words(wanted)}",
            "give the plan that was made for that",
        )
