# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.filter import plan_table, preflight_matrix, report_table
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, path, plan_document, snapshot


def filters(module):
    return module.FilterModule().filters()


def test_the_filters_give_lines():
    plan = plan_document(cluster(snapshot("h1", domain()), snapshot("h2")))
    assert filters(plan_table)["plan_table"](plan)[0].startswith("Plan drain-h1-")
    assert filters(plan_table)["plan_table"](plan, format="markdown")[0].startswith("# Drain: 1 move of 512 MiB")
    with pytest.raises(AnsibleFilterError, match="plan_table: format is text or markdown, not 'html'"):
        filters(plan_table)["plan_table"](plan, format="html")
    assert filters(preflight_matrix)["preflight_matrix"]([path("h1", "h2")]) == ["FROM \\ TO  h2", "h1         ok"]


@pytest.mark.parametrize(
    ("module", "name", "given", "text"),
    [
        (plan_table, "plan_table", [], "plan_table takes a document kvmops.plan/1, not list"),
        (plan_table, "plan_table", {}, "plan_table takes a document kvmops.plan/1, not a mapping without a schema"),
        (report_table, "report_table", {"schema": "kvmops.plan/1"},
         "report_table takes a document kvmops.report/1, not kvmops.plan/1"),
        (preflight_matrix, "preflight_matrix", path("h1", "h2"),
         "preflight_matrix takes a list of documents kvmops.path/1, not dict"),
        (preflight_matrix, "preflight_matrix", [path("h1", "h2"), 5],
         "preflight_matrix: item 1 is int, not a document kvmops.path/1"),
    ],
)  # fmt: skip
def test_other_documents_are_refused(module, name, given, text):
    with pytest.raises(AnsibleFilterError) as caught:
        filters(module)[name](given)
    assert str(caught.value) == text
