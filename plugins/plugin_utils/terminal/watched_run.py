# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: watches a run on a host that somebody else has started. It only reads: it sends no signal,
# takes no lease and leaves no file.

from __future__ import annotations

import contextlib
import shlex
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure, AnsibleError

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import clean
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.answer_limit import answered_within
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.line_display import Lines
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.progress_lines import FollowedFile
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.shared_wait import SharedWait

POLL_S = 1.0
#: Whether a run has begun, or one that says nothing is still at work, is asked so often.
LOOK_S = 10.0
#: A single command, also on a busy host, answers within this time.
ANSWER_S = 25.0

Info = dict[str, t.Any]


class Far(t.Protocol):
    """The host, as an action reaches it."""

    def info(self, plan: str | None) -> Info:
        """What run_info says there, perhaps with what became of a plan."""

    def shell(self, command: str) -> str:
        """What a command prints there."""

    def reset(self) -> None:
        """Open the connection anew."""


class WatchedRun:
    """Follows the run that is at work on one host until it is over.

    Args:
        host: its name.
        far: the host.
        tell: shows a sentence.
        lines_for: what shows the lines of a run, made when there is one to watch.
        lost_s: for how long the host may not answer.
        others: what those have found who watch other hosts.
    """

    def __init__(
        self,
        host: str,
        far: Far,
        tell: t.Callable[[str], None],
        lines_for: t.Callable[[Info], Lines],
        lost_s: float,
        others: SharedWait,
    ) -> None:
        self._host = host
        self._far = far
        self._tell = tell
        self._lines_for = lines_for
        self._lost_s = lost_s
        self._others = others
        #: What shows the lines, while there is a run to show. The caller closes it.
        self.lines: Lines | None = None

    def watch(self, wanted: str | None, wait_s: float) -> Info:
        """Find a run and follow it.

        Args:
            wanted: the id of a plan, or how it begins; None takes any.
            wait_s: how long to wait for a run to begin, here or on another host.

        Returns: C(watched) (the run as it was found, or null), C(outcomes) of its steps (null if it died), and who has
            the host if no run was found (C(lease)).
        """
        found = self._found(wanted, wait_s)
        if "at_work" not in found:
            # It could not be asked.
            return found
        run = found["at_work"]
        if run is None:
            return {"changed": False, "watched": None, "outcomes": None, "lease": found["lease"]}
        self._others.begin()
        self._tell(greeting(self._host, run))
        self.lines = self._lines_for(run)
        try:
            outcomes = self._followed(run)
        finally:
            self._others.end()
        return {"changed": False, "watched": run, "outcomes": outcomes, "lease": None}

    def _found(self, wanted: str | None, wait_s: float) -> Info:
        end = time.monotonic() + wait_s
        while True:
            info = self._far.info(None)
            run = info.get("at_work")
            if "at_work" not in info or (run and str(run["plan"]).startswith(wanted or "")):
                return info
            left_s = end - time.monotonic()
            if left_s <= 0 or self._others.is_over():
                return {**info, "at_work": None}
            time.sleep(min(LOOK_S, left_s))

    def _followed(self, run: Info) -> list[Info] | None:
        """Show the lines of a run, and return its outcomes."""
        file = FollowedFile(run["progress_bytes"])
        seen_at = looked_at = time.monotonic()
        warned = ended = False
        while True:
            time.sleep(POLL_S)
            asked_at = time.monotonic()
            try:
                ended = self._news(file, str(run["progress"])) or ended
                if ended or time.monotonic() - looked_at >= LOOK_S:
                    looked_at = time.monotonic()
                    info = self._far.info(str(run["plan"]))
                    now = info.get("at_work")
                    if now is None or now["plan"] != run["plan"]:
                        return t.cast("list[Info] | None", info.get("outcomes"))
                    if now["since"] != run["since"]:
                        # It was killed, and somebody has begun the same plan again.
                        run, file, ended = now, FollowedFile(now["progress_bytes"]), False
                seen_at, warned = time.monotonic(), False
            except AnsibleConnectionFailure as error:
                self._lost(error, time.monotonic() - seen_at, asked_at - seen_at, warned)
                warned = True

    def _news(self, file: FollowedFile, path: str) -> bool:
        """Show what has come; returns whether that was all."""
        if self.lines is None:
            return False
        ended = False
        for line in file.feed(self._far.shell(f"tail -c +{file.offset + 1} {shlex.quote(path)} 2>/dev/null || true")):
            if line.get("phase") == "end":
                ended = True
            elif line.get("phase") != "job":
                self.lines.show(line)
        self.lines.tick()
        return ended

    def _lost(self, error: AnsibleConnectionFailure, quiet_s: float, asked_s: float, warned: bool) -> None:
        with contextlib.suppress(AnsibleError), answered_within(ANSWER_S):
            self._far.reset()
        if asked_s >= self._lost_s:
            raise AnsibleError(
                clean(f"{self._host} has not answered for {quiet_s:.0f} s ({error}).")
                + " If it still runs, its moves go on: watch it again when it answers."
            ) from error
        if not warned:
            self._tell(
                clean(f"{self._host} does not answer ({error}); its moves go on. Trying again for {self._lost_s:g} s.")
            )


def greeting(host: str, run: Info) -> str:
    """What is said of a run when it is found.

    >>> greeting("h1", {"plan": "drain-h1-1", "owner": "al", "since": "…", "ended": 1, "guests": 3, "eta_s": 41})
    'h1: drain-h1-1 of al since …: 1 of 3 guests, about 41 s left'
    """
    left = "" if run["eta_s"] is None else f", about {human_seconds(run['eta_s'])} left"
    what = f"{run['plan']} of {run['owner']} since {run['since']}"
    return clean(f"{host}: {what}: {run['ended']} of {run['guests']} guests{left}")
