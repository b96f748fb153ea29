# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""How far a run is (docs/contracts.md, "Run at work"): one row a guest, from the plan and the lines of the progress.

Plans and lines lie about on hosts, so that nothing here relies on more than document_shapes has checked.
"""

from __future__ import annotations

import datetime
import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import (
    document_shapes,
    json_text,
    lease_clock,
    shape,
)

SCHEMA = "kvmops.run_progress/1"
#: Phases in which nothing more comes, unless the step is tried once more.
ENDED = ("done", "failed", "refused")
#: A guest in one of these has not begun to move.
_BEFORE = (None, "waiting")
#: Phases that begin anew, so that figures of the time before mean nothing any more.
_NO_FIGURES = (*_BEFORE, "setup")
#: What a row takes from a line as it is.
_WORDS = ("destination", "phase", "message", "at")
_FIGURES = ("percent", "rate_bytes_per_s", "remaining_bytes", "iteration", "eta_s")

_UNKNOWN = ("memory_bytes", "start_s", "end_s", "phase", "message", "at", "began_at", "figures_at", *_FIGURES)

Row = dict[str, t.Any]


def line_of(text: str) -> dict[str, t.Any] | None:
    """A line of the progress, or None where a text is none."""
    try:
        line = json_text.parsed(text)
    except json_text.JsonTextError:
        return None
    return line if shape.fits(document_shapes.PROGRESS_LINE, line) else None


def rows_of(plan: t.Mapping[str, t.Any], host: str | None = None) -> list[Row]:
    """A row for each step of a plan, in its order.

    Args:
        plan: that fits C(document_shapes.KEPT_PLAN).
        host: only steps whose guest leaves this host; None takes all.
    """
    expected = _mapping(_mapping(plan.get("expected")).get("steps"))
    rows = []
    for step in plan["steps"]:
        if host is None or step["source"] == host:
            times = _mapping(expected.get(str(step.get("id"))))
            rows.append(
                {
                    **_empty(step.get("id"), step["guest"]["name"], step["destination"]),
                    "memory_bytes": _number(step.get("memory_bytes")),
                    "start_s": _number(times.get("start_s")),
                    "end_s": _number(times.get("end_s")),
                }
            )
    return rows


def follow(rows: list[Row], line: t.Mapping[str, t.Any]) -> Row | None:
    """Take a line of the progress. Returns the row that it is about, or None if it is about no guest.

    A guest without a row gets one: whoever joins a run may not know its plan.
    """
    name, step = line.get("guest"), line.get("step")
    if not name:
        return None
    row = next((one for one in rows if (one["step"] == step if step else one["guest"] == name)), None)
    if row is None:
        row = _empty(step if isinstance(step, str) else None, name, line.get("destination"))
        rows.append(row)
    row.update({key: line[key] for key in _WORDS if isinstance(line.get(key), str)})
    if _number(line.get("percent")) is not None:
        row.update({key: _number(line.get(key)) for key in _FIGURES}, figures_at=row["at"])
    elif row["phase"] in (*_NO_FIGURES, *ENDED):
        row.update(dict.fromkeys((*_FIGURES, "figures_at")))
    row["began_at"] = None if row["phase"] in _BEFORE else row["began_at"] or row["at"]
    return row


def has_ended(row: Row) -> bool:
    """Whether nothing more is expected of a guest."""
    return row["phase"] in ENDED


def has_begun(row: Row) -> bool:
    """Whether a guest is on its way."""
    return not has_ended(row) and row["phase"] not in _BEFORE


def seconds_left(rows: t.Sequence[Row], now: datetime.datetime) -> float | None:
    """Seconds until the last of these guests, which leave one host, has arrived; None where nobody knows.

    Guests under way say it themselves. Of those that wait, the plan does.
    """
    under_way = [left_of(row, now) for row in rows if has_begun(row)]
    waiting = [_planned(row) for row in rows if not has_ended(row) and not has_begun(row)]
    known = [one for one in under_way if one is not None]
    spans = [one for one in waiting if one is not None]
    if len(known) < len(under_way) or len(spans) < len(waiting):
        return None
    return max(known, default=0.0) + _covered(spans)


def left_of(row: Row, now: datetime.datetime) -> float | None:
    """Seconds until a guest on its way has arrived, or None where nobody knows."""
    planned, told, begun = _planned(row), moment(row["figures_at"]), moment(row["began_at"])
    if row["eta_s"] is not None and told:
        return max(0.0, float(row["eta_s"]) - _since(told, now))
    if planned and begun:
        return max(0.0, planned[1] - planned[0] - _since(begun, now))
    return None


def share_done(rows: t.Sequence[Row]) -> float:
    """Which part of the work is done, from 0 to 1, by the memory of the guests as far as it is known."""
    sizes = [row.get("memory_bytes") or 0 for row in rows]
    if not all(sizes):
        sizes = [1] * len(rows)
    done = sum(size * _share_of(row) for size, row in zip(sizes, rows))
    return done / sum(sizes) if rows else 0.0


def window_left(window_s: t.Any, since: t.Any, now: datetime.datetime) -> float | None:
    """Seconds until the maintenance window ends, below 0 after its end; None where none was stated."""
    window, begun = _number(window_s), moment(since)
    return None if window is None or begun is None else window - (now - begun).total_seconds()


def run_progress(
    plan: t.Mapping[str, t.Any],
    holder: t.Mapping[str, t.Any],
    lines: t.Iterable[t.Mapping[str, t.Any]],
    now: datetime.datetime,
) -> dict[str, t.Any]:
    """What a host tells of the run that is at work on it.

    Args:
        plan: that fits C(document_shapes.KEPT_PLAN).
        holder: who has the run lock.
        lines: of the progress file, each of which fits C(document_shapes.PROGRESS_LINE).
        now: by the clock of the host.
    """
    told = list(lines)
    rows = _of_this_host(plan, told)
    window_s = _number(_mapping(plan.get("expected")).get("window_s"))
    left_s, window_left_s = seconds_left(rows, now), window_left(window_s, holder.get("since"), now)
    return {
        "schema": SCHEMA,
        "plan": plan.get("id"),
        "goal": plan.get("goal"),
        "owner": holder.get("owner"),
        "since": holder.get("since"),
        "read_at": lease_clock.written(now),
        "ended": sum(map(has_ended, rows)),
        "guests": len(rows),
        "share_done": round(share_done(rows), 3),
        "eta_s": None if left_s is None else round(left_s, 1),
        "window_s": window_s,
        "window_left_s": None if window_left_s is None else round(window_left_s, 1),
        "steps": rows,
    }


def _of_this_host(plan: t.Mapping[str, t.Any], lines: t.Sequence[t.Mapping[str, t.Any]]) -> list[Row]:
    """The rows of the host that has written these lines: with its first line a run says which steps are its own."""
    own = next((line["steps"] for line in lines if isinstance(line.get("steps"), list)), None)
    rows = rows_of(plan)
    if own is not None:
        rows = [row for row in rows if row["step"] in own]
    for line in lines:
        follow(rows, line)
    return rows


def moment(at: t.Any) -> datetime.datetime | None:
    """The time that a text says, or None if it says none."""
    try:
        found = lease_clock.moment(str(at))
    except ValueError:
        return None
    return found if found.tzinfo else None


def _empty(step: str | None, guest: str, destination: t.Any) -> Row:
    return {
        "step": step,
        "guest": guest,
        "destination": destination,
        **dict.fromkeys(_UNKNOWN),
    }


def _since(then: datetime.datetime, now: datetime.datetime) -> float:
    # A clock may have been set back.
    return max(0.0, (now - then).total_seconds())


def _planned(row: Row) -> tuple[float, float] | None:
    start, end = row["start_s"], row["end_s"]
    return None if start is None or end is None else (start, max(start, end))


def _covered(spans: t.Iterable[tuple[float, float]]) -> float:
    """How long at least one of these lasts. Moves overlap: the next one gets ready while one ends."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _share_of(row: Row) -> float:
    return 1.0 if has_ended(row) else min(99.0, row["percent"] or 0.0) / 100


def _number(value: t.Any) -> float | None:
    """A number of at least 0 that is one; figures come from files."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if 0 <= value < math.inf else None


def _mapping(value: t.Any) -> t.Mapping[str, t.Any]:
    return value if isinstance(value, dict) else {}
