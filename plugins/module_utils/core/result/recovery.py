# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""What a run that finishes broken moves says of each guest."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.broken_move import Diagnosis
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side

#: Outcomes that leave nothing to do.
GOOD = ("moved", "goes_on", "closed", "would_resume", "would_go_on", "would_close", "left_to", "under_way")
#: Outcomes after which something is not as it was before.
CHANGED = ("moved", "goes_on", "closed", "would_resume", "would_go_on", "would_close")
_WOULD = {"resume": "would_resume", "resume_source": "would_go_on", "close": "would_close"}

Row = dict[str, t.Any]


def row(guest: t.Mapping[str, str], diagnosis: Diagnosis, sides: t.Sequence[Side]) -> Row:
    """A guest as it was found, of which nothing was done yet."""
    return {
        "guest": dict(guest),
        "source": diagnosis.source,
        "destination": diagnosis.destination,
        "found": diagnosis.kind,
        "outcome": diagnosis.kind,
        "reason": diagnosis.reason,
        "remedy": diagnosis.remedy,
        "sides": [side.describe() for side in sides],
    }


def with_result(found: Row, result: t.Mapping[str, t.Any], *, stays: bool) -> Row:
    """A guest with what became of the step that was to finish its move.

    Args:
        found: from L(row).
        result: of the step.
        stays: whether it goes on at its source, where it was not to be sent any more.
    """
    outcome, name = result["outcome"], found["guest"]["name"]
    source, destination = found["source"], found["destination"]
    if outcome == "would_move":
        return {**found, "outcome": _WOULD[found["found"]]}
    if stays:
        return {**found, "outcome": "goes_on", "reason": f"{name} runs on {source}; it never ran on {destination}"}
    told = "; ".join([*result["corrected"], *result["notes"]])
    told = f" ({told})" if told else ""
    # What is still wrong with a guest that has arrived.
    faults = "; ".join(sentence(fault) for fault in result["faults"])
    if outcome == "moved":
        reason = f"{name} is whole, and runs on {destination}{told}"
        return {**found, "outcome": "moved", "reason": reason, "remedy": faults}
    if outcome == "already_there":
        reason = f"{name} runs on {destination}, and nothing of it is left on {source}{told}"
        return {**found, "outcome": "closed", "reason": reason, "remedy": faults}
    refusals = result["refusals"]
    if refusals:
        reasons, remedies = ("; ".join(one[key] for one in refusals) for key in ("reason", "remedy"))
        return {**found, "outcome": "refused", "reason": reasons, "remedy": remedies}
    kind = outcome if outcome in ("lost", "unclear", "not_started") else "unclear"
    return {**found, "outcome": kind, "reason": result["error"] or found["reason"], "remedy": found["remedy"]}


def leaves_nothing_to_do(one: t.Mapping[str, t.Any]) -> bool:
    """Whether a guest needs no person any more."""
    return one["outcome"] in GOOD and not one["remedy"]


def summary(undone: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """One sentence for each guest that needs a person."""
    told = []
    for one in undone:
        word = {"lost": "LOST", "unclear": "UNCLEAR"}.get(one["outcome"], one["outcome"].replace("_", " "))
        remedy = f" -> {one['remedy']}" if one["remedy"] else ""
        told.append(f"{one['guest']['name']} ({word}): {one['reason']}{remedy}")
    return visible(" | ".join(told))
