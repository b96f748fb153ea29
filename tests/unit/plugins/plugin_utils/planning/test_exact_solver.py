# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import evacuation
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import State
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning import exact_solver
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.planners.test_drain import random_cluster


def test_without_the_library_there_is_no_solver(monkeypatch):
    monkeypatch.setattr(exact_solver, "cp_model", None)
    assert exact_solver.found() is None


def made(seed):
    seen = cluster(*random_cluster(seed))
    made = NumberedCluster(Constraints(seen, vcpu_ratio=2.0), closing=["h0"])
    state = State(made.cluster)
    facts = made.cluster.units
    movers = [unit for unit in sorted(state.on[0]) if not facts[unit].is_pinned]
    others = [unit for unit, one in enumerate(facts) if not one.is_pinned and state.is_open[one.host]]
    return state, movers, others


def cost_of(state, places, movers):
    return sum(state.cluster.units[unit].cost for unit in places if unit not in movers)


def test_what_it_finds_keeps_to_every_rule_and_costs_no_more_than_the_searches():
    pytest.importorskip("ortools")
    proven = 0
    for seed in range(40):
        state, movers, others = made(seed)
        places = solved(state, movers, others)
        searched = evacuation.evacuate(state.copy(), movers, others)
        if searched.is_proven:
            proven += 1
            assert (places is not None) == (not searched.unplaced)
        if places is None:
            continue
        assert cost_of(state, places, movers) <= searched.extra_cost + 0.01 or searched.unplaced
        assert set(movers) <= set(places)
        keeps_to_every_rule(state, places)
    assert proven > 30


def solved(state, movers, others):
    candidates = evacuation.CandidateHosts(state, list(state.where))
    homes = {unit: state.where[unit] for unit in movers}
    for unit in movers:
        state.lift(unit)
    places = exact_solver.solve(state, movers, others, candidates)
    for unit in movers:
        state.drop(unit, homes[unit])
    return places


def keeps_to_every_rule(state, places):
    for unit, host in places.items():
        assert state.may_go(unit, host)
    for unit in places:
        state.lift(unit)
    for unit, host in places.items():
        assert state.has_room(unit, host)
        assert state.is_apart(unit, host)
        state.drop(unit, host)
