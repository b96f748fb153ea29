# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: runs the hooks of a move at their time, before it and after it.

from __future__ import annotations

import threading
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import MOST_OF_ERROR, one_line
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.corrections import HOOK_STOPS
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.hooks import HookResult, in_guest, on_host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.reachability import Reachability

Tell = t.Callable[..., None]
#: Outcomes after which the guest is at its destination, and those after which it is still at its source.
THERE, HERE = ("moved", "already_there"), ("failed", "refused", "not_started")
POLL_S = 0.25
#: A guest that can be reached answers at once. This is how long a check may take that is made before a move.
FIRST_CHECK_S = 3.0


class HookRuns:
    """Runs hooks around moves.

    Args:
        source: this host's name.
        interrupted: when set, nothing more is run before a move, and nobody waits for the time of a hook.
        domain_at: a guest on a host, by the host's name and the guest's UUID, on a writable connection that lives.
    """

    def __init__(
        self,
        source: str,
        interrupted: threading.Event,
        domain_at: t.Callable[[str, str], t.Any],
        clock: t.Callable[[], float],
        sleep: t.Callable[[float], None],
    ) -> None:
        self._source = source
        self._interrupted = interrupted
        self._domain_at = domain_at
        self._clock = clock
        self._sleep = sleep
        self._reachability = Reachability(clock, sleep)

    def run_before(self, hooks: t.Sequence[Hook], step: Step, tell: Tell) -> list[Refusal]:
        """Run each hook so long before the move as it says. The move waits for those that take longer.

        Returns: why the guest is not moved.
        """
        due = sorted((hook for hook in hooks if hook.when == "before"), key=lambda hook: -hook.seconds)
        start = self._clock() + max((hook.seconds for hook in due), default=0.0)
        for hook in due:
            if not self._wait_until(start - hook.seconds):
                return [interrupted_refusal()]
            ran = self._run(hook, step, "before", self._source, tell)
            if not ran.ok and hook.on_failure == "refuse":
                return [_hook_failed(hook, step, ran)]
        return [] if self._wait_until(start) else [interrupted_refusal()]

    def failing(self, hooks: t.Sequence[Hook], step: Step, tell: Tell) -> list[Hook]:
        """The checks after the move that fail before it already. Their failure would say nothing of the destination."""
        found = []
        for hook in hooks:
            if hook.check is None or hook.when != "after" or self._interrupted.is_set():
                continue
            ran = _safely(self._checked, hook, step, self._source, min(hook.timeout_s, FIRST_CHECK_S))
            if not ran.ok:
                found.append(hook)
                words = f"{hook.name} is not made after the move, as it fails before it already: {ran.why}"
                tell("hook.skipped", "setup", words, **_known(hook), why=ran.why)
        return found

    def run_after(self, hooks: t.Sequence[Hook], step: Step, outcome: str, tell: Tell) -> list[Refusal]:
        """Run each hook so long after the move as it says. Only a guest that has moved is checked.

        Args:
            hooks: of the run and of the guest.
            step: of the plan.
            outcome: of the move.
            tell: called with event, phase and message, C(level), and what else is known.

        Returns: what failed.
        """
        place = step["destination"] if outcome in THERE else self._source if outcome in HERE else None
        due = [hook for hook in hooks if hook.when == "after" and (hook.check is None or outcome in THERE)]
        ended, failed = self._clock(), []
        for hook in sorted(due, key=lambda hook: hook.seconds):
            # After an interrupt it runs at once: it may undo what another hook did before the move.
            self._wait_until(ended + hook.seconds)
            ran = self._run(hook, step, outcome, place, tell)
            if not ran.ok:
                failed.append(_failed_after(hook, step, ran, moved=outcome in THERE))
        return failed

    def _wait_until(self, moment: float) -> bool:
        """Wait until a moment of the clock; False when the run was interrupted."""
        while self._clock() < moment and not self._interrupted.is_set():
            self._sleep(min(POLL_S, max(0.0, moment - self._clock())))
        return not self._interrupted.is_set()

    def _run(self, hook: Hook, step: Step, outcome: str, place: str | None, tell: Tell) -> HookResult:
        phase = "setup" if hook.when == "before" else "done"
        known = _known(hook)
        tell("hook.started", phase, f"running {hook.name} {_where(hook)}", level=1, **known)
        ran = _safely(self._ran, hook, step, _environment(step, outcome), place)
        if ran.ok:
            tell("hook.finished", phase, f"{hook.name} is done", level=1, **known, output=ran.output)
        else:
            tell("hook.failed", phase, _failure(hook, ran), **known, why=ran.why, output=ran.output)
        return ran

    def _checked(self, hook: Hook, step: Step, place: str | None, timeout_s: float) -> HookResult:
        try:
            domain = self._domain_at(place or self._source, step["guest"]["uuid"])
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            return HookResult(False, f"the guest cannot be asked for: {one_line(error, MOST_OF_ERROR)}", "")
        return self._reachability.check(hook, domain, timeout_s)

    def _ran(self, hook: Hook, step: Step, environment: dict[str, str], place: str | None) -> HookResult:
        if hook.check is not None:
            return self._checked(hook, step, place, hook.timeout_s)
        if hook.where == "host":
            return on_host(hook, environment)
        if place is None:
            return HookResult(False, "it is not known where the guest is", "")
        try:
            domain = self._domain_at(place, step["guest"]["uuid"])
        except (virt.libvirt.libvirtError, virt.VirtError) as error:
            return HookResult(False, f"the guest cannot be reached: {one_line(error, MOST_OF_ERROR)}", "")
        return in_guest(hook, domain, environment, self._clock, self._sleep)


