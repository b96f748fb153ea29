# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import secrets
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan_shape import GOALS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import atomic_write, saved_cluster
from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning import planner
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_result import plan_result


class ActionModule(ControllerAction):
    """Makes a plan on the controller, out of documents only."""

    ARGUMENTS = {
        "goal": {"type": "str", "required": True, "choices": list(GOALS)},
        "hosts": {"type": "list", "elements": "str", "default": []},
        "snapshots": {"type": "raw"},
        "paths": {"type": "list", "elements": "dict", "default": []},
        "connect": {"type": "dict", "default": {}},
        "intent": {"type": "dict", "default": {}},
        "exclude": {"type": "raw"},
        "placement_rules": {"type": "list", "elements": "dict", "default": []},
        "reserve_mib": {"type": "int", "default": 256},
        "vcpu_ratio": {"type": "float"},
        "may_downgrade": {"type": "bool", "default": False},
        "spare": {"type": "str", "choices": ["off", "warn", "require"], "default": "off"},
        "may_move_others": {"type": "bool", "default": True},
        "window_s": {"type": "float"},
        "slots": {"type": "dict", "default": {}},
        "solver": {"type": "str", "choices": ["auto", "none"], "default": "auto"},
        "left": {"type": "list", "elements": "raw", "default": []},
        "at_once": {"type": "int", "default": 1},
        "rules": {"type": "dict", "default": {}},
        "weights": {"type": "dict", "default": {}},
        "resting": {"type": "list", "elements": "str", "default": []},
        "working_sets": {"type": "list", "elements": "dict"},
        "calibration": {"type": "dict"},
        "tune_network": {"type": "bool", "default": False},
        "cluster": {"type": "path"},
        "cluster_dest": {"type": "path"},
        "dest": {"type": "path"},
    }
    RULES = {"required_one_of": [("snapshots", "cluster")], "mutually_exclusive": [("snapshots", "cluster")]}

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Plan, and write plan and cluster to files where that is asked for."""
        result: dict[str, t.Any] = {}
        arguments = plain(arguments)
        now = datetime.datetime.now(datetime.UTC)
        # Before the plan is made: a cluster for which none can be made is the one to look at.
        self._save_cluster(arguments, now, result)
        try:
            if arguments["cluster"]:
                arguments.update(saved_cluster.read(Path(arguments["cluster"])))
            made = planner.make_plan(arguments, now=now, nonce=secrets.token_hex(2))
        except (plans.PlanError, intents.IntentError) as exc:
            return {**result, **_failure(exc.refusal)}
        plan = made.plan
        result.update(plan_result(plan))
        if plan["goal"]["kind"] == "upgrade":
            result["waves"] = made.waves
        if arguments["dest"]:
            # A plan is new each time, so the file always changes.
            self._put("dest", arguments["dest"], plan, result)
        return result

    def _save_cluster(self, arguments: dict[str, t.Any], now: datetime.datetime, result: dict[str, t.Any]) -> None:
        result["changed"] = False
        if arguments["cluster_dest"] and not arguments["cluster"]:
            document = saved_cluster.document(arguments, now.strftime("%Y-%m-%dT%H:%M:%SZ"))
            self._put("cluster_dest", arguments["cluster_dest"], document, result)

    def _put(self, option: str, path: str, document: t.Mapping[str, t.Any], result: dict[str, t.Any]) -> None:
        written = atomic_write.save(option, Path(path), document, write=not self._task.check_mode)
        result.update({"changed": True, option: path})
        if self._task.diff:
            header = {"before_header": path, "after_header": path}
            result.setdefault("diff", []).append({"before": written.before, "after": written.after, **header})


def _failure(why: Refusal) -> dict[str, t.Any]:
    told = refusal(why["code"], why["reason"], why["remedy"])
    return {"failed": True, "msg": f"{told['reason']}: {told['remedy']}", "refusal": dict(told)}
