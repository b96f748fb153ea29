# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning.plan_arguments import rules_of
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, snapshot, uuid_of

pytest.importorskip("jmespath")

LICENSED = domain("db1")
LICENSED["metadata"]["tier"] = "licensed"
SEEN = cluster(snapshot("h1", LICENSED, domain("web1")), snapshot("h2"), snapshot("h3"))


def test_rules_select_guests_by_expression_or_name():
    found = rules_of(
        [
            {"guests": "domains[?metadata.tier=='licensed']", "only_on": ["h1", "h2"]},
            {"guests": ["db1", "web1"], "not_on": "h3.example.org"},
        ],
        SEEN,
    )
    assert {uuid: [(sorted(r.only_on), sorted(r.not_on)) for r in rules] for uuid, rules in found.items()} == {
        uuid_of("db1"): [(["h1", "h2"], []), ([], ["h3.example.org"])],
        uuid_of("web1"): [([], ["h3.example.org"])],
    }
    assert rules_of([], SEEN) == {}


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"only_on": "h1"}, "placement_rules[0] is {'only_on': 'h1'}"),
        ({"guests": "db1"}, "placement_rules[0] is {'guests': 'db1'}"),
        ({"guests": "db1", "on": "h1", "only_on": "h1"}, "placement_rules[0] is {'guests': 'db1', 'on': 'h1'"),
        ({"guests": "db1", "only_on": ["h1", "h9"]}, "placement_rules[0].only_on: there is no host 'h9'"),
        ({"guests": "db1", "not_on": {"h1": 1}}, "placement_rules[0].not_on: there is no host {'h1': 1}"),
        ("db1", "placement_rules[0] is 'db1'"),
    ],
)
def test_rules_that_make_no_sense(rule, text):
    with pytest.raises(PlanError) as caught:
        rules_of([rule], SEEN)
    assert caught.value.refusal["reason"].startswith(text)
