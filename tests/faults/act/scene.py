# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a strike has at hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from faults.judge.deaths import Struck
from harness.ansible import Running
from harness.operator import Operator
from lab import Lab

from .shells import Shells


@dataclass
class Scene:
    """A lab with a run under way.

    Attributes:
        lab: the lab.
        operator: Alice, who drains.
        other: Bob, who comes in between.
        shells: a shell on each host.
        drain: Alice's run, once it is started.
        struck: where and when the fault struck.
        variables: of Alice's playbook.
        mend: what undoes the fault, the last one first.
        second: Bob's run.
    """

    lab: Lab
    operator: Operator
    other: Operator
    shells: Shells
    struck: Struck
    drain: Running | None = None
    variables: dict[str, object] = field(default_factory=dict)
    mend: list[Callable[[], None]] = field(default_factory=list)
    second: Running | None = None

    @property
    def source(self) -> str:
        """The host that is drained."""
        return self.struck.source

    @property
    def destination(self) -> str:
        """Where the struck guest goes."""
        return self.struck.destination

    @property
    def running(self) -> Running:
        """Alice's run."""
        if self.drain is None:
            raise RuntimeError("nothing was started")
        return self.drain

    def mend_all(self) -> None:
        """Undo what the fault has done."""
        while self.mend:
            self.mend.pop()()
