# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The bench of the planner, on clusters that take no time."""

from __future__ import annotations

import argparse

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import rebalancing
from bench.benches import plan
from bench.inputs import clusters


@pytest.mark.parametrize("suffix", [".json", ".txt"])
def test_a_cluster_from_a_file(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(plan.shutil, "which", lambda dummy: None)
    monkeypatch.setattr(rebalancing, "TRIES_A_UNIT", 500)
    path = tmp_path / f"cluster{suffix}"
    clusters.main(["--hosts", "4", "--guests", "30", "--fill", "0.5", "--out", str(path)])
    found = plan.measure(tmp_path, argparse.Namespace(cluster=path))
    (one,) = found["clusters"]
    assert (one["hosts"], one["guests"]) == (4, 30)
    assert one["rebalance"]["score_after"] < one["rebalance"]["score_before"]
    assert one["rebalance"]["bytes"] >= one["rebalance"]["bound_bytes"] > 0
    assert one["drain"]["unplaced"] == 0
    assert one["drain"]["bytes"] >= one["drain"]["bound_bytes"] > 0
    assert one["upgrade"]["moves"] >= one["upgrade"]["guests"] > 0
    assert ("documents" in one) == (suffix == ".json")
    told = "\n".join(plan.lines(found))
    assert "rebalance: " in told
    assert "(4 hosts, 30 guests)" in told


def test_tight_drains_are_told(monkeypatch):
    monkeypatch.setattr(plan, "SEEDS", [1, 2])
    (line,) = plan.lines({"clusters": [], "tight": [plan._tight(0.99)], "peak_mib": 1})[:1]
    assert line.startswith("drain to 99 % full: 2 of 2 valid; 3072 MiB of others move, 3072 must; 2 proven best;")
