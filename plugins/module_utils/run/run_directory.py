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
        self.id = plan_id
        self.path = os.path.join(state_dir, "runs", plan_id)
        self.plan = os.path.join(self.path, "plan.json")
        self.journal = os.path.join(self.path, "journal.jsonl")
        self.progress = os.path.join(self.path, "progress.jsonl")
        self.result = os.path.join(self.path, "result.json")
        #: there if all that the journal says of guests is in the index (guest_runs.py)
        self.indexed = os.path.join(self.path, "indexed")

    def make(self, plan: dict[str, t.Any]) -> None:
        """Create the directory and write the plan. The result of an earlier run of the same plan is removed."""
        make_directory(self.path)
        remove_durably(self.result)
        write_durably(self.plan, plan)

    @property
    def is_indexed(self) -> bool:
        """Whether the index of guests has this run."""
        return os.path.exists(self.indexed)

    def mark_indexed(self) -> None:
        """Say that the index has it. A mark that is lost costs time and nothing else."""
        os.close(os.open(self.indexed, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def all_runs(state_dir: str) -> list[RunDirectory]:
    """The runs of a host, by the names of their directories. What is no run, such as lost+found, is left out.

    Raises: OSError when they cannot be read.
    """
    folder = os.path.join(state_dir, "runs")
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    return [RunDirectory(state_dir, name) for name in names if _PLAN_ID.fullmatch(name)]
