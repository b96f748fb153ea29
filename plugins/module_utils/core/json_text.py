# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Read JSON that nobody vouches for: files on hosts and on the controller, plans, answers of agents.

Python's own reader lets pass what no document of this collection has, and what later code stumbles over: a key twice
(the last one wins, and a reviewer sees the first), C(NaN), C(1e999) as infinity, numbers of any length. Deep nesting
ends it with RecursionError, which is no ValueError.
"""

from __future__ import annotations

import json
import math
import typing as t

#: The largest document that is written here, a snapshot of thousands of guests, has some tens of MiB.
MOST_BYTES = 256 * 1024 * 1024
#: Nothing that is counted here needs more digits: 2**64 has 20.
MOST_DIGITS = 20
#: No document here goes deeper than 15 levels.
MOST_LEVELS = 60


class JsonTextError(ValueError):
    """A text that is no JSON as this collection writes it; says why in words.

    Attributes:
        at: the error of Python's reader, which knows line and column; None where that is not the reason.
    """

    def __init__(self, why: str, at: json.JSONDecodeError | None = None) -> None:
        super().__init__(why)
        self.at = at


def parsed(text: str | bytes) -> t.Any:
    """The document in a text.

    Raises: JsonTextError, a ValueError, and no other error.

    >>> parsed('{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    >>> parsed('{"a": 1, "a": 2}')
    Traceback (most recent call last):
        ...
    ansible_collections.kvmops.cluster.plugins.module_utils.core.json_text.JsonTextError: it has the key 'a' twice
    """
    if len(text) > MOST_BYTES:
        raise JsonTextError(f"it has {len(text)} bytes, and {MOST_BYTES} is the most")
    try:
        plain = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise JsonTextError("it is not a text in UTF-8") from error
    try:
        document = json.loads(
            plain,
            object_pairs_hook=_each_key_once,
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_no_number,
        )
    except json.JSONDecodeError as error:
        raise JsonTextError(f"{error.msg} (line {error.lineno}, column {error.colno})", error) from error
    except RecursionError:
        raise JsonTextError(_TOO_DEEP) from None
    if _levels_exceed(document):
        raise JsonTextError(_TOO_DEEP)
    return document


_TOO_DEEP = f"its parts are nested more than {MOST_LEVELS} deep"


def _each_key_once(pairs: list[tuple[str, t.Any]]) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {}
    for key, value in pairs:
        if key in found:
            raise JsonTextError(f"it has the key {_short(key)!r} twice")
        found[key] = value
    return found


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise JsonTextError(f"it has a number of {len(digits)} digits ({_short(digits)})")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise JsonTextError(f"it has the number {_short(digits)}, which is too large")
    return value


def _no_number(word: str) -> t.NoReturn:
    raise JsonTextError(f"it has {word}, which is no number")


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."


def _levels_exceed(document: t.Any) -> bool:
    """Whether parts are nested too deeply. Level by level, so that this needs no depth itself."""
    level = [document]
    for _depth in range(MOST_LEVELS):
        level = [
            part
            for one in level
            for part in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
        if not level:
            return False
    return True
