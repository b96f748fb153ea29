# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the parts of a page, ready to be written: texts, and places in drawings. A template decides
# nothing, and nothing here knows of markup.

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Table:
    """The figures behind a drawing, or a list of their own.

    Attributes:
        caption: what it is.
        header: names of the columns.
        rows: cells.
        figures: numbers of the columns that hold figures.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    figures: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Mark:
    """A figure on an axis."""

    at: float
    text: str


@dataclasses.dataclass(frozen=True)
class Line:
    """A line through points, as SVG has them."""

    kind: str
    points: str


@dataclasses.dataclass(frozen=True)
class Bar:
    """A rectangle."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclasses.dataclass(frozen=True)
class Dot:
    """A measured point with its error."""

    x: float
    y: float
    low_y: float
    high_y: float


@dataclasses.dataclass(frozen=True)
class Chart:
    """A drawing with axes.

    Attributes:
        title, text: what it is, and what it shows in a sentence, for those who do not see it.
        legend: kinds of lines, bars and dots with their meaning.
        table: the same figures.
    """

    title: str
    text: str
    x_name: str
    y_name: str
    x_marks: tuple[Mark, ...]
    y_marks: tuple[Mark, ...]
    legend: tuple[tuple[str, str], ...]
    table: Table
    lines: tuple[Line, ...] = ()
    bars: tuple[Bar, ...] = ()
    dots: tuple[Dot, ...] = ()


@dataclasses.dataclass(frozen=True)
class Stretch:
    """A part of a bar of the timeline, in percent of its length."""

    phase: str
    text: str
    x: float
    width: float


@dataclasses.dataclass(frozen=True)
class TimelineRow:
    """One guest in the timeline.

    Attributes:
        number: of the guest in the page.
        planned: the bar of the forecast, or None.
        text: the same in words.
    """

    number: int
    guest: str
    route: str
    outcome: Outcome
    stretches: tuple[Stretch, ...]
    planned: Stretch | None
    text: str


@dataclasses.dataclass(frozen=True)
class Timeline:
    """Who was in which phase when.

    Attributes:
        marks: of the axis, in percent.
        legend: phases that occur, with their words.
        gaps: rows of the table of gaps.
    """

    rows: tuple[TimelineRow, ...]
    marks: tuple[Mark, ...]
    legend: tuple[tuple[str, str], ...]
    gaps: Table | None
    window: Mark | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a guest: a word, a sign for those who do not see colours, and whether it is good."""

    word: str
    sign: str
    kind: str


@dataclasses.dataclass(frozen=True)
class Advice:
    """Why something is not done, and what to do.

    Attributes:
        text: why.
        remedy: what to do, in words.
        commands: to copy.
    """

    text: str
    remedy: str = ""
    commands: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Downtime:
    """How long a guest stood still, beside the forecast and what was accepted; places in percent.

    Attributes:
        text: all of it in words.
    """

    text: str
    kept: str
    actual: float | None
    accepted: float | None
    low: float | None
    high: float | None


@dataclasses.dataclass(frozen=True)
class Guest:
    """All about one guest.

    Attributes:
        summary: what became of it, in a line.
        facts: names with values.
        happened: what happened, each with its time.
        why_not: methods that were not chosen, with the reason.
    """

    number: int
    name: str
    uuid: str
    route: str
    outcome: Outcome
    summary: str
    facts: tuple[tuple[str, str], ...]
    why: str
    why_not: tuple[tuple[str, str], ...]
    happened: tuple[tuple[str, str], ...]
    downtime: Downtime | None
    charts: tuple[Chart, ...]
    missing: tuple[str, ...]
    troubles: tuple[Advice, ...]
    notes: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class HostBar:
    """What of a host is in use, before or after; in percent, and in words."""

    when: str
    share: float | None
    text: str


@dataclasses.dataclass(frozen=True)
class Host:
    """One host before and after."""

    name: str
    memory: tuple[HostBar, ...]
    cpu: tuple[HostBar, ...]
    guests: str
    state: str


@dataclasses.dataclass(frozen=True)
class Page:
    """A report or a plan as a page.

    Attributes:
        headline: the whole in a line.
        verdict: whether all is well.
        facts: names with values.
        todo: what an operator must do now.
        again: the command that goes on, or empty.
        stays: guests that stay, with the reasons.
        errors: the forecasts beside what came true; None for a plan.
    """

    title: str
    headline: str
    verdict: Outcome
    facts: tuple[tuple[str, str], ...]
    todo: tuple[str, ...]
    again: str
    timeline: Timeline
    guests: tuple[Guest, ...]
    hosts: tuple[Host, ...]
    stays: tuple[tuple[str, tuple[Advice, ...]], ...]
    remarks: tuple[Advice, ...]
    errors: Table | None
    errors_text: tuple[str, ...]
    copies: tuple[str, ...] = ()
    is_plan: bool = False
