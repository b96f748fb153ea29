# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What scenarios ask of a bench, our drain as its journal tells it, and what measuring costs."""

from __future__ import annotations

import pytest

from bench import cli
from bench.benches import forecast, measure
from bench.drains import playbook_drain
from bench.drains.policies import FLOOR, POLICIES
from bench.inputs import bench_options
from lab import LabError
from lab.layout import scenario

SCENARIOS = sorted(cli.SCENARIOS.glob("*.yml"))
GUEST = {"name": "g", "host": "h2"}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_what_the_bench_ships_is_valid(path):
    wanted = bench_options.read(path)
    plan = scenario.load(path)
    assert bench_options.ends(wanted, plan) == ("h1", "h2")
    assert set(wanted.strategies) <= {playbook_drain.NAME, FLOOR, *POLICIES}
    assert plan.hosts[0].link_mbit > 0


def test_every_kind_of_guest_has_a_scenario():
    assert {path.stem for path in SCENARIOS} >= {
        "idle", "warm", "hot-convergent", "hot-too-large", "whole-page", "sparse", "cold", "compressible",
        "phase-changing", "mixed-eight", "udp-gigabit",
    }  # fmt: skip
    assert len(scenario.load(cli.SCENARIOS / "mixed-eight.yml").guests) == 8


def test_the_grid_has_room_for_24():
    path = cli.SCENARIOS / "forecast.yml"
    assert len(scenario.load(path).guests) * len(bench_options.read(path).links_mbit) >= 24


def test_the_host_with_the_most_guests_is_drained():
    data = {"hosts": {}, "guests": [GUEST, GUEST | {"name": "x"}, GUEST | {"name": "y", "host": "h1"}]}
    assert bench_options.ends(bench_options.parse(data), scenario.parse(data)) == ("h2", "h1")


def test_links_may_stand_at_the_top_or_with_the_wishes():
    assert bench_options.parse({"links_mbit": [100, 200]}).links_mbit == (100, 200)
    assert bench_options.parse({"bench": {"links_mbit": [50]}, "links_mbit": [100]}).links_mbit == (50,)


def test_a_wish_that_nobody_knows():
    with pytest.raises(LabError, match=r"bench\.speed: not known"):
        bench_options.parse({"bench": {"speed": 1}})


def test_nothing_to_move_or_nowhere_to_go():
    data = {"hosts": {"count": 1}, "guests": [GUEST | {"host": "h1"}]}
    with pytest.raises(LabError, match="0 other hosts, 1 guests"):
        bench_options.ends(bench_options.parse(data), scenario.parse(data))


# ---- our own drain ---------------------------------------------------------------------------------------------------

RESULT = {
    "guest": {"name": "a", "uuid": "u"}, "outcome": "moved", "strategy": "xbzrle",
    "started_at": "2026-11-24T02:00:01.000Z", "finished_at": "2026-11-24T02:00:05.500Z",
    "bytes": 7, "downtime_ms": 80, "iterations": 5, "error": None,
    "refusals": [], "forecast": {"method": "xbzrle"},
}  # fmt: skip
JOURNAL = [
    {"event": "run.started", "at": "2026-11-24T02:00:00.750Z", "data": {}},
    {"event": "step.finished", "at": "2026-11-24T02:00:05.600Z", "data": {"result": RESULT}},
    {"event": "run.finished", "at": "2026-11-24T02:00:05.700Z", "data": {}},
]
STAY = {"guest": {"name": "b", "uuid": "v"}, "refusals": [{"reason": "nothing keeps the intent"}]}


def test_a_drain_is_read_out_of_its_journal():
    found = playbook_drain.drained(JOURNAL, [STAY], 0, measured_s=8.0, playbook_s=20.0)
    (a, b) = found.moves
    assert (found.ended_ns - found.began_ns) / 1e9 == pytest.approx(4.85)
    assert (a.ended_ns - a.began_ns) / 1e9 == pytest.approx(4.5)
    assert (a.outcome, a.strategy, a.rounds, a.forecast) == ("moved", "xbzrle", 5, {"method": "xbzrle"})
    assert (b.guest, b.outcome, b.error, b.ended_ns) == ("b", "refused", "nothing keeps the intent", 0)
    assert found.measured_s == 8.0


def test_a_drain_of_which_nothing_could_move():
    found = playbook_drain.drained([], [STAY], 0, measured_s=8.0, playbook_s=20.0)
    assert [(move.guest, move.outcome) for move in found.moves] == [("b", "refused")]
    assert found.ended_ns == found.began_ns


def test_times_are_those_of_the_monotonic_clock():
    early = playbook_drain.drained(JOURNAL, [], 0, measured_s=0, playbook_s=0)
    late = playbook_drain.drained(JOURNAL, [], 10**9, measured_s=0, playbook_s=0)
    assert early.moves[0].began_ns - late.moves[0].began_ns == 10**9


# ---- measuring -------------------------------------------------------------------------------------------------------


def section(lost_s, silence_ms=1.0):
    return {"a": {"work_lost_s": lost_s, "seconds": 10.0, "downtime_ms": silence_ms}}


def test_measuring_costs_what_is_lost_beyond_what_is_lost_anyway():
    quiet = [section(0.1), section(0.2), section(0.3)]
    measured = [section(0.3, 4.0), section(0.35), section(0.9)]
    found = measure.document(["a"], quiet, measured, allow_monitor=True)
    (guest,) = found["guests"]
    assert (guest["work_lost_quiet_pct"], guest["work_lost_measured_pct"], guest["cost_pct"]) == (2.0, 3.5, 1.5)
    assert found["work_lost_pct_max"] == 1.5
    assert guest["silence_measured_ms"] == 4.0
    assert "At most 1.50 %" in measure.lines(found)[-1]


def test_a_guest_without_work_loses_none():
    found = measure.document(["a"], [section(None)], [section(None)], allow_monitor=False)
    assert found["guests"][0]["cost_pct"] is None
    assert found["work_lost_pct_max"] is None


# ---- forecasts -------------------------------------------------------------------------------------------------------


def test_what_the_core_says_of_plain_precopy():
    from ansible_collections.kvmops.cluster.plugins.module_utils.core.intent import DEFAULTS
    from ansible_collections.kvmops.cluster.plugins.module_utils.core.strategy.appraisal import Knowledge
    from bench.benches import recorded

    intent = {**DEFAULTS, "max_downtime_ms": 300}
    said = {
        name: forecast.plain_outcome(
            Knowledge(working_set=recorded.document(recorded.records(), name), stated_bytes_per_s=23.9e6),
            "4096 16384 4194304",
            intent,
        )["verdict"]
        for name in ("idle", "hot64")
    }
    assert said == {"idle": "converges", "hot64": "never"}
