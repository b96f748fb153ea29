# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The shape of a plan document, as docs/schemas/plan.schema.json describes it for other programs."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import connect_uri, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents

GOALS = ("drain", "evacuate", "rebalance", "restore", "upgrade")
#: The goal of a single move (single_move.py). No planner makes such a plan.
MIGRATE = "migrate"
_AT = shape.text(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "a time in UTC, such as 2026-11-24T02:00:00Z")
_UUID = shape.text(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", "a UUID")
_NAME = shape.text(r"(?s).+", "a name")
_GUEST = shape.mapping({"name": _NAME, "uuid": _UUID})
_REFUSAL = shape.mapping({"code": shape.text(), "reason": shape.text(), "remedy": shape.text()})
_BAND = shape.or_null(
    shape.mapping({end: shape.or_null(shape.number(0)) for end in ("value", "low", "high")}),
)
_SECONDS = shape.or_null(shape.number(0))
_COUNT = shape.or_null(shape.whole(0))


def _is_intent(value: t.Any, place: str) -> None:
    if not isinstance(value, t.Mapping):
        raise shape.ShapeError(place, f"must be a mapping, not {shape.kind_of(value)}")
    try:
        intents.stated(value)
    except intents.IntentError as error:
        raise shape.ShapeError(place, f"makes no sense: {error}") from error


def _is_bandwidth(value: t.Any, place: str) -> None:
    try:
        shape.or_null(shape.number())(value, place)
        right = value is None or value > 0
    except shape.ShapeError:
        right = False
    if not right:
        raise shape.ShapeError(place, "must be a number above 0 (MiB/s), or null")


def _is_uri(value: t.Any, place: str) -> None:
    shape.text()(value, place)
    fault = connect_uri.fault_of(value, whose="a host")
    if fault is not None:
        raise shape.ShapeError(place, "is refused: " + fault["reason"])


FORECAST = shape.mapping(
    {
        "method": shape.or_null(shape.text()),
        "verdict": shape.text(),
        "reason": shape.text(),
        "rounds": _BAND,
        "bytes": _BAND,
        "total_s": _BAND,
        "downtime_ms": _BAND,
        "fallbacks": shape.list_of(shape.text()),
        "bandwidth_bytes_per_s": _COUNT,
        "measured_at": shape.or_null(_AT),
    },
    {
        "work_lost_s": _BAND,
        "at_once": _COUNT,
        "disks": shape.or_null(shape.mapping({"bytes": _COUNT, "seconds": _SECONDS}, {"whole_bytes": _COUNT})),
    },
    others=True,
)

STEP = shape.mapping({
    "id": shape.text(r"[A-Za-z0-9._-]{1,64}", "letters, digits, '.', '_' and '-', 64 at most"),
    "guest": _GUEST,
    "source": _NAME,
    "destination": _NAME,
    "memory_bytes": shape.whole(0),
    "intent": _is_intent,
    "reason": shape.text(),
    "strategy": shape.or_null(shape.text()),
    "forecast": shape.or_null(FORECAST),
    "after": shape.list_of(shape.text()),
})  # fmt: skip

_HOST = shape.mapping(
    {"host_uuid": shape.text(), "connect_uri": shape.or_null(_is_uri), "migration_address": shape.or_null(_NAME)},
    {"bandwidth_mib_s": _is_bandwidth, "qemu": shape.or_null(shape.text())},
)

_EXPECTED = shape.mapping(
    {"seconds": _SECONDS, "fits_window": shape.or_null(shape.truth)},
    {
        "bytes": _COUNT,
        "window_s": _SECONDS,
        "verdict": shape.or_null(shape.one_of("fits", "fits_without", "does_not_fit")),
        "without": shape.list_of(shape.text()),
        "reason": shape.or_null(shape.text()),
        "bound_s": _SECONDS,
        "bound_reason": shape.text(),
        "above_bound": shape.number(),
        "steps": shape.mapping_of(shape.mapping({"start_s": shape.number(0), "end_s": shape.number(0)})),
        "guessed": shape.list_of(shape.text()),
    },
    others=True,
)

#: What is told only together with another part: an edited plan may have lost it.
_TOGETHER = (("bound_s", ("bound_reason", "above_bound")), ("verdict", ("window_s", "without", "reason")))


def _is_expected(value: t.Any, place: str) -> None:
    _EXPECTED(value, place)
    for part, others in _TOGETHER:
        for other in others if value.get(part) is not None else ():
            if value.get(other) is None:
                raise shape.ShapeError(f"{place}.{other}", f"is missing, which belongs to {part}")


_WAVE = shape.mapping({
    "hosts": shape.list_of(_NAME),
    "seconds": shape.number(0),
    "moves": shape.list_of(shape.mapping({"guest": _GUEST, "source": _NAME, "destination": _NAME})),
})  # fmt: skip

PLAN = shape.mapping(
    {
        "schema": shape.text(),
        "id": shape.text(
            r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", "letters, digits, '.', '_' and '-' only, as it names a directory"
        ),
        "goal": shape.mapping({"kind": shape.one_of(*GOALS, MIGRATE), "hosts": shape.list_of(_NAME)}),
        "created_at": _AT,
        "intent": _is_intent,
        "snapshots": shape.mapping_of(shape.text()),
        "hosts": shape.mapping_of(_HOST),
        "steps": shape.list_of(STEP),
        "stays": shape.list_of(
            shape.mapping({"guest": _GUEST, "host": _NAME, "refusals": shape.list_of(_REFUSAL)}),
        ),
        "expected": _is_expected,
    },
    {
        "off": shape.list_of(shape.mapping({"guest": _GUEST, "host": _NAME})),
        "remarks": shape.list_of(_REFUSAL),
        "figures": shape.mapping_of(shape.either(shape.truth, shape.number())),
        "waves": shape.list_of(_WAVE),
    },
)
