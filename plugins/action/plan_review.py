# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import atomic_write
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import plan_review


class ActionModule(ControllerAction):
    """Writes a plan for review: the plan itself, JUnit XML and Markdown."""

    ARGUMENTS = {
        "plan": {"type": "dict", "required": True},
        "directory": {"type": "path", "required": True},
        "name": {"type": "str"},
        "apply": {"type": "str", "required": True},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Write the three files, and say where they are."""
        arguments = plain(arguments)
        try:
            plan = read_plan(arguments["plan"])
        except plans.PlanError as error:
            raise AnsibleActionFail(str(error)) from None
        stem = Path(arguments["directory"]) / (arguments["name"] or plan["goal"]["kind"])
        paths = {kind: str(stem.with_name(f"{stem.name}.{kind}")) for kind in ("json", "xml", "md")}
        text = json.dumps(plan, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        digest = hashlib.sha256(atomic_write.encoded(text)).hexdigest()
        apply = arguments["apply"].replace("PLAN", paths["json"]).replace("DIGEST", digest)
        texts = {"json": text, "xml": plan_review.junit(plan), "md": plan_review.markdown(plan, apply)}
        changed = [kind for kind, path in paths.items() if _differs(Path(path), texts[kind])]
        if not self._task.check_mode:
            _write({Path(paths[kind]): texts[kind] for kind in changed})
        return {"changed": bool(changed), "paths": paths, "sha256": digest, "summary": plan_review.summary(plan)}


def _differs(path: Path, text: str) -> bool:
    try:
        return atomic_write.content(path) != atomic_write.encoded(text).decode("utf-8")
    except OSError:
        return True


def _write(texts: t.Mapping[Path, str]) -> None:
    for path, text in texts.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_write.replace(path, text)
        except OSError as error:
            raise AnsibleActionFail(f"{path} cannot be written: {error.strerror}. Give another directory.") from None
