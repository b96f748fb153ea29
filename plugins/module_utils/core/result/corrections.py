# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What was put right after a move that both sides confirm, and what is still wrong although the guest has moved."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, sentence

#: The code of the fault after which a run sends no further guest to that destination.
HOOK_STOPS = "hook_stops"


@dataclasses.dataclass
class Corrections:
    """What a move did not bring by itself.

    Attributes:
        done: what was put right, in words.
        notes: what the operator should know and need not act on, in words.
        faults: what is still wrong, and the command that puts it right.
    """

    done: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    faults: list[Refusal] = dataclasses.field(default_factory=list)

    def add(self, other: Corrections) -> None:
        """Take over what another one has."""
        self.done += other.done
        self.notes += other.notes
        self.faults += other.faults

    @property
    def error(self) -> str | None:
        """The faults as the error of a result, or None."""
        return faults_in_words(self.faults)


def faults_in_words(faults: t.Sequence[Refusal]) -> str | None:
    """What is wrong with a guest that has moved, in one sentence; None where nothing is.

    >>> faults_in_words([refusal("autostart", "web1 does not start with h2", "virsh autostart web1 on h2")])
    'it has moved, but web1 does not start with h2: virsh autostart web1 on h2'
    """
    return f"it has moved, but {'; '.join(sentence(fault) for fault in faults)}" if faults else None
