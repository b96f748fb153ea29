# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts measure their guests by a timer and move nobody; a real Prometheus scrapes them."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from harness import actual_state
from harness.operator import Operator
from lab import Lab

from .conftest import EXAMPLES, TEXTFILES, Prometheus

pytestmark = pytest.mark.soak

PERIODS = 60
BASELINE_S = 60
GUESTS = ["busy", "idle", "web"]
FILES = (
    "/usr/local/lib/kvmops /etc/kvmops-observe.json /etc/systemd/system/kvmops-observe.*"
    f" {TEXTFILES}/kvmops.prom /usr/local/lib/kvmops/observe.pyz"
)
OFTEN = {"observe_interval_s": 10, "observe_random_delay_s": 0, "observe_measure_s": 5, "observe_window_s": 60}
OFTEN |= {"observe_cpu_quota_pct": 100, "kvmops_cluster_bandwidth_mib_s": 22}


def written(lab: Lab, host: str) -> list[float]:
    """When the program of the timer has written, by the journal."""
    lines = lab.host(host).ssh("journalctl -u kvmops-observe -o short-unix --no-pager | grep ' wrote '").stdout
    return [float(line.split()[0]) for line in lines.splitlines()]


@pytest.fixture
def observe(operator: Operator, lab: Lab) -> Iterator[Callable[[], None]]:
    """Let the hosts observe, twice, as the second time nothing is left to do; and let them end that."""

    def begin() -> None:
        checked = operator.run("observe", "--check", **OFTEN)
        assert checked.status == 0, checked.text
        assert checked.total("changed") > 0
        for name in lab.hosts:
            assert lab.host(name).ssh(f"ls -d {FILES} 2>/dev/null").stdout == "", "a check has changed something"
        first = operator.run("observe", **OFTEN)
        assert first.status == 0, first.text
        second = operator.run("observe", **OFTEN)
        assert (second.status, second.total("changed")) == (0, 0), second.text

    yield begin
    removed = operator.run("observe", observe_state="absent")
    assert removed.status == 0, removed.text
    for name in lab.hosts:
        left = lab.host(name).ssh(f"ls {FILES} 2>/dev/null; systemctl list-units --all --no-legend 'kvmops-observe*'")
        assert left.stdout.split() in ([], ["/usr/local/lib/kvmops:"]), left.stdout


def test_hosts_observe_and_move_nobody_and_prometheus_knows(
    lab: Lab,
    operator: Operator,
    observe: Callable[[], None],
    prometheus: Prometheus,
) -> None:
    for playbook, variable in (("drain_host", "drain_host_name"), ("restore_host", "restore_host_name")):
        moved = operator.run(playbook, **{variable: "h1"})
        assert moved.status == 0, moved.text
    before, boots = actual_state.everywhere(lab), actual_state.boot_ids(lab)
    with lab.probe(GUESTS) as probe:
        probe.mark()
        time.sleep(BASELINE_S)
        alone = probe.records()
        observe()
        probe.mark()
        for name in lab.hosts:
            actual_state.wait_until(
                f"{name} has written {PERIODS} times",
                lambda host=name: len(written(lab, host)) >= PERIODS,  # type: ignore[misc]
                patience=2400,
                period=5,
            )
        observed = probe.records()
    for guest in GUESTS:
        tell(f"{guest} alone", told(alone[guest]))
        tell(f"{guest} observed", told(observed[guest]))
    for name in lab.hosts:
        times = written(lab, name)
        gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
        between = {"times": len(times), "median_s": round(gaps[len(gaps) // 2], 1), "most_s": round(gaps[-1], 1)}
        tell(f"{name} wrote", json.dumps(between))
    asks_what_the_examples_ask(lab, prometheus)
    assert actual_state.everywhere(lab) == before
    assert actual_state.boot_ids(lab) == boots
    assert all(one["memory_ok"] for one in actual_state.verified(lab).values())


def tell(what: str, figures: str) -> None:
    """Show figures to who runs the test; they depend on the machine, so nothing is held against them."""
    sys.stderr.write(f"{what}: {figures}\n")


def told(record: Mapping[str, Any]) -> str:
    """What observing has cost a guest, for people who read the results."""
    lost = record["work_lost_s"]
    percent = None if lost is None else round(100 * lost / record["seconds"], 3)
    seconds = round(record["seconds"], 1)
    return json.dumps({"seconds": seconds, "longest_gap_ms": record["downtime_ms"], "work_lost_pct": percent})


def asks_what_the_examples_ask(lab: Lab, prometheus: Prometheus) -> None:
    """Each panel of the dashboard has data, each rule is evaluated, and no file has a fault."""
    actual_state.wait_until("all hosts are scraped", lambda: prometheus.scrapes(len(lab.hosts)))
    dashboard = json.loads((EXAMPLES / "kvmops-dashboard.json").read_text(encoding="utf-8"))
    asked = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }
    found = {title: len(prometheus.query(expression)) for title, expression in asked.items()}
    tell("series of the panels", json.dumps(found))
    assert [title for title, count in found.items() if count == 0] == []
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert {rule["health"] for rule in rules} == {"ok"}, rules
    states = {host["labels"]["instance"]: host["health"] for host in prometheus.get("targets")["activeTargets"]}
    assert states == dict.fromkeys(lab.hosts, "up")
    assert {one["value"][1] for one in prometheus.query("node_textfile_scrape_error")} == {"0"}
    promtool = shutil.which("promtool")
    assert promtool is not None, "it comes with prometheus"
    for name in lab.hosts:
        text = lab.host(name).ssh(f"cat {TEXTFILES}/kvmops.prom", check=True).stdout
        words = [promtool, "check", "metrics"]
        checked = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
        assert (checked.returncode, checked.stdout + checked.stderr) == (0, ""), name
