# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import datetime
import json
import os
import pathlib
import secrets
import tempfile
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core import planning
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Goal, Plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB
from ansible_collections.kvmops.cluster.plugins.plugin_utils.plain import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.selection import select
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import plan_lines

# Must be kept in sync with plugins/modules/migration_plan.py.
ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "goal": {"type": "str", "required": True, "choices": list(planning.GOALS)},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "snapshots": {"type": "raw", "required": True},
    "paths": {"type": "list", "elements": "dict", "default": []},
    "connect": {"type": "dict", "default": {}},
    "intent": {"type": "dict", "default": {}},
    "exclude": {"type": "raw"},
    "reserve_mib": {"type": "int", "default": 256},
    "left": {"type": "list", "elements": "raw", "default": []},
    "dest": {"type": "path"},
}


class ActionModule(ActionBase):
    """Makes a plan on the controller, out of documents only."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Plan, and write the plan to a file where that is asked for."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        _validation, validated = self.validate_argument_spec(argument_spec=ARGUMENTS)
        arguments = plain(validated)
        try:
            plan = make_plan(arguments, now=datetime.datetime.now(datetime.UTC), nonce=secrets.token_hex(2))
        except (plans.PlanError, intents.IntentError) as exc:
            return {**result, **_failure(exc.refusal)}
        result.update(
            changed=False,
            plan=plan,
            table=plan_lines(plan),
            blocked=[stay for stay in plan["stays"] if any(r["code"] != "excluded" for r in stay["refusals"])],
        )
        if arguments["dest"]:
            check_mode, diff = self._task.check_mode, self._task.diff
            result.update(_write(pathlib.Path(arguments["dest"]), plan, write=not check_mode, diff=diff))
        return result


def make_plan(arguments: t.Mapping[str, t.Any], *, now: datetime.datetime, nonce: str) -> Plan:
    """Turn the task's arguments into a plan."""
    if arguments["reserve_mib"] < 0:
        raise plans.PlanError("reserve", f"reserve_mib is {arguments['reserve_mib']}", "give 0 or more")
    run_intent = intents.stated(arguments["intent"], whose="intent")
    snapshots = planning.by_host(_documents(arguments["snapshots"]))
    excluded = select(arguments["exclude"], snapshots)
    placement, off = planning.make(
        arguments["goal"],
        arguments["hosts"],
        snapshots,
        intent=run_intent,
        paths=arguments["paths"],
        reserve_bytes=arguments["reserve_mib"] * MIB,
        excluded=excluded,
        left=arguments["left"],
    )
    goal: Goal = {"kind": arguments["goal"], "hosts": list(arguments["hosts"])}
    created_at = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return plans.build(
        plan_id=plans.new_id(goal, created_at, nonce),
        goal=goal,
        created_at=created_at,
        intent=run_intent,
        snapshots=snapshots,
        connect=arguments["connect"],
        placement=placement,
        off=off,
    )


def _documents(snapshots: t.Any) -> t.Any:
    if isinstance(snapshots, t.Mapping) and "schema" not in snapshots:
        return snapshots
    if isinstance(snapshots, t.Sequence) and not isinstance(snapshots, (str, bytes)):
        return snapshots
    raise plans.PlanError(
        "not_a_snapshot",
        "snapshots must be a list of snapshots, or a mapping of hosts to snapshots",
        "give what host_info returned as snapshot on each host",
    )


def _write(path: pathlib.Path, plan: Plan, *, write: bool, diff: bool) -> dict[str, t.Any]:
    """Put the plan into a file, whole or not at all. A plan is new each time, so the file always changes."""
    text = json.dumps(plan, indent=2, ensure_ascii=False) + "\n"
    result: dict[str, t.Any] = {"changed": True, "dest": str(path)}
    if diff:
        before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        result["diff"] = {"before": before, "after": text, "before_header": str(path), "after_header": str(path)}
    if not path.parent.is_dir():
        raise AnsibleError(f"dest: the directory {path.parent} does not exist on the controller: create it first")
    if path.is_dir():
        raise AnsibleError(f"dest: {path} is a directory: give the name of a file")
    if write:
        try:
            _replace(path, text)
        except OSError as exc:
            raise AnsibleError(f"dest: {path} cannot be written: {exc.strerror}") from exc
    return result


def _replace(path: pathlib.Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        pathlib.Path(temporary).chmod(0o644)
        pathlib.Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            pathlib.Path(temporary).unlink()
        raise


def _failure(why: Refusal) -> dict[str, t.Any]:
    told = refusal(why["code"], why["reason"], why["remedy"])
    return {"failed": True, "msg": f"{told['reason']}: {told['remedy']}", "refusal": dict(told)}
