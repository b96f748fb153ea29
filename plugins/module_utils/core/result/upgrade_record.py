# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The record of a rolling upgrade on a host. A later run reads it and continues there."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import document_shapes, shape

SCHEMA = "kvmops.upgrade/1"
#: In this order: not its turn yet; being emptied or upgraded; upgraded, healthy and open; the whole run has ended well.
PHASES = ("waiting", "begun", "upgraded", "over")

Record = dict[str, t.Any]

#: Of a host that no rolling upgrade has come to yet.
NONE: Record = {
    "schema": SCHEMA,
    "run": None,
    "phase": "over",
    "owner": None,
    "at": None,
    "qemu": None,
    "guests": [],
    "stopped": [],
    "health": None,
    "broken_ways": [],
}


_WORD = shape.or_null(shape.text())
_GUESTS = shape.list_of(document_shapes.GUEST)
#: A record with all its keys, as it may be found on a host.
SHAPE = shape.mapping({
    "schema": shape.one_of(SCHEMA),
    "run": _WORD,
    "phase": shape.one_of(*PHASES),
    "owner": _WORD,
    "at": _WORD,
    "qemu": _WORD,
    "guests": _GUESTS,
    "stopped": _GUESTS,
    "health": shape.or_null(shape.mapping({}, others=True)),
    "broken_ways": shape.list_of(shape.list_of(shape.text())),
})  # fmt: skip


class RecordUpdate(t.NamedTuple):
    """What is to be recorded. None keeps the value of the same run.

    Attributes:
        run: the rolling upgrade.
        phase: one of ``PHASES``.
        owner: who does it.
        qemu: the version the host has now.
        guests: those that ran on the host before the run, as name and uuid.
        stopped: those that the run has shut down and not started again, or has asked to and that may still heed it.
        health: what worked before the run, for the health gate.
        broken_ways: the ways between this host and others, from which to which, that did not work before the run.
    """

    run: str
    phase: str
    owner: str | None = None
    qemu: str | None = None
    guests: list[dict[str, str]] | None = None
    stopped: list[dict[str, str]] | None = None
    health: dict[str, t.Any] | None = None
    broken_ways: list[list[str]] | None = None


def advanced(current: Record, update: RecordUpdate, now: str) -> Record:
    """The record that a host should have.

    A new run forgets all of an earlier one but the guests that still wait to be started, and that the host was begun:
    it may be half upgraded, and is closed; which ways worked before that is known only from then. A run that has come
    further on this host does not go back to waiting, and keeps what it knew then.

    Args:
        current: the host's record.
        wish: what is to be recorded.
        now: the time, should something change.
    """
    same = current["run"] == update.run
    if same and update.phase == "waiting":
        return current
    before = current if same else {**NONE, "stopped": current["stopped"]}
    said = {name: value for name, value in update._asdict().items() if value is not None}
    begun = current["phase"] == "begun" and update.phase == "waiting"
    after = {**before, **said}
    if begun:
        after.update(phase="begun", broken_ways=current["broken_ways"])
    return current if after == current else {**after, "at": now}
