# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: paths between hosts as a matrix.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.phrases import counted, refusal_lines
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, short, table


def matrix_lines(paths: t.Sequence[t.Mapping[str, t.Any]]) -> list[str]:
    """Return paths as a matrix, sources down and destinations across; then each failure with its remedy."""
    if not paths:
        return ["No path was checked."]
    by_pair = {(path["source"], path["destination"]): path for path in paths}
    sources = sorted({source for source, _destination in by_pair})
    destinations = sorted({destination for _source, destination in by_pair})
    rows = [
        [source, *(_cell(source, dest, by_pair.get((source, dest))) for dest in destinations)] for source in sources
    ]
    lines = table(["FROM \\ TO", *destinations], rows)
    for (source, destination), path in sorted(by_pair.items()):
        failed = [check for check in path["checks"] if check["ok"] is False]
        refused = [(guest["name"], item) for guest in path.get("guests") or [] for item in guest["refusals"]]
        if failed or refused:
            lines += ["", f"{clean(source)} -> {clean(destination)}"]
        for check in failed:
            lines.extend(refusal_lines([check], "  ", f"{check['check']}: "))
        for name, item in refused:
            lines.extend(refusal_lines([item], "  ", f"{short(clean(name))}: "))
    return lines


def _cell(source: str, destination: str, path: t.Mapping[str, t.Any] | None) -> str:
    if source == destination:
        return "-"
    if path is None:
        return "?"
    failed = next((check["check"] for check in path["checks"] if check["ok"] is False), None)
    if failed:
        return str(failed)
    refused = sum(bool(guest["refusals"]) for guest in path.get("guests") or [])
    return "ok" if not refused else f"not {counted(refused, 'guest', 'guests')}"
