# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what capsule_send has sent or would send, as a table.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, human_seconds
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.capsule_table import AVOIDED
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, table, wrapped

HEADER = ["HOST", "FROM", "TO SEND", "NOT SENT", "ON THE LINK", "TIME", "NOW"]
RIGHT = ["TO SEND", "NOT SENT", "ON THE LINK", "TIME"]
OUTCOME = {
    "sent": "sent",
    "there": "has it already",
    "would_send": "would be sent",
    "refused": "refused",
    "failed": "failed",
}

Row = t.Mapping[str, t.Any]


def sends_lines(rows: t.Sequence[Row]) -> list[str]:
    """What goes to each host before compression, what does not and why not, and who cannot have it."""
    if not rows:
        return ["There is no host to send to."]
    lines = table(HEADER, map(_cells, rows), right=RIGHT)
    for row in rows:
        avoided = [
            f"{human_bytes(row['avoided_by'][key])} {what}"
            for key, what in AVOIDED.items()
            if row["avoided_by"].get(key)
        ]
        if avoided and row["outcome"] in ("sent", "would_send"):
            lines += wrapped(clean(f"{row['host']}: not sent: {', '.join(avoided)}"), "  ", "    ")
        for why in row["full_because"]:
            lines += wrapped(clean(f"{row['host']}: sent in full: {why}"), "  ", "    ")
        if row["refusal"]:
            lines += wrapped(clean(f"{row['host']}: {sentence(row['refusal'])}"), "  ", "    ")
    return lines


def _cells(row: Row) -> list[str]:
    counted = row["outcome"] in ("sent", "would_send")
    on_the_link = row["bytes_out"] + row["bytes_back"]
    return [
        row["host"],
        row["source"],
        human_bytes(row["sent"]) if counted else "-",
        human_bytes(sum(row["avoided_by"].values())) if counted else "-",
        human_bytes(on_the_link) if on_the_link else "-",
        human_seconds(row["seconds"]) if on_the_link else "-",
        OUTCOME.get(row["outcome"], row["outcome"]),
    ]
