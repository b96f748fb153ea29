# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what an action returns about a plan.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Plan
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_table import plan_lines


def plan_result(plan: Plan) -> dict[str, t.Any]:
    """A plan as a task returns it: itself, its table, and what an operator looks at first.

    Guests that the operator left out on purpose are not among the blocked ones.
    """
    return {
        "plan": plan,
        "table": plan_lines(plan),
        "blocked": [stay for stay in plan["stays"] if any(why["code"] != "excluded" for why in stay["refusals"])],
        "remarks": plan.get("remarks") or [],
        "figures": plan.get("figures") or {},
    }
