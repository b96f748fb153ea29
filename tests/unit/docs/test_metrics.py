# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guide tells all metrics, and rules and dashboard ask for none that does not exist."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.metric_table import BY_NAME, METRICS

DOCS = Path(__file__).parents[3] / "docs"
EXAMPLES = DOCS / "examples/prometheus"
RULES = yaml.safe_load((EXAMPLES / "kvmops-rules.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
PANELS = json.loads((EXAMPLES / "kvmops-dashboard.json").read_text(encoding="utf-8"))["panels"]
EXPRESSIONS = {rule.get("alert") or rule["record"]: rule["expr"] for rule in RULES} | {
    f"{panel['title']} {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]
}
#: What Prometheus adds to each series, and what an operator may.
OF_TARGETS = {"instance", "job", "cluster"}


def test_the_guide_tells_each_metric():
    page = (DOCS / "guides/metrics.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(kvmops_\w+)` \| (.*) \| (.*) \|$", page, re.MULTILINE)

    assert told == [(one.name, ", ".join(f"`{label}`" for label in one.labels), one.help) for one in METRICS]


def test_the_guide_tells_each_alert():
    page = (DOCS / "guides/metrics.md").read_text(encoding="utf-8")

    assert set(re.findall(r"^\| `(Kvmops\w+)` \|", page, re.MULTILINE)) == {
        rule["alert"] for rule in RULES if "alert" in rule
    }


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_only_metrics_are_asked_for_that_exist(expression):
    names = set(re.findall(r"\bkvmops[a-z_:]+", expression))
    labels = set(re.findall(r"(\w+)\s*=~?\s*\"", expression))
    for listed in re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expression):
        labels |= {label.strip() for label in listed.split(",")} - {""}

    assert names
    assert names - set(BY_NAME) - RECORDED == set()
    assert labels - OF_TARGETS - {label for name in names & set(BY_NAME) for label in BY_NAME[name].labels} == set()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_the_legend_of_a_panel_names_labels_that_its_series_have(panel):
    for target in panel["targets"]:
        names = set(re.findall(r"\bkvmops[a-z_:]+", target["expr"])) & set(BY_NAME)
        known = OF_TARGETS | {label for name in names for label in BY_NAME[name].labels}

        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= known


def test_panels_lie_beside_each_other():
    taken = set()
    for panel in PANELS:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("words", [["check", "rules", "kvmops-rules.yml"], ["test", "rules", "kvmops-rules.test.yml"]])
def test_promtool_accepts_the_rules(words):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (package prometheus) is not installed")
    checked = subprocess.run([promtool, *words], cwd=EXAMPLES, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr
