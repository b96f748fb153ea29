# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""One object of a document that is not trusted, read key by key; a key that nobody read is refused."""

from __future__ import annotations

import re
import typing as t


class FieldError(ValueError):
    """A part of a document is not as it must be; the text says which part and what it is."""


class Fields:
    """One object of a document.

    Args:
        value: what should be an object.
        where: its place in the document, for messages.
    """

    def __init__(self, value: t.Any, where: str) -> None:
        if not isinstance(value, dict):
            raise FieldError(f"{where or 'the document'} is no object")
        self._value: dict[str, t.Any] = value
        self._where = where
        self._read: set[str] = set()

    def _take(self, key: str) -> t.Any:
        self._read.add(key)
        if key not in self._value:
            raise FieldError(f"{self._place(key)} is missing")
        return self._value[key]

    def _place(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def wrong(self, key: str) -> FieldError:
        """The error for a key whose value is not possible."""
        return FieldError(f"{self._place(key)} is {shown(self._value.get(key))}")

    def text(self, key: str, pattern: str) -> str:
        """A text that the pattern matches as a whole."""
        value = self._take(key)
        if not isinstance(value, str) or not re.fullmatch(pattern, value):
            raise self.wrong(key)
        return value

    def text_or_none(self, key: str, pattern: str) -> str | None:
        """The same, or null."""
        return None if self._take(key) is None else self.text(key, pattern)

    def number(self, key: str, least: int, most: int) -> int:
        """A whole number within bounds."""
        value = self._take(key)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.wrong(key)
        return value

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self._take(key)
        if not isinstance(value, bool):
            raise self.wrong(key)
        return value

    def one_of(self, key: str, values: t.Sequence[str]) -> str:
        """One of these texts."""
        value = self._take(key)
        if value not in values:
            raise self.wrong(key)
        return t.cast(str, value)

    def fields(self, key: str) -> Fields:
        """An object."""
        return Fields(self._take(key), self._place(key))

    def fields_or_none(self, key: str) -> Fields | None:
        """An object, or null."""
        return None if self._take(key) is None else self.fields(key)

    def listed(self, key: str, most: int) -> list[Fields]:
        """A list of so many objects at most."""
        value = self._take(key)
        if not isinstance(value, list):
            raise self.wrong(key)
        if len(value) > most:
            raise FieldError(f"{self._place(key)} has {len(value)} entries, and {most} is the most")
        return [Fields(one, f"{self._place(key)}[{number}]") for number, one in enumerate(value)]

    def texts(self, key: str, pattern: str, most: int) -> list[str]:
        """A list of so many texts at most, each of which the pattern matches as a whole."""
        value = self._take(key)
        if not isinstance(value, list) or not all(isinstance(one, str) and re.fullmatch(pattern, one) for one in value):
            raise self.wrong(key)
        if len(value) > most:
            raise FieldError(f"{self._place(key)} has {len(value)} entries, and {most} is the most")
        return value

    def anything(self, key: str) -> dict[str, t.Any]:
        """An object whose keys are not looked at."""
        value = self._take(key)
        if not isinstance(value, dict):
            raise self.wrong(key)
        return value

    def end(self) -> None:
        """Refuse the keys that were not asked for."""
        unknown = sorted(set(self._value) - self._read)
        if unknown:
            raise FieldError(f"{self._place(shown(unknown[0]))} is not known here")


def shown(value: t.Any) -> str:
    """A value that is not trusted, for a message: on one line, and not too long.

    >>> shown("a\\nb"), shown("x" * 99)
    ("'a\\\\nb'", "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…")
    """
    text = ascii(value) if not isinstance(value, (dict, list)) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:60] + "…"
