# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Scale a working set up to what a migration that did not converge has shown."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import curve_of

#: Figures of a fit that are bytes, or bytes in a second.
SCALED = ("hot_bytes", "hot_sd_bytes", "cold_bytes_per_s", "cold_sd_bytes_per_s", "base_bytes")


def rescaled(working_set: t.Mapping[str, t.Any], left_bytes: float, bytes_per_s: float) -> t.Mapping[str, t.Any]:
    """Scale dirtying up so that it explains the bytes that were left round after round.

    A round that sends V at rate B lasts V/B. If it gains nothing, it leaves W(V/B) again. So that value is W now.

    Args:
        working_set: C(kvmops.working_set/1); one without points knows nothing that could be wrong.
        left_bytes: what remained at the last sync, in bytes of guest memory.
        bytes_per_s: what the link gave.
    """
    if not working_set["points"] or left_bytes <= 0 or bytes_per_s <= 0:
        return working_set
    factor = left_bytes / max(1.0, curve_of(working_set).value(left_bytes / bytes_per_s))
    if factor <= 1:
        return working_set
    points = [
        {**one, "dirtied_bytes": factor * one["dirtied_bytes"], "sd_bytes": factor * one["sd_bytes"]}
        for one in working_set["points"]
    ]
    fit = working_set["fit"]
    if fit is not None:
        fit = {**fit, **{name: factor * fit[name] for name in SCALED}}
    return {**working_set, "points": points, "fit": fit}
