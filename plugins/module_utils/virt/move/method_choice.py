# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: chooses the method of a move from what the hosts say and from what is known of past moves.

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import keeps_holes, to_copy
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy import available_methods
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Appraisal, appraise
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision, Path, decide
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move import past_moves
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.fallback import FallbackHistory
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.preconditions import Answers
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings


class MethodChoice:
    """Chooses methods for the moves of a run.

    Args:
        settings: of all moves.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def appraise(
        self, step: Step, answers: Answers, failed: FallbackHistory | None = None, *, freed_bytes: int = 0
    ) -> Appraisal:
        """What each method will cost, and which one is the best.

        Args:
            step: of the plan.
            answers: of both hosts, without refusals.
            failed: the attempts of this move that failed; None before the first one.
            freed_bytes: of the guest's memory, freed since it was measured.
        """
        known = past_moves.load(self._settings, step, freed_bytes=freed_bytes)
        if failed:
            known = failed.applied_to(known)
        return appraise(
            answers.guest,
            answers.source,
            answers.destination,
            answers.intent,
            known,
            disks=[{**disk, "copy_bytes": disk["copy_bytes"] or 0} for disk in to_copy(answers.guest, answers.intent)],
            tried=failed.methods if failed else (),
        )

    def decide(self, step: Step, answers: Answers, appraised: Appraisal) -> Decision:
        """How the guest is moved: flags and parameters of the method that was chosen."""
        path = self._path(step, postcopy=available_methods.cannot_send_postcopy(answers.source) is None)
        return decide(
            answers.intent,
            path,
            appraised.choice,
            persistent=bool(answers.guest["persistent"]),
            in_use_bytes=int(appraised.working_set["touched_bytes"]),
            disks_to_copy=to_copy(answers.guest, answers.intent),
            keeps_holes=keeps_holes(answers.source, answers.destination),
            link=appraised.link,
        )

    def decide_adopted(self, step: Step, *, persistent: bool) -> Decision:
        """How a migration goes on that another run began."""
        intent = intents.normalise(step["intent"])
        # Whether it may switch to post-copy, only libvirt knows; it refuses where it may not. Whether that could be
        # resumed, nobody has asked.
        path = self._path(step, postcopy=intent["allow_postcopy"] is True)
        return decide(intent, path, None, persistent=persistent)

    def _path(self, step: Step, *, postcopy: bool) -> Path:
        known = self._settings.destinations[step["destination"]]
        return Path(
            connect_uri=known["connect_uri"], migration_address=known.get("migration_address"), postcopy=postcopy
        )


def with_time_left(answers: Answers, elapsed_s: float) -> Answers | None:
    """The same answers with what is left of the deadline, which is one for all attempts; None when nothing is left."""
    deadline_s = answers.intent["deadline_s"]
    if deadline_s is None:
        return answers
    left_s = int(deadline_s - elapsed_s)
    return dataclasses.replace(answers, intent={**answers.intent, "deadline_s": left_s}) if left_s >= 1 else None
