# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: time limits for calls that may never return.

from __future__ import annotations

import threading
import time
import typing as t

#: How long a call about one guest may take. QEMU answers in milliseconds, or it hangs.
ANSWER_TIMEOUT_S = 2.0
#: So many calls may hang. libvirtd serves five calls of a connection at a time, and one must stay free.
MAX_HANGING = 4


class UnansweredError(Exception):
    """A call that did not return in time."""


class NotAskedError(Exception):
    """A call that was not made, because too many others hang."""


T = t.TypeVar("T")


def within(timeout_s: float, call: t.Callable[[], t.Any]) -> t.Any:
    """What a call returns or raises; UnansweredError if it takes longer than that. The call then goes on alone."""
    (answer,) = each([None], lambda _item: call(), timeout_s=timeout_s)
    if isinstance(answer, Exception):
        raise answer
    return answer


def each(
    items: t.Sequence[T],
    call: t.Callable[[T], t.Any],
    *,
    timeout_s: float = ANSWER_TIMEOUT_S,
    max_hanging: int = MAX_HANGING,
) -> list[t.Any]:
    """Call once for each item, one after the other. A call that hangs is left behind.

    Returns: for each item what its call returned, or the exception it raised; UnansweredError for what took too long;
        NotAskedError for all that is left once too many calls hang.
    """
    answers: list[t.Any] = []
    hanging = 0
    while len(answers) < len(items):
        if hanging >= max_hanging:
            answers.extend(NotAskedError() for _item in items[len(answers) :])
            break
        answers.extend(_Runner(items[len(answers) :], call).collect(timeout_s))
        if len(answers) < len(items):
            answers.append(UnansweredError())
            hanging += 1
    return answers


class SerialCalls:
    """Calls one after the other. Never more than one of them hangs."""

    def __init__(self) -> None:
        self._last: _Runner | None = None

    def within(self, timeout_s: float, call: t.Callable[[], t.Any], *, any_answer: bool = False) -> t.Any:
        """What a call returns or raises.

        Args:
            patience_s: how long to wait for it.
            call: is made unless an earlier one hangs.
            any_answer: all these calls ask the same, so the late answer of an earlier call is good as well.

        Raises: UnansweredError if it takes longer than that, and is left to itself: it may be done yet. NotAskedError
            while an earlier one hangs that was another.
        """
        earlier = self._last
        if earlier and not any_answer and earlier.is_alive():
            raise NotAskedError
        runner = earlier if earlier and any_answer else _Runner([None], lambda _item: call())
        self._last = runner
        answers = runner.wait(timeout_s) if runner is earlier else runner.collect(timeout_s)
        if not answers:
            raise UnansweredError
        # The thread may live a moment longer, but it does not hang.
        self._last = None
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]


class _Runner(threading.Thread):
    """Makes calls until it is done or hangs. It is a daemon thread: the process may end while it hangs."""

    def __init__(self, items: t.Sequence[T], call: t.Callable[[T], t.Any]) -> None:
        super().__init__(name="kvmops-calls", daemon=True)
        self._items = items
        self._call = call
        self._answers: list[t.Any] = []
        self._progress = threading.Condition()

    def run(self) -> None:
        for item in self._items:
            try:
                answer = self._call(item)
            except Exception as error:  # noqa: BLE001 - it is the caller's
                answer = error
            with self._progress:
                self._answers.append(answer)
                self._progress.notify()

    def collect(self, timeout_s: float) -> list[t.Any]:
        """Start the calls; returns the answers so far, when all have come or one does not come in time."""
        self.start()
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> list[t.Any]:
        """The answers so far, when all have come or one does not come in time."""
        with self._progress:
            while len(self._answers) < len(self._items):
                before, deadline = len(self._answers), time.monotonic() + timeout_s
                while len(self._answers) == before and time.monotonic() < deadline:
                    self._progress.wait(deadline - time.monotonic())
                if len(self._answers) == before:
                    break
            return list(self._answers)
