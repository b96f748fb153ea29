# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the images that guests have left on hosts, as a table.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.phrases import counted
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, table, wrapped

STATUS = {
    "kept": "kept",
    "removed": "removed",
    "would_remove": "can be removed",
    "gone": "gone",
    "home": "in use: the guest is back",
    "begun": "begun, not ended",
}


def disk_copies_lines(copies: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """The images of all hosts, and why those that are kept are kept."""
    if not copies:
        return ["No guest has left a copy of a disk behind."]
    rows = sorted(copies, key=lambda one: (str(one["host"]), str(one["guest"].get("name")), str(one["path"])))
    total = sum(one["allocated_bytes"] or 0 for one in rows if one["status"] in ("kept", "would_remove"))
    images = counted(len(rows), "copy of a disk", "copies of disks")
    lines = [f"{images} left behind, {human_bytes(total)} that can be had back", ""]
    told = [
        [
            one["host"],
            one["guest"].get("name") or "-",
            one["target"] or "-",
            "-" if one["allocated_bytes"] is None else human_bytes(one["allocated_bytes"]),
            _age(one["age_s"]),
            one["destination"] or "-",
            STATUS.get(one["status"], one["status"]),
            one["path"],
        ]
        for one in rows
    ]
    lines += table(["HOST", "GUEST", "DISK", "SIZE", "AGE", "WENT TO", "NOW", "PATH"], told, right=["SIZE", "AGE"])
    kept = [one for one in rows if one["why"]]
    if kept:
        lines += ["", "Why they are kept:"]
        for one in kept:
            lines += wrapped(clean(sentence(one["why"])), "  ", "    ")
    return lines


def _age(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
