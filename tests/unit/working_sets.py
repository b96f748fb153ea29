# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Working sets of guests that were measured perfectly."""

from __future__ import annotations

import dataclasses

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.curve_fit import Fit

MIB = 1024**2


def fitted(hot=0.0, rate=0.0, cold=0.0, base=0.25):
    """A guest that rewrites so many MiB in a circle, so many MiB/s of it."""
    return Fit(hot * MIB, hot / rate if rate else 0.0, cold * MIB, base * MIB, "linear")


def measured(fit, *, memory=1024, touched=300, error=0.02, **more):
    """A perfectly measured guest's working set."""
    points = [
        {
            "window_s": w,
            "dirtied_bytes": min(fit.value(w), touched * MIB),
            "sd_bytes": 0.02 * fit.value(w),
            "repeats": 4,
        }
        for w in (0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    ]
    return {
        "schema": "kvmops.working_set/1", "touched_how": "balloon",
        "guest": {"name": "db1", "uuid": "u1"}, "taken_at": "2026-11-24T02:00:00Z", "memory_bytes": memory * MIB,
        "touched_bytes": touched * MIB, "touched_error": error, "points": points, "fit": dataclasses.asdict(fit),
        "vcpu_utilisation": 0.5, "compressed_share": 0.6, "sparse": 0.01, "disk_write_bytes_per_s": 0.0, **more,
    }  # fmt: skip
