# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several faults in one drain, each in the move of another guest: what there is time for in every test of a change."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults.plan.cases import Case
from lab import Lab

from .case_run import FINISH_S, CaseRun, now
from .scene import Scene
from .shells import Watcher
from .strikes import STRIKES


class ChainRun(CaseRun):
    """One drain with several faults. The last of them may end the controller.

    Args:
        lab: with all guests at home.
        cases: in the order in which they strike. The phase of the first says which host is drained, and how fast.
        folder: for what is printed.
        lasts_s: so long lasts what is mended while the run goes on.
    """

    def __init__(self, lab: Lab, cases: Sequence[Case], folder: Path, lasts_s: float) -> None:
        super().__init__(lab, cases[-1], 1, folder)
        self.cases, self.lasts_s = cases, lasts_s
        self.struck: list[str] = []

    def _play(self, scene: Scene) -> str:
        before = self._before()
        self._begin(scene)
        for case in self.cases:
            self._strike_next(scene, case)
        if scene.second:
            # Its expectation is that of the case that started it.
            expect = next(case.expect for case in self.cases if case.expect.second_status)
            self._judge_second(scene, scene.second.finish(FINISH_S), expect)
            scene.second = None
        outcome = self._finish(scene)
        self._judge_run(scene, before, outcome)
        scene.mend_all()
        self._do_remedies(scene, outcome)
        self._judge_end(scene, before)
        return "failed" if self.complaints else "passed"

    def _strike_next(self, scene: Scene, case: Case) -> None:
        wanted: dict[str, Any] = {**(case.phase.begins.wanted() if case.phase.begins else {}), "hold": case.phase.hold}
        watcher = Watcher(self.lab.host(scene.source), {**wanted, "others_than": self.struck[-1:], "all_runs": True})
        try:
            if scene.drain is None:
                scene.drain = scene.operator.start("drain_host", **scene.variables)
            reached = self._await(scene, watcher)
            if reached is None:
                self.complaints.append(f"{case.name}: the phase did not come")
                return
            scene.struck = self._struck(scene, reached)
            STRIKES[case.fault.name](scene)
            watcher.let_go()
        finally:
            watcher.end()
        self.struck.append(scene.struck.guest)
        self.done.append(f"{now()} {case.name}: {scene.struck.guest}")
        if case.fault.lasts_s:
            self._hold(scene)

    def _hold(self, scene: Scene) -> None:
        ends = time.monotonic() + self.lasts_s
        while time.monotonic() < ends:
            time.sleep(0.1)
        scene.mend_all()
