# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What code indexes in documents that it finds in files: on a host, on the controller, in the output of a program.

docs/schemas describes these documents in full for other programs. Here is only what a reader would stumble over.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape

_TEXT = shape.text()
_WORD = shape.or_null(_TEXT)
_COUNT = shape.or_null(shape.whole(0))
_AMOUNT = shape.or_null(shape.number(0))

#: A guest, as everything names it.
GUEST = shape.mapping({"name": _TEXT, "uuid": _TEXT}, others=True)
#: A reason against something.
REFUSAL = shape.mapping({"code": _TEXT, "reason": _TEXT, "remedy": _TEXT}, others=True)
_GOAL = shape.mapping({"kind": _TEXT, "hosts": shape.list_of(_TEXT)}, others=True)
_REFUSALS = shape.list_of(REFUSAL)

#: A line of a progress file. The process that it names gets signals, so it is none that every host has.
PROGRESS_LINE = shape.mapping(
    {},
    {
        "guest": _WORD,
        "destination": _WORD,
        "phase": _WORD,
        "message": _TEXT,
        "level": shape.whole(),
        "pid": shape.whole(2),
    },
    others=True,
)

#: The steps of a plan that a run on this host has kept.
KEPT_PLAN = shape.mapping(
    {
        "steps": shape.list_of(
            shape.mapping({"guest": GUEST, "source": _TEXT, "destination": _TEXT}, {"id": _TEXT}, others=True)
        )
    },
    {"id": _TEXT, "goal": shape.or_null(_GOAL)},
    others=True,
)

#: What a run has written when it ended.
RUN_RESULT = shape.mapping(
    {
        "schema": _TEXT,
        "results": shape.list_of(
            shape.mapping(
                {"step": _WORD, "guest": GUEST, "outcome": _TEXT},
                {
                    "refusals": _REFUSALS,
                    "faults": _REFUSALS,
                    "error": _WORD,
                    "total_s": _AMOUNT,
                    "bytes": _COUNT,
                    "downtime_ms": _AMOUNT,
                },
                others=True,
            )
        ),
        "run": shape.mapping({}, others=True),
    },
    others=True,
)

#: What tells of guests that have left, in a report.
REPORT = shape.mapping(
    {
        "schema": _TEXT,
        "goal": _GOAL,
        "started_at": _WORD,
        "guests": shape.list_of(
            shape.mapping({"uuid": _TEXT, "source": _TEXT, "destination": _TEXT, "outcome": _TEXT}, others=True)
        ),
        "stays": shape.list_of(shape.mapping({"guest": GUEST}, others=True)),
    },
    {"plan": _WORD},
    others=True,
)

#: One way between two hosts, as migration_path_info saw it.
PATH = shape.mapping(
    {
        "source": _TEXT,
        "destination": _TEXT,
        "ok": shape.truth,
        "checks": shape.list_of(
            shape.mapping(
                {"check": _TEXT, "ok": shape.or_null(shape.truth), "code": _TEXT, "reason": _TEXT, "remedy": _WORD},
                others=True,
            )
        ),
        "guests": shape.list_of(shape.mapping({"name": _TEXT, "uuid": _TEXT, "refusals": _REFUSALS}, others=True)),
    },
    {"schema": _TEXT},
    others=True,
)

_POINT = shape.mapping(
    {
        "window_s": shape.number(0),
        "dirtied_bytes": shape.number(0),
        "sd_bytes": shape.number(0),
        "repeats": shape.whole(1),
    },
    others=True,
)

_POINTS = shape.list_of(_POINT)


def _points(value: t.Any, place: str) -> None:
    """Points of a curve, of which each has a window of its own."""
    _POINTS(value, place)
    windows = [point["window_s"] for point in value]
    if 0 in windows:
        raise shape.ShapeError(place, "must have windows above 0")
    if len(set(windows)) < len(windows):
        raise shape.ShapeError(place, "must have one point for each window")


_FIT_AMOUNTS = (
    "hot_bytes",
    "hot_sd_bytes",
    "fill_s",
    "fill_sd_s",
    "cold_bytes_per_s",
    "cold_sd_bytes_per_s",
    "base_bytes",
    "misfit",
)

#: What a guest does to its memory, as it was measured.
WORKING_SET = shape.mapping(
    {
        "schema": _TEXT,
        "guest": GUEST,
        "taken_at": _TEXT,
        "memory_bytes": shape.whole(1),
        "touched_bytes": shape.whole(0),
        "touched_how": shape.one_of("look", "balloon", "rss", "memory"),
        "points": _points,
        "fit": shape.or_null(
            shape.mapping(
                {**{name: shape.number(0) for name in _FIT_AMOUNTS}, "shape": shape.one_of("linear", "exponential")},
                others=True,
            )
        ),
        "touched_error": shape.number(0),
        **dict.fromkeys(("vcpu_utilisation", "compressed_share", "sparse", "disk_write_bytes_per_s"), _AMOUNT),
    },
    {
        "method": _TEXT,
        "samples_per_gib": shape.whole(0),
        "hot_compressed_share": _AMOUNT,
        "unusual": _WORD,
        "sentence": _TEXT,
    },
    others=True,
)

#: What was taken of a guest's memory.
TAKEN_MEMORY = shape.mapping(
    {
        "schema": _TEXT,
        "name": _TEXT,
        "uuid": _TEXT,
        "before_kib": shape.whole(1),
        "target_kib": shape.whole(1),
    },
    {"boot_id": shape.or_null(_TEXT), "domain_id": shape.whole()},
    others=True,
)

_DELTA = shape.mapping(
    {
        **dict.fromkeys(("pool", "volume", "base", "base_format", "format"), _TEXT),
        "size_bytes": shape.whole(0),
        "layers": shape.list_of(_TEXT),
        "overlays": shape.list_of(_TEXT),
    },
    others=True,
)

_BEGUN_DISKS = shape.list_of(
    shape.mapping(
        {"target": _TEXT, "source": _TEXT, "path": _TEXT},
        {"format": _WORD, "delta": shape.or_null(_DELTA)},
        others=True,
    )
)
#: The images that were made for a guest's disks at a destination, and at others before.
BEGUN_COPIES = shape.mapping(
    {"schema": _TEXT, "guest": GUEST, "destination": _TEXT, "disks": _BEGUN_DISKS},
    {"others": shape.list_of(shape.mapping({"destination": _TEXT, "disks": _BEGUN_DISKS}, others=True))},
    others=True,
)

#: An image that a guest has left behind.
LEFT_COPY = shape.mapping(
    {"path": _TEXT},
    {
        "target": _WORD,
        "size_bytes": _COUNT,
        "allocated_bytes": _COUNT,
        "mtime_ns": _COUNT,
        "is_file": shape.truth,
        "link_to": _WORD,
        "at": _TEXT,
        "destination": _TEXT,
        "format": _WORD,
    },
    others=True,
)
