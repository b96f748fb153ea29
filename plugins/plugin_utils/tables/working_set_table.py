# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: measurements as a table, with the cost of moving each guest.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Domain, metadata_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import calibration
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import (
    PlanForecasts,
    stated_bytes_per_s,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.choice import Choice
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_bytes, listed
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import forecast_text
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean, short, table, wrapped

HEADER = ["HOST", "GUEST", "MEMORY", "TOUCHED", "TIME", "SENT", "DOWNTIME", "HOW", "WHAT IT DOES"]
RIGHT = ["MEMORY", "TOUCHED", "TIME", "SENT", "DOWNTIME"]

Document = t.Mapping[str, t.Any]


class _Row(t.NamedTuple):
    host: str
    guest: Domain
    working_set: Document
    choice: Choice | None


def working_set_lines(measured: Document, view: Document, intent: Document) -> list[str]:
    """What each guest does, one row a guest, and below it whatever an operator should know before moving it.

    Args:
        measured: what C(measurement_view) returned.
        view: what C(cluster_view) returned.
        intent: the run's, as the operator stated it.

    Raises: IntentError for an intent that makes no sense.
    """
    rows = _rows(measured, view, intents.stated(intent))
    if not rows:
        return ["No guest was measured.", *_unmeasured(measured)]
    lines = [*table(HEADER, map(_cells, rows), right=RIGHT), *_unmeasured(measured)]
    for row in rows:
        lines += _remarks(row)
    if any(row.choice and row.choice["bandwidth_bytes_per_s"] is None for row in rows):
        lines += [
            "",
            "The speed of the path from some of these hosts is not known yet, so there is no forecast for it.",
        ]
        lines.append("  -> state kvmops_cluster_bandwidth_mib_s in the inventory; the first move measures it, too")
    return lines


def _rows(measured: Document, view: Document, intent: Document) -> list[_Row]:
    forecasts = PlanForecasts(view["snapshots"], view["connect"], measured["working_sets"], measured["calibration"])
    documents = {document["guest"]["uuid"]: document for document in measured["working_sets"]}
    found = []
    for host, uuids in sorted(measured["hosts"].items()):
        guests = {guest["uuid"]: guest for guest in view["snapshots"][host]["domains"]}
        peer = _peer(host, view, measured["calibration"].get(host) or {})
        # A guest that has left since is somebody else's to tell about.
        for guest in sorted((guests[uuid] for uuid in uuids if uuid in guests), key=lambda guest: str(guest["name"])):
            own = intents.merge(intent, metadata_of(guest).get("intent"), whose=f"metadata of {guest['name']}")
            choice = forecasts.choice(guest, host, peer, own) if peer else None
            found.append(_Row(host, guest, documents[guest["uuid"]], choice))
    return found


def _peer(host: str, view: Document, learned: Document) -> str | None:
    """The open host to which the way from here is fastest, as far as anybody knows; None without another open host."""

    def rate(other: str) -> float:
        stated = stated_bytes_per_s(view["connect"], host, other)
        link = calibration.link_of((learned.get("paths") or {}).get(other), stated)
        return link.bandwidth_bytes_per_s if link else 0.0

    return max(sorted(other for other in view["open"] if other != host), key=rate, default=None)


def _cells(row: _Row) -> list[str]:
    size = [human_bytes(row.guest["memory_bytes"]), human_bytes(row.working_set["touched_bytes"])]
    how, *figures = forecast_text.cells(row.choice)
    return [row.host, row.guest["name"], *size, *figures, how, row.working_set["sentence"]]


def _remarks(row: _Row) -> list[str]:
    name = short(clean(row.guest["name"]))
    lines: list[str] = []
    if row.working_set.get("unusual"):
        lines += ["", *wrapped(f"{name} behaves unusually: {row.working_set['unusual']}", "", "  ")]
    refused = row.choice and row.choice["refusal"]
    if refused:
        lines += ["", *wrapped(f"{name} cannot be moved as intended: {refused['reason']}", "", "  ")]
        lines += wrapped(refused["remedy"], "  -> ", "     ")
    return lines


def _unmeasured(measured: Document) -> list[str]:
    """Guests that have never been measured; of others there was a warning when it was tried."""
    never = [str(one["reason"]).partition(" has not")[0] for one in measured["unmeasured"] if _is_new(one)]
    return ["", f"Not measured yet: {listed([short(clean(name)) for name in never], 8)}."] if never else []


def _is_new(one: Document) -> bool:
    return one["code"] == "never_measured"
