# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""The rate of the next round on a link that guests use too: no more than the move needs (Clark et al., NSDI '05, 5.3).

The first round goes at a floor. Each later one goes at the dirty rate of the round before and a margin on top, so that
less is dirtied than sent. No round goes above a ceiling: what then remains is left to the last copy, for which the
hypervisor lifts every limit.
"""

from __future__ import annotations

import math

from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB

#: Clark's margin of 50 Mbit/s, in MiB/s.
MARGIN_MIB_S = 50e6 / 8 / MIB


def next_rate_mib_s(new_bytes: float, seconds: float, floor_mib_s: int, ceiling_mib_s: int) -> int:
    """MiB/s for the next round.

    Args:
        new_bytes: dirtied in the last round.
        seconds: its length.
        floor_mib_s, ceiling_mib_s: bounds.

    >>> next_rate_mib_s(20 * 1024**2, 2.0, 5, 100), next_rate_mib_s(0, 2.0, 12, 100), next_rate_mib_s(1e9, 1.0, 5, 100)
    (16, 12, 100)
    """
    if seconds <= 0:
        return ceiling_mib_s
    wanted = math.ceil(new_bytes / seconds / MIB + MARGIN_MIB_S)
    return max(floor_mib_s, min(ceiling_mib_s, wanted))
