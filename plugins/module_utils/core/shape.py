# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Check that a document from outside has the shape that code relies on: types, ranges, required keys.

A shape is a function of a value and its place. The first fault is told with its place, such as C(steps[2].guest.uuid).
Keys that a shape does not name are let pass where it says so, so that a later release may add some.
"""

from __future__ import annotations

import math
import re
import typing as t

#: Takes a value and its place; raises ShapeError.
Shape = t.Callable[[t.Any, str], None]


class ShapeError(ValueError):
    """A value of another shape.

    Attributes:
        place: where it is.
        what: what is wrong with it, to follow the place in a sentence.
    """

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place} {what}")
        self.place = place
        self.what = what


def text(pattern: str | None = None, words: str = "") -> Shape:
    """A text, perhaps one that matches a pattern from end to end; C(words) say what the pattern asks for."""
    compiled = None if pattern is None else re.compile(pattern)

    def check(value: t.Any, place: str) -> None:
        if not isinstance(value, str):
            raise ShapeError(place, f"must be a text, not {kind_of(value)}")
        if compiled is not None and not compiled.fullmatch(value):
            raise ShapeError(place, f"must be {words}")

    return check


def whole(least: int | None = None) -> Shape:
    """A whole number, perhaps not below a least one."""

    def check(value: t.Any, place: str) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ShapeError(place, f"must be a whole number, not {kind_of(value)}")
        if least is not None and value < least:
            raise ShapeError(place, f"must be {least} or more, not {value}")

    return check


def number(least: float | None = None) -> Shape:
    """A finite number, perhaps not below a least one."""

    def check(value: t.Any, place: str) -> None:
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise ShapeError(place, f"must be a number, not {kind_of(value)}")
        if least is not None and value < least:
            raise ShapeError(place, f"must be {least:g} or more, not {value:g}")

    return check


def truth(value: t.Any, place: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise ShapeError(place, f"must be true or false, not {kind_of(value)}")


def one_of(*words: str) -> Shape:
    """One of these words."""

    def check(value: t.Any, place: str) -> None:
        if not isinstance(value, str) or value not in words:
            shown = f"'{value[:40]}'" if isinstance(value, str) else kind_of(value)
            raise ShapeError(place, f"must be one of {', '.join(words)}, not {shown}")

    return check


def either(*shapes: Shape) -> Shape:
    """What fits one of these shapes; the fault of the last one is told."""

    def check(value: t.Any, place: str) -> None:
        for number_, shape in enumerate(shapes, 1):
            try:
                shape(value, place)
            except ShapeError:
                if number_ == len(shapes):
                    raise
            else:
                return

    return check


def or_null(shape: Shape) -> Shape:
    """That, or null."""

    def check(value: t.Any, place: str) -> None:
        if value is not None:
            shape(value, place)

    return check


def list_of(shape: Shape) -> Shape:
    """A list of such values."""

    def check(value: t.Any, place: str) -> None:
        if not isinstance(value, list):
            raise ShapeError(place, f"must be a list, not {kind_of(value)}")
        for position, one in enumerate(value):
            shape(one, f"{place}[{position}]")

    return check


def mapping_of(shape: Shape) -> Shape:
    """A mapping of texts to such values."""

    def check(value: t.Any, place: str) -> None:
        _check_mapping(value, place)
        for key, one in value.items():
            shape(one, _within(place, str(key)))

    return check


def mapping(
    required: t.Mapping[str, Shape], optional: t.Mapping[str, Shape] | None = None, *, others: bool = False
) -> Shape:
    """A mapping with these keys.

    Args:
        required: keys that must be there.
        optional: keys that may be there.
        others: whether other keys are let pass, unread.
    """
    known = {**required, **(optional or {})}

    def check(value: t.Any, place: str) -> None:
        _check_mapping(value, place)
        for key in required:
            if key not in value:
                raise ShapeError(_within(place, key), "is missing")
        for key, one in value.items():
            if key in known:
                known[key](one, _within(place, key))
            elif not others:
                raise ShapeError(_within(place, str(key)[:40]), "is unknown")

    return check


def fits(shape: Shape, value: t.Any) -> bool:
    """Whether a value has a shape, for readers that leave out what has not."""
    try:
        shape(value, "")
    except ShapeError:
        return False
    return True


def _check_mapping(value: t.Any, place: str) -> None:
    if not isinstance(value, t.Mapping):
        raise ShapeError(place, f"must be a mapping, not {kind_of(value)}")
    for key in value:
        if not isinstance(key, str):
            raise ShapeError(place, f"has the key {key!r}, which is no text")


def _within(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key


_KINDS: dict[type, str] = {dict: "a mapping", list: "a list", str: "a text", int: "a whole number", float: "a number"}


def kind_of(value: t.Any) -> str:
    """The kind of a value, in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return next((word for kind, word in _KINDS.items() if isinstance(value, kind)), type(value).__name__)
