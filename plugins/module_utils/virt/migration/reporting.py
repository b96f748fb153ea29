# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: reports what happens during a move: events for the journal, lines for the progress.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.reaction import Reaction
from ansible_collections.kvmops.cluster.plugins.module_utils.core.control.sample import (
    Sample,
    disk_percent_done,
    is_nearly_over,
    mib,
    percent_done,
    seconds_left,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import Choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

#: Events that must be in the journal before what they announce is done.
BEGINNINGS = ("step.started", "migration.started")


class JournalWriter(t.Protocol):
    """Keeps events. C(run.journal.Journal) is one."""

    def write(self, event: str, *, step: Step | None = None, durable: bool = True, **data: t.Any) -> None:
        """Keep one event."""


class ProgressWriter(t.Protocol):
    """Shows lines. C(run.progress.Progress) is one."""

    def write(self, phase: str, message: str, *, step: Step | None = None, level: int = 0, **figures: t.Any) -> None:
        """Show one line."""

    def due(self, step: Step, phase: str) -> bool:
        """Whether it is time for the next line about this guest."""


class LinkSignals(t.NamedTuple):
    """Who is told how far a move is.

    Attributes:
        transferred: called when the guest's memory is transferred and the link is free.
        nearly_transferred: called when that will be so in a moment. May be called more than once.
    """

    transferred: t.Callable[[], None]
    nearly_transferred: t.Callable[[], None]


class MoveReporter:
    """Writes to the journal first and to the progress second. So nobody sees what is not on record.

    Args:
        journal: keeps events; None keeps none.
        progress: shows lines.
        now: the time of now as the contracts write it.
    """

    def __init__(self, journal: JournalWriter | None, progress: ProgressWriter, now: t.Callable[[], str]) -> None:
        self._journal = journal
        self._progress = progress
        self.now = now

    def tell(self, step: Step, event: str, phase: str, message: str, *, level: int = 0, **data: t.Any) -> None:
        """One event of a step.

        Raises: VirtError when something is about to be done and cannot be put on record.
        """
        self._keep(event, step, durable=True, **data)
        self._progress.write(phase, message, step=step, level=level)

    def _keep(self, event: str, step: Step, *, durable: bool, **data: t.Any) -> None:
        if not self._journal:
            return
        try:
            self._journal.write(event, step=step, durable=durable, **data)
        except OSError as error:
            # With a full disk a guest under way is still watched, but nothing new begins without a record.
            if event not in BEGINNINGS:
                return
            raise virt.VirtError(
                refusal(
                    "journal_not_written",
                    f"the journal of this run cannot be written ({error.strerror or error}), so nothing was started",
                    "make room on the file system of the state directory, then run it again",
                )
            ) from error

    def round(self, step: Step, sample: Sample) -> None:
        """Write a new round of pre-copy. Nobody waits for the disk: no later run depends on this."""
        self._keep(
            "migration.iteration",
            step,
            durable=False,
            at_s=round(sample.at_s, 3),
            iteration=sample.iteration,
            remaining_bytes=sample.remaining_bytes,
            processed_bytes=sample.processed_bytes,
            bytes_per_s=sample.bytes_per_s,
            **{name: count for name, count in _of_xbzrle(sample).items() if count},
        )

    def watcher(self, step: Step, signals: LinkSignals, expected: Choice | None = None) -> MigrationWatcher:
        """What reports one migration, and shows its forecast beside its figures."""
        return MigrationWatcher(self, step, signals, expected)

    def figures(
        self,
        step: Step,
        phase: str,
        sample: Sample,
        total_bytes: int,
        *,
        fresh_round: bool,
        expected: Choice | None = None,
    ) -> None:
        """Show how far a move is, if the last line is old enough."""
        # In the first moments libvirt knows no rate. A line without a rate helps nobody.
        due = sample.bytes_per_s > 0 and self._progress.due(step, phase)
        if not due and not fresh_round:
            return
        eta = seconds_left(sample)
        self._progress.write(
            phase,
            _figures_in_words(phase, sample, total_bytes, eta) + _forecast_in_words(expected),
            step=step,
            level=0 if due else 1,
            percent=percent_done(sample, total_bytes),
            rate_bytes_per_s=sample.bytes_per_s,
            remaining_bytes=sample.remaining_bytes + sample.disk_remaining_bytes,
            iteration=sample.iteration,
            eta_s=eta,
        )

    def disk_figures(self, step: Step, sample: Sample, mirror: Mirror, expected: Choice | None = None) -> None:
        """Show how far the copy of the disks is, if the last line is old enough."""
        if not self._progress.due(step, "disks"):
            return
        percent, eta, rate = disk_percent_done(sample), mirror.seconds_left(sample), mirror.bytes_per_s(sample)
        words = [_percents(sample, 0), f"{mib(sample.disk_sent_bytes)} sent"]
        words += [] if rate is None else [f"{mib(rate)}/s"]
        words += [] if eta is None else [f"about {eta} s"]
        self._progress.write(
            "disks",
            ", ".join(words) + _forecast_in_words(expected),
            step=step,
            level=0,
            percent=min(99, percent or 0),
            rate_bytes_per_s=None if rate is None else round(rate),
            remaining_bytes=sample.disk_remaining_bytes,
            eta_s=eta,
        )


class Mirror:
    """How fast disks are copied, since the first sample that showed some of it."""

    def __init__(self, first: Sample) -> None:
        self._first = first

    def seconds_left(self, sample: Sample) -> int | None:
        """Seconds until the disks are the same on both sides, or None when that cannot be told yet."""
        done = self._first.disk_remaining_bytes - sample.disk_remaining_bytes
        seconds = sample.at_s - self._first.at_s
        return int(sample.disk_remaining_bytes * seconds / done + 0.5) if done > 0 and seconds > 0 else None

    def bytes_per_s(self, sample: Sample) -> float | None:
        """What is sent in a second, or None when that cannot be told yet."""
        seconds = sample.at_s - self._first.at_s
        return (sample.disk_sent_bytes - self._first.disk_sent_bytes) / seconds if seconds > 0 else None


class MigrationWatcher:
    """Reports one migration.

    Args:
        reporter: writes to journal and progress.
        step: of the plan.
        signals: who is told how far the move is.
        expected: the forecast, or None.
    """

    def __init__(
        self, reporter: MoveReporter, step: Step, signals: LinkSignals, expected: Choice | None = None
    ) -> None:
        self._reporter = reporter
        self._step = step
        self._phase = "pre-copy"
        self._signals = signals
        self._expected = expected
        self._iteration = 0
        self._shown = (-1, -1)
        self._mirror: Mirror | None = None

    def sampled(self, sample: Sample, total_bytes: int) -> None:
        """New statistics."""
        if sample.disk_remaining_bytes and not sample.processed_bytes:
            self._mirror = self._mirror or Mirror(sample)
            self._reporter.disk_figures(self._step, sample, self._mirror, self._expected)
            return
        phase = self._phase
        if phase == "pre-copy" and total_bytes == 0:
            return
        fresh_round = sample.iteration > self._iteration > 0
        self._iteration = sample.iteration
        if fresh_round:
            self._reporter.round(self._step, sample)
        # Of a link that is dead, the same figures again and again would say that all is well.
        if (sample.processed_bytes, sample.remaining_bytes) != self._shown:
            self._shown = (sample.processed_bytes, sample.remaining_bytes)
            self._reporter.figures(
                self._step, phase, sample, total_bytes, fresh_round=fresh_round, expected=self._expected
            )
        if is_nearly_over(sample, _expected_s(self._expected)):
            self._signals.nearly_transferred()

    def reacted(self, reaction: Reaction) -> None:
        """A reaction of the control, before it is carried out."""
        if reaction.action == "start_postcopy":
            self._phase = "post-copy"
        self._reporter.tell(
            self._step,
            "migration.decision",
            "switchover" if reaction.action == "suspend" else self._phase,
            reaction.reason,
            action=reaction.action,
            reason=reaction.reason,
            downtime_ms=reaction.downtime_ms or None,
            speed_mib_s=reaction.speed_mib_s or None,
            code=reaction.code or None,
        )

    def transferred(self) -> None:
        """The guest runs at the destination."""
        self._reporter.tell(self._step, "migration.switchover", "switchover", "runs at its destination", level=1)
        self._signals.transferred()


def _figures_in_words(phase: str, sample: Sample, total_bytes: int, eta_s: int | None) -> str:
    left = sample.remaining_bytes + sample.disk_remaining_bytes
    words = [_percents(sample, percent_done(sample, total_bytes)), f"{mib(sample.bytes_per_s)}/s", f"{mib(left)} left"]
    if phase == "pre-copy" and sample.iteration:
        words.append(f"round {sample.iteration}")
    if eta_s is not None:
        words.append(f"about {eta_s} s")
    return ", ".join(words)


def _percents(sample: Sample, memory: int) -> str:
    """How much is done: of disks and memory apart, where both go along."""
    disk = disk_percent_done(sample)
    return f"{memory:3d} %" if disk is None else f"disk {disk} %, memory {memory} %"


def _of_xbzrle(sample: Sample) -> dict[str, int]:
    return {"delta_pages": sample.delta_pages, "whole_pages": sample.whole_pages}


def _expected_s(expected: Choice | None) -> float | None:
    return (expected["total_s"] or {}).get("value") if expected else None


def _forecast_in_words(expected: Choice | None) -> str:
    """The forecast of the whole move's time, or nothing where there is none."""
    seconds = _expected_s(expected)
    return "" if seconds is None else f" ({human_seconds(seconds)} forecast)"