def _safely(run: t.Callable[..., HookResult], *arguments: t.Any) -> HookResult:
    """What became of a hook. A bug around it must not hide where the guest is."""
    try:
        return run(*arguments)
    except Exception as error:  # noqa: BLE001  # pylint: disable=broad-except
        why = f"an error in this program ({type(error).__name__}: {one_line(error, MOST_OF_ERROR)})"
        return HookResult(False, why, "")


def interrupted_refusal() -> Refusal:
    """Why a guest is not moved in a run that was interrupted."""
    return refusal("interrupted", "it was interrupted before it began", "start it again when you are ready")


def _known(hook: Hook) -> dict[str, t.Any]:
    """The hook, as events tell it."""
    known: dict[str, t.Any] = {"command": list(hook.command), "when": hook.when, "where": hook.where}
    return {**known, "check": hook.check, "port": hook.port, "address": hook.address} if hook.check else known


def _environment(step: Step, outcome: str) -> dict[str, str]:
    return {
        "KVMOPS_GUEST": step["guest"]["name"],
        "KVMOPS_GUEST_UUID": step["guest"]["uuid"],
        "KVMOPS_SOURCE": step["source"],
        "KVMOPS_DESTINATION": step["destination"],
        "KVMOPS_OUTCOME": outcome,
    }


def _where(hook: Hook) -> str:
    if hook.check:
        return f"{hook.when} the move"
    return f"{hook.when} the move, {'in the guest' if hook.where == 'guest' else 'on this host'}"


def _failure(hook: Hook, ran: HookResult) -> str:
    last = ran.output.splitlines()[-1:]
    return f"{hook.name} failed {_where(hook)}: {', '.join(filter(None, [ran.why, *last]))}"


def _failed_after(hook: Hook, step: Step, ran: HookResult, *, moved: bool) -> Refusal:
    """What is told of a hook that failed after a move."""
    guest, target = step["guest"]["name"], step["destination"]
    place = "" if hook.check else ", in the guest" if hook.where == "guest" else f", on {step['source']}"
    last = ran.output.splitlines()[-1:]
    reason = f"{hook.name} failed after the move{place}: {', '.join(filter(None, [ran.why, *last]))}"
    if moved and hook.on_failure == "stop":
        remedy = f"see whether {guest} can be reached on {target}; this run sends no further guest there from here"
        return refusal(HOOK_STOPS, reason, remedy)
    what = (
        f"see whether {guest} can be reached on {target}" if hook.check else "see what it reports, and run it by hand"
    )
    return refusal("hook_failed", reason, what)


def _hook_failed(hook: Hook, step: Step, ran: HookResult) -> Refusal:
    return refusal(
        "hook_failed",
        f"{_failure(hook, ran)}, and {step['guest']['name']} must not move without it",
        "correct what it reports and run it again, or set its on_failure to go_on",
    )
