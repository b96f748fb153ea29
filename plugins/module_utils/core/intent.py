# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What the operator wants of a move: the words, their defaults, and how a guest's own meet those of the run.

The words are those of docs/contracts.md, "Intent". Values may come from YAML, from the command line (``-e`` makes
everything a string) or from an attribute in a guest's XML, so ``"200"`` and ``"yes"`` are understood.
"""

from __future__ import annotations

import contextlib
import difflib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

DEFAULTS: dict[str, t.Any] = {
    "max_downtime_ms": 500,
    "max_slowdown_pct": None,
    "deadline_s": None,
    "allow_postcopy": False,
    "allow_suspend": False,
    "allow_shutdown": False,
    "allow_storage_copy": False,
    "allow_managed": False,
    "bandwidth_mib_s": None,
    "bandwidth_floor_mib_s": None,
    "encryption": "required",
    "disks": "copy",
}

#: QEMU refuses a longer switchover (2000 s).
MAX_DOWNTIME_MS = 2_000_000
#: libvirt counts bytes per second in 63 bits and refuses what does not fit.
MAX_BANDWIDTH_MIB_S = 8_796_093_022_207

#: word: (lowest, highest or None, may be null, what the number means)
_NUMBERS: dict[str, tuple[int, int | None, bool, str]] = {
    "max_downtime_ms": (1, MAX_DOWNTIME_MS, False, "milliseconds"),
    "max_slowdown_pct": (0, 100, True, "per cent"),
    "deadline_s": (1, None, True, "seconds"),
    "bandwidth_mib_s": (1, MAX_BANDWIDTH_MIB_S, True, "MiB per second"),
    "bandwidth_floor_mib_s": (1, MAX_BANDWIDTH_MIB_S, True, "MiB per second"),
}
#: A value of C(allow_postcopy): only between hosts that could resume it if the link between them broke.
RECOVERABLE = "recoverable"
_PERMISSIONS = ("allow_postcopy", "allow_suspend", "allow_shutdown", "allow_storage_copy", "allow_managed")
#: The one permission that a guest can give: it concerns nobody else, and is the consent of its owner.
CONSENTS = ("allow_shutdown",)
_ENCRYPTION = ("required", "off")
#: How disks get there that the destination does not share, if they may be copied at all.
DISKS = ("copy", "lazy", "delta")

_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_NULL = ("", "null", "none", "any", "~")


class IntentError(ValueError):
    """An intent that makes no sense; its text is for the operator."""

    @property
    def refusal(self) -> Refusal:
        return refusal("intent", str(self), "correct it; docs/contracts.md lists the words and their values")


def stated(mapping: t.Mapping[str, t.Any] | None, *, whose: str | None = None) -> dict[str, t.Any]:
    """Check the words given and return only those, as plain values, in the order of ``DEFAULTS``.

    A permission, ``max_downtime_ms``, ``encryption`` or ``disks`` that is null counts as not said. ``whose`` (for
    example ``"guest web1"``) goes in front of an error's text.

    >>> stated({"max_downtime_ms": "200", "allow_postcopy": "yes", "encryption": None})
    {'max_downtime_ms': 200, 'allow_postcopy': True}
    """
    prefix = f"{whose}: " if whose else ""
    if mapping is None:
        return {}
    if not isinstance(mapping, t.Mapping):
        raise IntentError(f"{prefix}the intent must be a mapping of words to values, not {_shown(mapping)}")
    for word in mapping:
        if word not in DEFAULTS:
            raise IntentError(prefix + _unknown_word(word))
    result: dict[str, t.Any] = {}
    for word in DEFAULTS:
        if word not in mapping:
            continue
        try:
            value = _value(word, mapping[word])
        except IntentError as exc:
            raise IntentError(f"{prefix}{exc}") from None
        if value is not None or _may_be_null(word):
            result[word] = value
    return result


def normalise(mapping: t.Mapping[str, t.Any] | None, *, whose: str | None = None) -> dict[str, t.Any]:
    """Check an intent and fill in what is not said with the defaults."""
    return {**DEFAULTS, **stated(mapping, whose=whose)}


def _floor_within_cap(intent: dict[str, t.Any]) -> dict[str, t.Any]:
    """The first round is sent at the floor, so above the cap it would exceed the rate that is permitted."""
    floor, cap = intent["bandwidth_floor_mib_s"], intent["bandwidth_mib_s"]
    return intent if floor is None or cap is None else {**intent, "bandwidth_floor_mib_s": min(floor, cap)}


def merge(
    run: t.Mapping[str, t.Any] | None,
    guest: t.Mapping[str, t.Any] | None,
    *,
    whose: str | None = None,
) -> dict[str, t.Any]:
    """The intent for one guest: the stricter of what it says and of what the run says, word by word.

    Whoever owns a guest writes its words. So they can hold its move to more, and permit nothing that the operator has
    not permitted. Pass the run's intent as the operator stated it, not with its defaults filled in: only then can a
    guest consent to be shut down.

    >>> merge({"allow_postcopy": True}, {"allow_postcopy": False, "max_downtime_ms": 50})["allow_postcopy"]
    False
    >>> merge({}, {"allow_postcopy": True})["allow_postcopy"]
    False
    >>> merge({}, {"allow_shutdown": True})["allow_shutdown"]
    True
    """
    of_run, of_guest = stated(run), stated(guest, whose=whose)
    result = {**DEFAULTS, **of_run}
    for word, value in of_guest.items():
        consents = word in CONSENTS and word not in of_run
        result[word] = value if consents else stricter(word, result[word], value)
    return _floor_within_cap(result) if of_guest else result


def not_granted(run: t.Mapping[str, t.Any] | None, guest: t.Mapping[str, t.Any] | None) -> list[str]:
    """The words of a guest that ask for more than the run permits, so that they do nothing.

    >>> not_granted({}, {"allow_postcopy": True, "max_downtime_ms": 50})
    ['allow_postcopy']
    """
    merged = merge(run, guest)
    return [word for word, value in stated(guest).items() if merged[word] != value]


def beyond(permitted: t.Mapping[str, t.Any], asked: t.Mapping[str, t.Any]) -> list[str]:
    """The words in which one complete intent permits more than another.

    >>> beyond(normalise({}), normalise({"encryption": "off", "deadline_s": 60}))
    ['encryption']
    """
    words = {word for word in DEFAULTS if stricter(word, permitted[word], asked[word]) != asked[word]}
    floor, cap, own = asked["bandwidth_floor_mib_s"], permitted["bandwidth_mib_s"], permitted["bandwidth_floor_mib_s"]
    if floor is not None and cap is not None and floor > max(cap, own or 0):
        words.add("bandwidth_floor_mib_s")
    return [word for word in DEFAULTS if word in words]


def stricter(word: str, one: t.Any, other: t.Any) -> t.Any:
    """The stricter of two values of a word."""
    if word in _NUMBERS:
        return min((value for value in (one, other) if value is not None), default=None)
    if word == "allow_postcopy":
        return min(one, other, key=(False, RECOVERABLE, True).index)
    if word in _PERMISSIONS:
        return one and other
    # The order of DISKS is not by strictness: what waits for no other host is the strictest.
    order = _ENCRYPTION if word == "encryption" else ("copy", "delta", "lazy")
    return min(one, other, key=order.index)


def shown(value: t.Any) -> str:
    """A value of a word for people.

    >>> shown(True), shown(None), shown(200)
    ('true', 'no limit', '200')
    """
    if value is None:
        return "no limit"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _may_be_null(word: str) -> bool:
    return word in _NUMBERS and _NUMBERS[word][2]


def _value(word: str, value: t.Any) -> t.Any:
    if isinstance(value, str):
        value = value.strip()
        if value.lower() in _NULL and _may_be_null(word):
            return None
    if value is None:
        return None
    if word in _NUMBERS:
        return _number(word, value)
    if word in _PERMISSIONS:
        return _permission(word, value)
    if word == "disks":
        return _disks(value)
    return _encryption(word, value)


def _number(word: str, value: t.Any) -> int:
    lowest, highest, nullable, unit = _NUMBERS[word]
    number: int | None = None
    if isinstance(value, bool):
        pass
    elif isinstance(value, int):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    elif isinstance(value, str):
        with contextlib.suppress(ValueError):
            number = int(value, 10)
    if number is None or number < lowest or (highest is not None and number > highest):
        span = f"from {lowest} to {highest}" if highest is not None else f"of at least {lowest}"
        none = ", or null for no limit" if nullable else ""
        raise IntentError(f"{word} must be a whole number {span} ({unit}){none}, not {_shown(value)}")
    return number


def _permission(word: str, value: t.Any) -> bool | str:
    if isinstance(value, bool):
        return value
    may_recover = word == "allow_postcopy"
    if may_recover and isinstance(value, str) and value.lower() == RECOVERABLE:
        return RECOVERABLE
    if isinstance(value, (int, str)):
        text = str(value).lower()
        if text in _TRUE:
            return True
        if text in _FALSE:
            return False
    values = f"true, false or {RECOVERABLE}" if may_recover else "true or false"
    raise IntentError(f"{word} must be {values}, not {_shown(value)}")


def _encryption(word: str, value: t.Any) -> str:
    # YAML 1.1 reads a bare `off` as false
    if value is False:
        return "off"
    if isinstance(value, str) and value.lower() in _ENCRYPTION:
        return value.lower()
    raise IntentError(f"{word} must be 'required' or 'off', not {_shown(value)}")


def _disks(value: t.Any) -> str:
    if isinstance(value, str) and value.lower() in DISKS:
        return value.lower()
    raise IntentError(f"disks must be 'copy', 'lazy' or 'delta', not {_shown(value)}")


def _unknown_word(word: t.Any) -> str:
    near = difflib.get_close_matches(str(word), DEFAULTS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the words are {', '.join(DEFAULTS)}"
    return f"unknown intent {_shown(word)}: {hint}"


def _shown(value: t.Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
