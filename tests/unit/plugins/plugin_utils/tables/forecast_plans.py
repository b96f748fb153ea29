# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans with forecasts, for the tests of tables."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import expectation
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    band,
    choice,
    cluster,
    domain,
    plan_document,
    snapshot,
)

NOT_SURE = choice(
    method="raise-downtime",
    verdict="marginal",
    reason="raise-downtime: raising the downtime limit once, after two rounds, keeps the guest down for 0.7 s; "
    "plain pre-copy not, because it is not sure: in 108 ms the guest dirties 2.4 MiB and the link carries 2.5 MiB: "
    "too close for a forecast",
    total_s=band(9.3, 7.1, 12.4),
    downtime_ms={"value": 665, "low": 414, "high": None},
    fallbacks=["throttle", "post-copy", "suspend"],
)


def forecast_plan(*forecasts, **changes):
    """A drain of one guest for each forecast."""
    names = [f"web{number}" for number in range(1, len(forecasts) + 1)]
    plan = plan_document(cluster(snapshot("h1", *map(domain, names)), snapshot("h2")))
    for step, forecast in zip(plan["steps"], forecasts, strict=True):
        step.update(strategy=forecast["method"], forecast=forecast)
    plan["expected"] = {**expectation(plan["steps"], {}), **changes}
    return plan
