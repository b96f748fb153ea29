# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the lines that are rewritten while a run is at work: one a guest, and a bar for the run.

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import run_progress
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.run_progress import Row
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.progress_lines import color_of
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, columns, cut, short

#: Below this width, which leaves the last of 60 columns free, hosts are left out, and there are no bars.
NARROW = 59
#: The longest phase is a "switchover".
_PHASE_COLUMNS = 10
_MOST_BAR, _LEAST_BAR = 30, 10


@dataclasses.dataclass(frozen=True)
class View:
    """What is shown of the run on one host.

    Attributes:
        host: whose guests leave.
        rows: a row for each, as C(run_progress) makes them.
        now: by the clock of the host.
        window_left_s: seconds until the maintenance window ends; None where none was stated.
    """

    host: str
    rows: t.Sequence[Row]
    now: datetime.datetime
    window_left_s: float | None = None


class Line(t.NamedTuple):
    """A line of the block, and its colour by Ansible's names (None: the terminal's own)."""

    text: str
    color: str | None = None


def block(views: t.Sequence[View], width: int, most: int) -> list[Line]:
    """The lines of a run.

    Args:
        views: of all hosts that guests leave.
        width: no line has more columns.
        most: no more lines than this, which is 2 or more.
    """
    rows = [(view, row) for view in views for row in view.rows]
    if not rows:
        return []
    shown = _chosen(rows, most - 1)
    names = [_name(view.host, row, width) for view, row in shown]
    name_columns = min(max(map(columns, names), default=0), width * 2 // 5)
    lines = [_guest(name, name_columns, view, row, width) for name, (view, row) in zip(names, shown, strict=True)]
    if len(shown) < len(rows):
        lines.append(Line(cut(_left_out(rows, shown), width)))
    return [*lines, _run(views, width)]


def _chosen(rows: list[tuple[View, Row]], most: int) -> list[tuple[View, Row]]:
    """The rows for which there is room, in their order: those under way first, then those that wait.

    Those that have ended are the first to go: each has left a line of its own.
    """
    if len(rows) <= most:
        return rows

    def rank(row: Row) -> int:
        return 0 if run_progress.has_begun(row) else 2 if run_progress.has_ended(row) else 1

    # One line says how many are left out.
    chosen = {id(one) for one in sorted(rows, key=lambda one: rank(one[1]))[: most - 1]}
    return [one for one in rows if id(one) in chosen]


def _left_out(rows: list[tuple[View, Row]], shown: list[tuple[View, Row]]) -> str:
    seen = {id(row) for _view, row in shown}
    others = [row for _view, row in rows if id(row) not in seen]
    ended = sum(map(run_progress.has_ended, others))
    begun = sum(map(run_progress.has_begun, others))
    waiting = len(others) - ended - begun
    words = [f"{begun} under way"] * bool(begun) + [f"{waiting} waiting"] * bool(waiting)
    return "and " + ", ".join([*words, *([f"{ended} that have ended"] * bool(ended))])


def _name(host: str, row: Row, width: int) -> str:
    guest = clean(row["guest"])
    return guest if width < NARROW else f"{clean(host)}: {guest} -> {clean(row['destination'])}"


def _guest(name: str, name_columns: int, view: View, row: Row, width: int) -> Line:
    shown = short(name, name_columns)
    phase = clean(row["phase"] or "waiting")
    begin = f"{shown}{' ' * (name_columns - columns(shown))}  {cut(phase, _PHASE_COLUMNS):<{_PHASE_COLUMNS}}  "
    rest = width - columns(begin)
    if row["percent"] is None or not run_progress.has_begun(row):
        text = clean(row["message"] or "")
    else:
        drawn = "" if width < NARROW else _bar(row["percent"] / 100, min(20, rest - 20))
        text = drawn + _fitting(_figures(row, view.now), rest - columns(drawn))
    return Line(cut(begin + text, width).rstrip(), color_of(row))


def _figures(row: Row, now: datetime.datetime) -> list[str]:
    """The figures of a move, the most important first."""
    left = run_progress.left_of(row, now)
    words = [f"{min(row['percent'], 100):3.0f} %"]
    words += [] if left is None else [f"about {human_seconds(left)}"]
    words += [f"{human_bytes(row['rate_bytes_per_s'])}/s"] if row["rate_bytes_per_s"] else []
    words += [] if row["remaining_bytes"] is None else [f"{human_bytes(row['remaining_bytes'])} left"]
    return words + ([f"round {row['iteration']:.0f}"] if row["iteration"] else [])


def run_words(views: t.Sequence[View], *, narrow: bool = False) -> list[str]:
    """How far a run is, and whether it will be over in time, the most important first."""
    rows = [row for view in views for row in view.rows]
    left_s, window_s = _left_s(views), _window_s(views)
    ended = sum(map(run_progress.has_ended, rows))
    words = [f"{ended} of {len(rows)}{'' if narrow else ' guests'}", f"{100 * run_progress.share_done(rows):.0f} %"]
    if ended < len(rows) and left_s is not None:
        words.append(f"{'' if narrow else 'about '}{human_seconds(left_s)} left")
    return words if window_s is None else [*words, _window(window_s, left_s)]


def _run(views: t.Sequence[View], width: int) -> Line:
    """The line of the run."""
    narrow = width < NARROW
    text = _fitting(run_words(views, narrow=narrow), width)
    share = run_progress.share_done([row for view in views for row in view.rows])
    drawn = "" if narrow else _bar(share, min(_MOST_BAR, width - columns(text) - 1))
    window_s = _window_s(views)
    is_late = window_s is not None and window_s < (_left_s(views) or 0)
    return Line(cut(drawn + text, width), "bright purple" if is_late else None)


def _left_s(views: t.Sequence[View]) -> float | None:
    """Seconds until the last host is done: hosts send their guests at the same time."""
    left = [run_progress.seconds_left(view.rows, view.now) for view in views]
    known = [one for one in left if one is not None]
    return max(known, default=0.0) if len(known) == len(left) else None


def _window_s(views: t.Sequence[View]) -> float | None:
    return min((view.window_left_s for view in views if view.window_left_s is not None), default=None)


def _window(window_left_s: float, left_s: float | None) -> str:
    if window_left_s < 0:
        return f"the window ended {human_seconds(-window_left_s)} ago"
    if left_s is not None and left_s > window_left_s:
        return f"{human_seconds(left_s - window_left_s)} longer than the window"
    return f"window: {human_seconds(window_left_s)} left"


def _bar(share: float, wide: int) -> str:
    """A bar and a blank; nothing where there is too little room for it.

    >>> _bar(0.25, 12)
    '[##........] '
    """
    if wide < _LEAST_BAR:
        return ""
    full = int(min(1.0, max(0.0, share)) * (wide - 2))
    return f"[{'#' * full}{'.' * (wide - 2 - full)}] "


def _fitting(words: t.Sequence[str], width: int) -> str:
    """As many words as there is room for, the first in any case."""
    text = words[0]
    for word in words[1:]:
        if columns(f"{text}, {word}") > width:
            break
        text = f"{text}, {word}"
    return text
