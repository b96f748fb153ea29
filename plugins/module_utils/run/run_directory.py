# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: where a run keeps its files on the source host.

from __future__ import annotations

import os
import re
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    remove_durably,
    write_durably,
)

#: A plan's id names a directory, so it may not climb out of it.
_PLAN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class RunError(Exception):
    """A run that cannot start here; ``refusal`` says why and what to do."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(f"{why['reason']}; {why['remedy']}")
        self.refusal = why


class RunDirectory:
    """The files of one run: plan, journal, progress and result."""

    def __init__(self, state_dir: str, plan_id: str) -> None:
        if not _PLAN_ID.fullmatch(plan_id):
            raise RunError(
                refusal(
                    "plan_id",
                    f"the plan's id {plan_id[:80]!r} cannot name a directory",
                    "make a new plan: ids are letters, digits, dots, dashes and underscores, at most 200",
                )
            )
        self.path = os.path.join(state_dir, "runs", plan_id)
        self.plan = os.path.join(self.path, "plan.json")
        self.journal = os.path.join(self.path, "journal.jsonl")
        self.progress = os.path.join(self.path, "progress.jsonl")
        self.result = os.path.join(self.path, "result.json")

    def make(self, plan: dict[str, t.Any]) -> None:
        """Create the directory and write the plan. The result of an earlier run of the same plan is removed."""
        make_directory(self.path)
        remove_durably(self.result)
        write_durably(self.plan, plan)
