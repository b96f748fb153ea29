# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import single_move
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables import plan_table
from ansible_collections.kvmops.cluster.plugins.plugin_utils.tables.plan_summary import headline
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import text_layout
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    choice,
    cluster,
    domain,
    plan_document,
    snapshot,
    uuid_of,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.plugin_utils.tables.forecast_plans import (
    NOT_SURE,
    forecast_plan,
)

PINNED = {"code": "hostdev", "reason": "PCI device 0000:3b:00.0 is passed through", "remedy": "detach it"}
A_PLAN = """\
STEP  GUEST   MEMORY  FROM  TO  START   END      TIME      SENT        DOWNTIME  HOW
s001  web1   512 MiB  h1    h2   0:00  0:04     4.1 s  83.9 MiB           85 ms  pre-copy
s002  web2   512 MiB  h1    h2   0:04  0:13  7.1-12 s  83.9 MiB  414 ms or more  raise-downtime, not sure

Why:
  web1  h2 is the only host that can take it; pre-copy: in 30 ms the guest dirties 402 KiB and the link carries 700 KiB
  web2  h2 is the only host that can take it; raise-downtime: raising the downtime limit once, after two rounds, keeps
        the guest down for 0.7 s; plain pre-copy not, because it is not sure: in 108 ms the guest dirties 2.4 MiB and
        the link carries 2.5 MiB: too close for a forecast; should that fail: throttle, post-copy and 1 more

Expected: 13 s and 168 MiB in all, if what is not sure goes well. No order is faster: the moves from h1 take 13 s.
"""


def test_a_plan():
    seen = cluster(
        snapshot("h1", domain("web1"), domain("db 1", memory_bytes=4 * GIB), domain("gpu1", blockers=[PINNED]),
                 domain("old", state="shutoff")),
        snapshot("h2"),
        snapshot("h3"),
    )  # fmt: skip
    assert plan_table.plan_lines(plan_document(seen)) == [
        "Plan drain-h1-20261124T020000Z-3f9a: 2 guests (4.5 GiB) leave h1",
        "",
        "STEP  GUEST   MEMORY  FROM  TO  WHY",
        "s001  web1   512 MiB  h1    h3  h3 has room for it (31.4 GiB left at the end)",
        "s002  db 1     4 GiB  h1    h2  h2 has room for it (27.9 GiB left at the end)",
        "",
        "1 guest stays where it is:",
        "  gpu1 on h1",
        "    PCI device 0000:3b:00.0 is passed through",
        "      -> detach it",
        "",
        "Shut off, left where it is: old",
    ]


@pytest.mark.parametrize(
    ("seen", "kind", "first"),
    [
        (cluster(snapshot("h1"), snapshot("h2")), "drain", "no guest has to leave h1"),
        (cluster(snapshot("h1", domain(blockers=[PINNED])), snapshot("h2")), "drain", "no guest can leave h1"),
        (cluster(snapshot("h1"), snapshot("h2", domain(home="h1"))), "restore", "1 guest (512 MiB) comes home to h1"),
        (cluster(snapshot("h1"), snapshot("h2")), "restore", "no guest has to come home to h1"),
        (cluster(snapshot("h1", domain()), snapshot("h2")), "upgrade", "1 guest (512 MiB) leaves h1"),
    ],
)
def test_the_first_line_of_a_plan(seen, kind, first):
    assert plan_table.plan_lines(plan_document(seen, kind))[0].partition(": ")[2] == first


def test_the_time_of_a_first_wave_is_not_that_of_an_upgrade():
    plan = forecast_plan(choice())
    move = {key: plan["steps"][0][key] for key in ("guest", "source", "destination")}
    waves = [{"hosts": [host], "moves": [move], "seconds": 60.0} for host in ("h1", "h2")]
    plan.update(
        goal={"kind": "upgrade", "hosts": ["h1", "h2"]},
        waves=waves,
        figures={"moves": 2, "seconds": 120.0, "moves_per_guest": 1.0},
    )
    lines = plan_table.plan_lines(plan)
    assert lines[0].partition(": ")[2] == "2 hosts are emptied in 2 waves with 2 moves"
    assert "All moves together take about 2 min" in "\n".join(lines)


def test_a_plan_with_forecasts():
    assert plan_table.plan_lines(forecast_plan(choice(), NOT_SURE))[2:] == A_PLAN.splitlines()


def test_a_plan_says_what_its_forecasts_do_not_rest_on():
    old = choice(measured_at="2026-11-23T23:00:00Z")
    unmeasured = choice(measured_at=None, verdict="marginal")
    blind = choice(bandwidth_bytes_per_s=None, total_s=None, bytes=None, downtime_ms=None, verdict="marginal")
    lines = plan_table.plan_lines(forecast_plan(old, unmeasured, blind))
    assert lines[4].endswith("4.1 s  83.9 MiB         -  pre-copy, not measured")
    assert lines[5].endswith("    -         -         -  pre-copy")
    assert lines[-6:] == [
        "Not measured: web2. Their forecasts use only their size.",
        "  -> measure first: ansible-playbook kvmops.cluster.measure (a drain without --check measures by itself)",
        "Measured some time ago: web1 (3 h ago). Guests change.",
        "  -> measure again: ansible-playbook kvmops.cluster.measure (a drain without --check measures by itself)",
        "The speed of the path from h1 to h2 is not known yet, so there is no forecast for it.",
        "  -> state kvmops_cluster_bandwidth_mib_s in the inventory; the first move over it measures it, too",
    ]
    assert " ".join(lines[-8:-6]).replace("   ", " ") == (
        "Expected: about 11 s in all, but the times of web3 are estimated from memory and link. "
        "No order is faster: the moves from h1 take 11 s."
    )


def test_lines_of_a_plan_stay_readable_with_awkward_names():
    plan = forecast_plan(*[NOT_SURE] * len(AWKWARD_NAMES))
    for step, name in zip(plan["steps"], AWKWARD_NAMES, strict=True):
        step["guest"]["name"] = name
    lines = plan_table.plan_lines(plan)
    assert max(map(text_layout.columns, lines)) <= 140
    starts = [line for line in lines if "h2 is the only host" in line]
    assert len({text_layout.columns(line[: line.index("h2 is")]) for line in starts}) == 1


def test_a_single_move_has_a_headline_as_any_plan():
    guest = {"name": "web1", "uuid": uuid_of("web1")}
    step = single_move.step_of(guest, "h1", "h2", 1 << 29, intent.DEFAULTS)
    hosts = {host: {"host_uuid": "", "connect_uri": None, "migration_address": None} for host in ("h1", "h2")}
    made = single_move.plan_of(step, hosts, "2026-11-24T02:00:00Z", "3f9a")
    assert headline(made).startswith("1 guest (512 MiB) leaves h1")
