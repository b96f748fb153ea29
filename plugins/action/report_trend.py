# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.trend import TREND, trend
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import report_files
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_action import ControllerAction
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.plain_values import plain
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import trend_view

#: The names of the files. No report has such a name.
NAME = "reports"


class ActionModule(ControllerAction):
    """Shows old reports side by side."""

    ARGUMENTS = {
        "path": {"type": "path", "required": True},
        "formats": {"type": "list", "elements": "str", "choices": ["html", "csv"], "default": ["html"]},
        "mode": {"type": "raw", "default": "0600"},
    }

    def result(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Read, show, and write."""
        path = Path(arguments["path"])
        points = trend(_reports(path))
        if not points:
            raise AnsibleActionFail(
                f"There is no report in {path}. Give the folder that a drain has named as its report's."
            )
        for line in trend_view.trend_lines(points):
            Display().display(visible(line))
        folder = path if path.is_dir() else path.parent
        makers: dict[str, t.Callable[[], str]] = {
            "html": lambda: trend_view.trend_html(points, {page.name for page in folder.glob("*.html")}),
            "csv": lambda: trend_view.trend_csv(points),
        }
        paths = {name: folder / f"{NAME}.{name}" for name in arguments["formats"]}
        if paths and not self._task.check_mode:
            mode = report_files.mode_of(plain(arguments["mode"]))
            for name, file in paths.items():
                report_files.write(file, makers[name](), mode)
            Display().display(visible(f"Side by side: {', '.join(map(str, paths.values()))}"))
        runs = [dataclasses.asdict(point) for point in points]
        return {"changed": False, "paths": {name: str(file) for name, file in paths.items()}, "runs": runs}


def _reports(path: Path) -> list[dict[str, t.Any]]:
    """The reports that can be read; of others a warning is shown."""
    found = []
    for report in report_files.read_reports(path):
        if shape.fits(TREND, report):
            found.append(report)
        else:
            told = visible(f"The report on {report.get('plan')} is left out: parts of it are not as they should be.")
            Display().warning(told, formatted=True)
    return found
