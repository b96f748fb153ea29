# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan is refused, or shown in all its forms."""

from __future__ import annotations

import copy
import json

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import plan_review, plan_summary
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_result import plan_result
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_table import plan_lines
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    choice,
    cluster,
    domain,
    plan_document,
    snapshot,
)
from ansible_collections.kvmops.cluster.tests.unit.fuzz.generated import byte_mutations, fuzzed, mutated
from ansible_collections.kvmops.cluster.tests.unit.plugins.plugin_utils.tables.forecast_plans import (
    NOT_SURE,
    forecast_plan,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.test_what_people_see import seen

GPU = {"code": "hostdev", "reason": "it has a device of the host", "remedy": "unplug it"}
SEEN = cluster(
    snapshot("h1", domain("web1"), domain("off", state="shutoff"), domain("gpu", blockers=[GPU])), snapshot("h2")
)
UPGRADE = plan_document(SEEN, "upgrade")
PLANS = [plan_document(SEEN), UPGRADE, copy.deepcopy(forecast_plan(choice(), NOT_SURE))]


def show(given):
    try:
        plan = read_plan(given)
    except PlanError:
        return
    seen(plan_lines(plan))
    seen(plan_review.markdown(plan, "apply"))
    seen(plan_review.junit(plan))
    seen(plan_summary.facts(plan))
    seen(plan_review.summary(plan))
    plan_result(plan)


def test_the_plans_themselves_are_read():
    for plan in PLANS:
        read_plan(plan)


@fuzzed(mutated(PLANS))
def test_a_plan_with_other_parts(plan):
    show(plan)
    show(json.dumps(plan))


def test_a_plan_with_other_bytes():
    for number, plan in enumerate(PLANS):
        for data in byte_mutations(json.dumps(plan).encode(), f"plan {number}"):
            show(data)
