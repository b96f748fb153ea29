# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether the cluster still is as a plan expects it, as a result of a task.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Plan, Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan as plans
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.changes import changes_since
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal.text_layout import clean

MAKE_NEW = "make a new plan"


def stale_result(plan: Plan, snapshots: t.Mapping[str, Snapshot], what: str) -> dict[str, t.Any] | None:
    """Return a failed result with what has changed since the plan was made; None if nothing that matters has.

    Args:
        plan: as read.
        snapshots: every host that gives an answer now.
        what: what the operator calls the plan.

    Raises:
        PlanError: the plan is for other machines than these.
    """
    plans.check_cluster(plan, {host: snapshot.get("host_uuid") for host, snapshot in snapshots.items()})
    changes = changes_since(plan, snapshots)
    if not changes:
        return None
    told = [
        clean(one["reason"]) + (f" ({clean(one['remedy'])})" if one["remedy"] not in ("", MAKE_NEW) else "")
        for one in changes
    ]
    message = (
        f"The cluster is not as it was when {what} was made, so no guest was moved: {'; '.join(told)}. Make a new plan."
    )
    return {"failed": True, "msg": message, "changed": False, "changes": [dict(one) for one in changes]}
