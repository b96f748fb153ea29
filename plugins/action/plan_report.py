# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import time
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import report_files
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import formats
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.commands import again


class ActionModule(ControllerAction):
    """Writes a plan as a page, and in other formats."""

    ARGUMENTS = {
        "plan": {"type": "dict", "required": True},
        "snapshots": {"type": "dict", "default": {}},
        "working_sets": {"type": "list", "elements": "dict", "default": []},
        "directory": {"type": "path", "required": True},
        "formats": {
            "type": "list",
            "elements": "str",
            "choices": ["json", "html", "markdown", "junit", "csv"],
            "default": ["html"],
        },
        "mode": {"type": "raw", "default": "0600"},
        "keep": {"type": "int", "default": 500},
        "keep_days": {"type": "float", "default": 365},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Write the files, and say where they are."""
        arguments = plain(arguments)
        try:
            plan = read_plan(arguments["plan"])
        except plans.PlanError as error:
            raise AnsibleActionFail(str(error)) from None
        measured = [one for one in arguments["working_sets"] if shape.fits(document_shapes.WORKING_SET, one)]
        texts = formats.plan_texts(
            plan,
            arguments["formats"],
            arguments["snapshots"],
            {one["guest"]["uuid"]: one for one in measured},
            again(plan["goal"], variables.get("ansible_inventory_sources") or ()),
        )
        directory = Path(arguments["directory"])
        paths = {name: directory / formats.file_name(plan["id"], name, is_plan=True) for name in texts}
        if paths and not self._task.check_mode:
            mode = report_files.mode_of(arguments["mode"])
            for name, path in paths.items():
                report_files.write(path, texts[name], mode)
            limits = report_files.Limits(arguments["keep"], arguments["keep_days"])
            report_files.remove_old(directory, limits, time.time())
            Display().display(visible(f"The plan is in {', '.join(map(str, paths.values()))}"))
        return {"changed": False, "paths": {name: str(path) for name, path in paths.items()}}
