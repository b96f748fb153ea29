# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""JSON in one form only: what is signed, and what a digest names.

Keys are sorted, nothing is between the parts, everything outside ASCII is escaped, numbers are whole. What comes in
must be in this very form, so two hosts that read the same bytes never read two meanings.
"""

from __future__ import annotations

import json
import typing as t

#: A capsule of sixteen disks with sixteen layers each has less than 100 KiB.
MOST_BYTES = 1024**2
#: JSON programs agree on whole numbers up to here.
MOST_NUMBER = 2**53 - 1


def canonical(document: t.Any) -> bytes:
    """The document as the bytes that are signed.

    Raises:
        ValueError: it holds something that has no one form, such as a float.
    """
    _check(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")


def parsed(data: bytes) -> t.Any:
    """The document in these bytes, which are not trusted.

    Raises:
        ValueError: they are too many, are no JSON, or are not in the one form.
    """
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has {len(data)} bytes, and {MOST_BYTES} is the most")
    try:
        document = json.loads(data.decode("ascii"), parse_int=_whole, parse_float=_no_float, parse_constant=_no_float)
    except RecursionError as error:
        raise ValueError("its parts are nested too deeply") from error
    if canonical(document) != data:
        raise ValueError("it is not in the one form that is signed (sorted keys, no spaces, each key once)")
    return document


def _whole(digits: str) -> int:
    # Python itself takes long for very long numbers.
    if len(digits) > 17 or abs(int(digits)) > MOST_NUMBER:
        raise ValueError(f"the number {digits[:20]}… is too large")
    return int(digits)


def _no_float(text: str) -> t.NoReturn:
    raise ValueError(f"{text[:20]} is not a whole number")


def _check(value: t.Any, depth: int = 0) -> None:
    if depth > 20:
        raise ValueError("its parts are nested too deeply")
    if isinstance(value, dict):
        for key, one in value.items():
            if not isinstance(key, str):
                raise ValueError(f"the key {key!r} is not a text")
            _check(one, depth + 1)
    elif isinstance(value, list):
        for one in value:
            _check(one, depth + 1)
    elif isinstance(value, int):
        if abs(value) > MOST_NUMBER:
            raise ValueError("a number in it is too large")
    elif value is not None and not isinstance(value, str):
        raise ValueError(f"{value!r} has no one form")
