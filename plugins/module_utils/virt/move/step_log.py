# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: writes the events of one step to journal and progress, and makes the step's result.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import Corrections
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.failure_remedy import remedy_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Verdict
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import (
    Result,
    Step,
    corrected_result,
    step_result,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.copied_disks import to_copy
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.parameters import Decision
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.explanation import explained
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.disk_delta.sending import SentDisk
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.ending import MigrationEnding
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.qemu_instance import QemuInstance
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.migration.reporting import (
    LinkSignals,
    MigrationWatcher,
    MoveReporter,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.disk_deltas import NO_COPY

#: Lines about something that takes long come so often.
TELL_EVERY_S = 2.0
#: Outcomes of a guest that has not moved, by the kind of the verdict. All others are unclear.
OUTCOMES = {"stayed": "failed", "off": "off", "lost": "lost"}


class StepLog:
    """The log of one step.

    Args:
        step: of the plan.
        reporter: writes to journal and progress.
        clock: monotonic seconds.
    """

    def __init__(self, step: Step, reporter: MoveReporter, clock: t.Callable[[], float]) -> None:
        self._step = step
        self._reporter = reporter
        self._clock = clock
        self._started = clock()
        self._started_at = reporter.now()
        self._decision: Decision | None = None
        self._autostart: bool | None = None
        self._has_started = False
        self._disks: list[dict[str, t.Any]] = []
        # Of disks, before libvirt's calls: in this attempt and those before, and in those before.
        self._sent_before = self._sent_earlier = 0

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._started

    def tell(self, event: str, phase: str, message: str, *, level: int = 0, **data: t.Any) -> None:
        self._reporter.tell(self._step, event, phase, message, level=level, **data)

    def note(self, words: str) -> None:
        """Write a remark about the move under way."""
        self.tell("migration.decision", "pre-copy", words, level=1, action="note", reason=words)

    def connection_ended(self, words: str) -> None:
        """Write that the connections of the move under way were ended."""
        self.tell("migration.decision", "switchover", words, action="end_connection", reason=words)

    def begin(self, decision: Decision, before: QemuInstance, *, autostart: bool | None = None) -> None:
        """Write that the first attempt begins.

        Args:
            decision: how the guest is moved.
            before: the QEMU that holds the guest now.
            autostart: whether the guest starts with its host; None where that is not known.
        """
        self._decision, self._autostart = decision, autostart
        self.starts()
        self._tell_start(decision, before)

    def starts(self) -> None:
        """The move starts now. Time that the step has waited does not count as part of it. A second call is nothing."""
        if not self._has_started:
            self._has_started = True
            self._started, self._started_at = self._clock(), self._reporter.now()

    def share_teller(self) -> t.Callable[[str, float], None]:
        """What tells how far something is that may take long: called with words, and the share that is done."""
        told: list[tuple[str, float]] = []

        def tell(words: str, share: float) -> None:
            is_new = not told or told[-1][0] != words
            if is_new or self._clock() >= told[-1][1] + TELL_EVERY_S:
                told.append((words, self._clock()))
                shown = words if is_new else f"{words}: {share:.0%}"
                self.tell("migration.decision", "disks", shown, level=0 if is_new else 1, action="delta", reason=shown)

        return tell

    def disks(
        self,
        guest: t.Mapping[str, t.Any],
        intent: t.Mapping[str, t.Any],
        sent: t.Sequence[SentDisk],
        whole: t.Mapping[str, str],
    ) -> None:
        """Take how each disk gets there.

        Args:
            guest: the guest's part of the source's snapshot.
            intent: of this move.
            sent: disks of which what differs was sent.
            whole: why others are copied as a whole, by target.
        """
        self._sent_earlier = self._sent_before
        deltas = {disk.target: disk for disk in sent}
        self._disks = [
            _disk_row(disk, deltas.get(disk["target"]), whole.get(disk["target"])) for disk in to_copy(guest, intent)
        ]
        self.disks_sent(sent)
        for row in self._disks:
            why = row["full_because"]
            if row["mode"] == "delta":
                words = f"sent what differs of disk {row['target']} ({human_bytes(row['bytes'])})"
            elif why is None or (why == NO_COPY and intent.get("disks") != "delta"):
                # A first trip. Nobody has expected anything else.
                continue
            else:
                words = f"disk {row['target']} is copied as a whole: {why}"
            self.tell("migration.decision", "disks", words, action="disk", reason=words)

    def disks_sent(self, sent: t.Sequence[SentDisk]) -> None:
        """Take how much of each disk was sent by now."""
        rows = {row["target"]: row for row in self._disks}
        for disk in sent:
            row = rows[disk.target]
            row["bytes"], row["digest_bytes"] = disk.sent_bytes, disk.digest_bytes
        self._sent_before = self._sent_earlier + sum(disk.sent_bytes for disk in sent)

    def _tell_start(self, decision: Decision, before: QemuInstance) -> None:
        self.tell(
            "migration.started",
            "setup",
            f"{_in_words(decision)} to {self._step['destination']}",
            destination=self._step["destination"],
            strategy=decision.name,
            reason=decision.reason,
            flags=list(decision.flags),
            downtime_ms=decision.downtime_ms,
            forecast=decision.choice,
            intent=self._step["intent"],
            autostart=self._autostart,
            **before.data(),
        )

    def again(self, decision: Decision, why: str, before: QemuInstance) -> None:
        """Write that the next attempt begins. The time of the attempts before counts as part of the move.

        Args:
            decision: how the guest is moved now.
            why: the attempt before failed.
            before: the QEMU that holds the guest now.
        """
        self._decision = decision
        self.tell(
            "migration.decision",
            "setup",
            f"starting again with {decision.name}: {why}",
            action="start_anew",
            reason=why,
        )
        self._tell_start(decision, before)

    def watcher(self, signals: LinkSignals | None = None) -> MigrationWatcher:
        """What reports a migration of this step. Without signals, nobody is told how far it is."""
        signals = signals or LinkSignals(lambda: None, lambda: None)
        return self._reporter.watcher(self._step, signals, self._decision.choice if self._decision else None)

    def ended(self, ending: MigrationEnding) -> None:
        event = "migration.failed" if ending.error else "migration.completed"
        self.tell(
            event,
            "verify",
            ending.error or "libvirt reports success",
            level=1,
            code=ending.error_code,
            error=ending.error,
            statistics=ending.statistics,
            iterations=ending.iterations,
        )

    def moved(self, ending: MigrationEnding, corrections: Corrections) -> Result:
        result = corrected_result(self._result("moved", ending), corrections)
        figures = [f"{result['total_s']:.1f} s"]
        if result["downtime_ms"] is not None:
            figures.append(f"down {result['downtime_ms']} ms")
        if result["bytes"]:
            figures.append(f"{result['bytes'] / 1048576:.1f} MiB")
        self.tell(
            "migration.decision",
            "done",
            ", ".join(["moved", *figures, *_told(corrections)]),
            action="accept",
            corrected=corrections.done,
        )
        return result

    def not_moved(self, ending: MigrationEnding, verdict: Verdict) -> Result:
        outcome = OUTCOMES.get(verdict.kind, "unclear")
        text = _why(self._step, ending, verdict)
        self.tell("migration.decision", "failed", text, action="reject")
        return self._result(outcome, ending, error=text)

    def refuse(self, refusals: t.Sequence[Refusal]) -> Result:
        self.tell(
            "step.refused",
            "refused",
            "; ".join(sentence(one) for one in refusals),
            refusals=[dict(one) for one in refusals],
        )
        return step_result(self._step, "refused", refusals=refusals)

    def refuse_for(self, error: Exception) -> Result:
        """Refuse the step for an error before anything was begun. A bug is raised again."""
        return self.refuse([refusal_of(error)])

    def close(self, result: Result, corrections: Corrections | None = None) -> Result:
        """Write that nothing is to be moved.

        Args:
            result: of the step.
            corrections: what was put right of a guest that is at its destination already.
        """
        if result["outcome"] == "already_there":
            corrections = corrections or Corrections()
            words = ", ".join(["already there", *_told(corrections)])
            self.tell("step.verified", "done", words, verdict="already_there", corrected=corrections.done)
            return corrected_result(result, corrections)
        return self.refuse(result["refusals"])

    def _result(self, outcome: str, ending: MigrationEnding, error: str | None = None) -> Result:
        decision = self._decision
        disks: dict[str, t.Any] = {}
        if self._disks:
            disks = {"disks": self._disks, "disk_bytes": self._sent_before + ending.disk_bytes}
        return {**disks, **self._step_result(outcome, ending, decision, error)}

    def _step_result(
        self, outcome: str, ending: MigrationEnding, decision: Decision | None, error: str | None
    ) -> Result:
        return step_result(
            self._step,
            outcome,
            error=error,
            strategy=("post-copy" if ending.postcopy else decision.name) if decision else None,
            reason=decision.reason if decision else None,
            started_at=self._started_at,
            finished_at=self._reporter.now(),
            total_s=self.elapsed_s,
            bytes_sent=(ending.bytes + self._sent_before) or None,
            downtime_ms=ending.downtime_ms if outcome == "moved" else None,
            iterations=ending.iterations or None,
            forecast=decision.choice if decision else None,
        )


def _disk_row(disk: t.Mapping[str, t.Any], sent: SentDisk | None, why: str | None) -> dict[str, t.Any]:
    """How a disk gets there, as the result has it."""
    target = str(disk["target"])
    if sent is None:
        mode = "lazy" if "later_bytes" in disk else "copy"
        return {"target": target, "mode": mode, "bytes": None, "digest_bytes": None, "full_because": why}
    return {
        "target": target,
        "mode": "delta",
        "bytes": sent.sent_bytes,
        "digest_bytes": sent.digest_bytes,
        "full_because": None,
    }


def refusal_of(error: Exception) -> Refusal:
    """The refusal for an error before anything was begun. A bug is raised again."""
    why = explained(error)
    if why is None:
        raise error
    return why


def _told(corrections: Corrections) -> list[str]:
    """What was put right, and what is still wrong."""
    return [*corrections.done, *corrections.notes, *filter(None, [corrections.error])]


def _in_words(decision: Decision) -> str:
    """The method, and what it will cost.

    The values without their bands: the journal has the bands, and nobody reads them while a move runs.
    """
    choice = decision.choice
    if not choice or not choice["total_s"] or choice["total_s"]["value"] is None:
        return decision.name
    figures = [f"about {human_seconds(choice['total_s']['value'])}"]
    if choice["bytes"]:
        figures.append(human_bytes(choice["bytes"]["value"]))
    if choice["downtime_ms"]:
        figures.append(f"down {choice['downtime_ms']['value']} ms")
    return f"{decision.name} ({', '.join(figures)})"


def _why(step: Step, ending: MigrationEnding, verdict: Verdict) -> str:
    text = ending.error or verdict.reason
    if ending.abort_reaction and ending.abort_reaction.action == "leave":
        # Both sides still say that it is under way.
        left = ending.abort_reaction
        return f"libvirt did not end the post-copy: {left.reason}. {verdict.reason}: {left.remedy}"
    if ending.abort_reaction:
        text = f"given up: {ending.abort_reaction.reason}; {ending.abort_reaction.remedy}"
    if verdict.kind == "stayed":
        remedy = None if ending.abort_reaction else remedy_of(ending.error, step["source"], step["destination"])
        return f"{text}. It still runs where it was." + (f" What to do: {remedy}." if remedy else "")
    return f"{text}: {verdict.remedy}" if text == verdict.reason else f"{text}. {verdict.reason}: {verdict.remedy}"
