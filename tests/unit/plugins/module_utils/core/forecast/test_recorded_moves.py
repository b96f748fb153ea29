# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forecast against recorded migrations. Only idle and hot16 set constants; see bench/benches/recorded.py."""

from __future__ import annotations

import pytest

from bench.benches import recorded

TOLD = {method: recorded.rows(method) for method in ("qmp", "libvirt")}
CHECK = {method: [row for row in told if not row.fitted] for method, told in TOLD.items()}


@pytest.mark.parametrize("method", ["qmp", "libvirt"])
def test_every_verdict_is_right(method):
    assert [row for row in TOLD[method] if not row.right] == []


def test_the_verdicts_themselves():
    plain = {row.guest: row.verdict for row in TOLD["qmp"] if row.method == "pre-copy" and row.limit_ms == 300}
    assert plain == {
        "idle": "converges", "hot16": "marginal", "hot64": "never", "hot150": "never", "compressible": "converges",
        "drain1": "converges", "drain2": "converges", "drain3": "converges",
    }  # fmt: skip


def test_marginal_is_the_exception():
    # hot16 dirties 86 % of the bandwidth: that one is marginal; and one throttle on its edge
    assert {row.guest for row in TOLD["qmp"] if row.verdict == "marginal"} <= {"hot16", "idle", "hot64"}
    assert recorded.summary(CHECK["qmp"])["marginal"] <= 1


@pytest.mark.parametrize("method", ["qmp", "libvirt"])
@pytest.mark.parametrize("told", [TOLD, CHECK], ids=["all", "check"])
def test_time_and_bytes_are_near(told, method):
    found = recorded.summary(told[method])
    for name in ("total_s", "bytes"):
        assert found[name]["p50_error"] <= 0.04
        assert found[name]["p90_error"] <= 0.12


def test_downtime_at_low_limits_is_near():
    # at high limits QEMU spends anything up to the limit, so only the floor can be foretold well
    low = [row for row in TOLD["qmp"] if row.limit_ms <= 100 or row.method == "post-copy"]
    errors = [abs(row.error("downtime_ms")) for row in low if row.error("downtime_ms") is not None]
    assert len(errors) >= 10
    assert max(errors) <= 0.2


def test_forced_switchovers_are_near():
    for row in TOLD["qmp"]:
        if row.method == "raise-downtime":
            assert abs(row.error("downtime_ms")) <= 0.1


def test_a_table_can_be_shown():
    table = recorded.lines(TOLD["qmp"])
    assert len(table) == len(TOLD["qmp"]) + 1
    assert not any("WRONG" in line for line in table)
