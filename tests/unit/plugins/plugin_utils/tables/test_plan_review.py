# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import markdown_text, plan_review
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, plan_document, snapshot

SEEN = cluster(snapshot("h1", domain("web1"), domain("a|b <c>")), snapshot("h2"))
FIGURES = {"score_before": 0.8317, "score_after": 0.2114, "guests": 2}
BALANCED = {"code": "balanced", "reason": "the score is 0.2114", "remedy": ""}
SPARE = {"code": "n_plus_one", "reason": "if h1 fails, 3 guests find no place", "remedy": "add a host"}
GOAL = {"kind": "rebalance", "hosts": []}
PLAN = {**plan_document(SEEN), "goal": GOAL, "figures": FIGURES, "remarks": [SPARE]}
NOTHING = {**PLAN, "steps": [], "remarks": [BALANCED]}


def cases(plan):
    suite = ElementTree.fromstring(plan_review.junit(plan))
    outcomes = {}
    for case in suite.iter("testcase"):
        outcome = case.find("*")
        outcomes[case.get("name")] = "passed" if outcome is None else outcome.tag
    assert suite.get("tests") == str(len(outcomes))
    assert suite.get("failures") == str(list(outcomes.values()).count("failure"))
    assert suite.get("skipped") == str(list(outcomes.values()).count("skipped"))
    return outcomes


def test_each_move_is_a_failed_test():
    assert cases(PLAN) == {
        "there is nothing to do": "failure",
        "web1 stays on h1": "failure",
        "a|b <c> stays on h1": "failure",
        "n_plus_one": "skipped",
    }


def test_a_balanced_cluster_passes():
    assert cases(NOTHING) == {"there is nothing to do": "passed", "balanced": "passed"}


def test_figures_are_properties():
    suite = ElementTree.fromstring(plan_review.junit(PLAN))
    assert {p.get("name"): p.get("value") for p in suite.iter("property")} == {
        "plan": PLAN["id"],
        "score_before": "0.8317",
        "score_after": "0.2114",
        "guests": "2",
    }


def test_a_reviewer_reads_what_would_move_and_how_to_have_it_done():
    text = plan_review.markdown(PLAN, "ansible-playbook x -e rebalance_plan=p.json")
    lines = text.splitlines()
    assert lines[0].startswith("# Rebalance: 2 moves of ")
    assert lines[0].endswith("score 0.832 to 0.211")
    assert "- if h1 fails, 3 guests find no place: add a host" in lines
    assert "$ ansible-playbook x -e rebalance_plan=p.json" in lines
    rows = [line for line in lines if line.startswith("| s0")]
    assert len(rows) == 2
    assert {row.replace("\\|", "").count("|") for row in rows} == {11}, "a name broke the table"
    assert any("a\\|b \\<c\\>" in row for row in rows)


def test_nothing_to_do_is_said_in_one_line_and_needs_no_command():
    text = plan_review.markdown(NOTHING, "ansible-playbook x")
    assert text.startswith("# Rebalance: nothing to do, score 0.832\n")
    assert "ansible-playbook" not in text


@pytest.mark.parametrize(("figures", "told"), [({}, "2 moves of "), (FIGURES, "score 0.832 to 0.211")])
def test_a_plan_without_a_score_is_summed_up_all_the_same(figures, told):
    assert told in plan_review.summary({**PLAN, "figures": figures})


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("@root", "`@`root"),
        ("a@b.example", "a`@`b.example"),
        ("@_root", "`@`\\_root"),
        ("#123", "`#`123"),
        ("group/project!45", "group/project`!`45"),
        ("&lt;b&gt;", "`&`lt;b`&`gt;"),
        ("&#64;root", "`&#`64;root"),
        ("~bug %1.0 $x$", "`~`bug `%`1.0 `$`x$"),
        ("https://example.org", "https`://`example.org"),
        ("www.example.org", "www`.`example.org"),
        ("mailto:x", "mailto`:`x"),
        ("[x](javascript:y)", "\\[x\\](javascript:y)"),
        ("![x](y)", "`!`\\[x\\](y)"),
        ("<img src=x>", "\\<img src=x\\>"),
        ("a|b`c*d_e", "a\\|b\\`c\\*d\\_e"),
        ("# x", "\\# x"),
        ("- [ ] x", "\\- \\[ \\] x"),
        ("1. x", "1\\. x"),
        ("/approve", "\\/approve"),
        ("===", "\\==="),
        ("4.1 s, 100 %", "4.1 s, 100 %"),
        ("-", "-"),
        ("x\n\n# y", "x # y"),
    ],
)
def test_the_name_of_a_guest_is_nothing_but_a_name_in_markdown(name, shown):
    assert markdown_text.cell(name) == shown
    stay = {"guest": {"name": name, "uuid": "u"}, "host": "h1", "refusals": [SPARE]}
    text = plan_review.markdown({**PLAN, "stays": [stay]})
    assert f"\n{shown} stays on h1: if h1 fails" in text
