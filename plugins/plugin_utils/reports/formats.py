# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the formats in which a report and a plan are written, and the names of their files.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports import csv_text, page, report_view
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.junit import junit
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.markdown import markdown
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import plan_review

Document = t.Mapping[str, t.Any]
Documents = t.Mapping[str, Document]

#: What an operator may ask for, and how files of it end.
SUFFIXES = {"json": "json", "html": "html", "markdown": "md", "junit": "xml", "csv": "csv"}
#: A plan that was only looked at has other names than the report on it.
PLAN_SUFFIX = "plan"


def report_texts(report: Document, formats: t.Iterable[str]) -> dict[str, str]:
    """A report in some formats (all but C(json), which is the document itself), by the name of the format."""
    makers: dict[str, t.Callable[[Document], str]] = {
        "html": lambda one: page.page_html(report_view.report_page(one)),
        "markdown": markdown,
        "junit": junit,
        "csv": csv_text.report_csv,
    }
    return {name: makers[name](report) for name in dict.fromkeys(formats) if name in makers}


def plan_texts(
    plan: Document, formats: t.Iterable[str], snapshots: Documents, working_sets: Documents, apply: str
) -> dict[str, str]:
    """A plan in some formats (all but C(json)), by the name of the format.

    Args:
        plan: the plan.
        formats: names of formats.
        snapshots: of the hosts.
        working_sets: by the guest's UUID.
        apply: the command that carries the plan out.
    """
    makers: dict[str, t.Callable[[], str]] = {
        "html": lambda: page.page_html(report_view.plan_page(plan, snapshots, working_sets, apply)),
        "markdown": lambda: plan_review.markdown(plan, apply),
        "junit": lambda: plan_review.junit(plan),
        "csv": lambda: csv_text.plan_csv(plan),
    }
    return {name: makers[name]() for name in dict.fromkeys(formats) if name in makers}


def file_name(plan_id: str, name: str, *, is_plan: bool = False) -> str:
    """The name of a file.

    >>> file_name("drain-1", "markdown"), file_name("drain-1", "html", is_plan=True)
    ('drain-1.md', 'drain-1.plan.html')
    """
    return f"{plan_id}.{PLAN_SUFFIX}.{SUFFIXES[name]}" if is_plan else f"{plan_id}.{SUFFIXES[name]}"
