# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Index the refusals of paths (``kvmops.path/1``) by source, destination and guest."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal

#: (source, destination, UUID of the guest, or "" for every guest): refusals
PathRefusals = t.Mapping[tuple[str, str, str], t.Sequence[Refusal]]


def refusals_by_path(paths: t.Iterable[t.Mapping[str, t.Any]]) -> dict[tuple[str, str, str], list[Refusal]]:
    """Index what failed: checks of a path stand against every guest, a guest's own refusals against that guest."""
    found: dict[tuple[str, str, str], list[Refusal]] = {}
    for path in paths:
        pair = (path["source"], path["destination"])
        failed = [check for check in path.get("checks") or [] if check.get("ok") is False]
        if failed:
            found[(*pair, "")] = [refusal(c["code"], c["reason"], c.get("remedy") or "") for c in failed]
        for guest in path.get("guests") or []:
            if guest.get("refusals"):
                found[(*pair, guest["uuid"])] = [
                    refusal(r["code"], r["reason"], r["remedy"]) for r in guest["refusals"]
                ]
    return found


def refusals_for(paths: PathRefusals, source: str, destination: str, uuid: str) -> list[Refusal]:
    """What stands against this guest on this path."""
    return [*paths.get((source, destination, ""), ()), *paths.get((source, destination, uuid), ())]
