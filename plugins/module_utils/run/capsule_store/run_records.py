# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: records of runs that end later than their process: a start, an export, a fill.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.fields import FieldError, Fields
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files

SCHEMA = "kvmops.capsule_run/1"
KINDS = ("save", "send", "start", "export", "fill")

RunRecord = dict[str, t.Any]

_NEEDED = r"(blocks|sha256):[0-9a-f]{64}"


def record_of(
    kind: str,
    guest: t.Mapping[str, t.Any],
    needs: t.Iterable[str],
    *,
    at: str,
    ended: bool = False,
    details: t.Mapping[str, t.Any] | None = None,
) -> RunRecord:
    """The record of a run.

    Args:
        kind: one of C(KINDS).
        guest: name and UUID.
        needs: names of images and digests of capsules that must not be removed before it has ended.
        at: when it was written, as in all documents.
        ended: whether it has ended.
        details: what only this kind has; plain JSON.
    """
    record = {
        "schema": SCHEMA,
        "kind": kind,
        "guest": {"name": guest["name"], "uuid": guest["uuid"]},
        "needs": sorted(set(needs)),
        "at": at,
        "ended": ended,
        "details": dict(details or {}),
    }
    check(record)
    return record


def check(record: t.Any) -> None:
    """Hold a record against its definition; C(details) are the business of their kind.

    Raises:
        FieldError: a part is missing, unknown or not possible.
    """
    fields = Fields(record, "")
    fields.one_of("schema", (SCHEMA,))
    fields.one_of("kind", KINDS)
    guest = fields.fields("guest")
    guest.text("name", r"[^\x00-\x1f\x7f]{1,255}")
    guest.text("uuid", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    guest.end()
    fields.texts("needs", _NEEDED, 4096)
    fields.text("at", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
    fields.flag("ended")
    fields.anything("details")
    fields.end()


def read(path: str) -> RunRecord | None:
    """The record in a file; None: there is none.

    Raises:
        CapsuleError: it is damaged.
    """
    record = durable_files.read_json(path)
    if record is None:
        return None
    try:
        check(record)
    except FieldError as error:
        raise CapsuleError(
            "run_record_damaged",
            f"{path} is damaged ({error}): nobody knows what that run still needs",
            f"see what it was (less {path}) and whether its guest runs; then remove it",
        ) from error
    return t.cast(RunRecord, record)
