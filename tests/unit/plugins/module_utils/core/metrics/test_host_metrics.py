# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease import FREE
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics import foreseen, past_moves
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.guest_expectation import Lessons
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.host_metrics import Observation, host_metrics
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics.metric_table import METRICS
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    MIB,
    choice,
    cluster,
    disk,
    domain,
    plan_document,
    snapshot,
    step_result,
    uuid_of,
)
from ansible_collections.kvmops.cluster.tests.unit.working_sets import fitted, measured

NOW = 1795500000.0
PATH = {
    "schema": "kvmops.calibration/1",
    "kind": "path",
    "learned": {"bandwidth_bytes_per_s": {"mean": 23.88e6, "deviation": 4e5, "seen": 7}},
}


def of(name, **more):
    working_set = measured(fitted(hot=2, rate=4), touched=100, compressed_share=1.0, **more)
    return {uuid_of(name): {**working_set, "guest": {"name": name, "uuid": uuid_of(name)}}}


def told(seen):
    """Each series of the text with its value."""
    lines = [line for line in host_metrics(seen).splitlines() if not line.startswith("#")]
    return {key: float(value) for key, _blank, value in (line.rpartition(" ") for line in lines)}


def guest(metric, name, **labels):
    more = "".join(f',{key}="{value}"' for key, value in labels.items())
    return f'kvmops_guest_{metric}{{guest="{name}",uuid="{uuid_of(name)}"{more}}}'


def moved(name, at, **changes):
    step = {"id": "s001", "guest": {"name": name, "uuid": uuid_of(name)}, "source": "h1", "destination": "h2"}
    return step_result(step, finished_at=at, **changes)


def full():
    """A host of which all is known."""
    guests = [domain(name, memory_bytes=GIB) for name in ("db1", *AWKWARD_NAMES)]
    gpu = domain("gpu1", blockers=[{"code": "hostdev", "reason": "a card", "remedy": "detach it"}])
    taken = snapshot("h1", *guests, gpu, domain("old1", state="shutoff"))
    taken["maintenance"] = {"state": "cordoned", "since": "2026-11-24T02:00:00Z", "owner": "alice", "reason": None}
    sets = {key: value for one in guests for key, value in of(one["name"]).items()}
    lease = {**FREE, "owner": 'ali"ce', "run": "drain-h1", "fence": 7}
    plan = plan_document(cluster(snapshot("h1", domain("web1")), snapshot("h2")))
    plan["expected"]["window_s"], plan["expected"]["fits_window"] = 1800, False
    plan["remarks"] = [{"code": "n_plus_one", "reason": "r", "remedy": "m"}]
    return Observation(
        now=NOW,
        snapshot=taken,
        lessons=Lessons(working_sets=sets, paths={"h2": PATH, 'h"3': PATH}),
        window_s=600,
        moves=past_moves.moves([moved("web9", "2026-11-24T02:00:00Z", forecast=choice(), downtime_ms=90)]),
        lease=lease,
        lease_rest_s=60.0,
        run_at_work=True,
        plan=foreseen.foreseen(plan, "h1"),
    )


def test_each_metric_of_the_table_is_written():
    names = {line.split()[2] for line in host_metrics(full()).splitlines() if line.startswith("# TYPE")}

    assert {metric.name for metric in METRICS} - names == set()


def test_promtool_finds_nothing_to_say():
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (package prometheus) is not installed")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=host_metrics(full()), capture_output=True, text=True, check=False
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_what_is_known_of_a_guest():
    found = told(full())

    assert found[guest("memory_bytes", "db1")] == GIB
    assert found[guest("touched_bytes", "db1")] == 100 * MIB
    assert found[guest("hot_bytes", "db1")] == 2 * MIB
    assert found[guest("measured_timestamp_seconds", "db1")] == 1795485600
    assert found[guest("accepted_downtime_seconds", "db1")] == 0.5
    assert found[guest("movable", "db1")] == 1
    assert found[guest("forecast_info", "db1", destination='h\\"3', method="pre-copy", verdict="converges")] == 1
    # 100 MiB over 23.9 MB/s, and what the hosts take before and after.
    assert 4 < found[guest("forecast_duration_seconds", "db1")] < 9
    assert found[guest("forecast_downtime_seconds", "db1")] < 0.5
    assert not any("old1" in key for key in found), "a guest that is off has no memory to move"


def test_a_guest_that_cannot_leave():
    found = told(full())

    assert found[guest("movable", "gpu1")] == 0
    assert found[guest("refusal_info", "gpu1", code="hostdev")] == 1
    assert guest("forecast_duration_seconds", "gpu1") not in found


@pytest.mark.parametrize(
    ("changes", "intent", "code"),
    [
        ({"intent": {"max_downtime_ms": "soon"}}, {}, "intent"),
        ({"disks": [disk(shared=False, shared_why="ext4")]}, {}, "unshared_disk"),
        ({"state": "paused", "state_reason": "user"}, {}, "paused"),
        ({"managed_by": "pacemaker"}, {}, "managed"),
    ],
)
def test_what_keeps_a_guest_is_told_by_its_code(changes, intent, code):
    taken = snapshot("h1", domain("web1", **changes))
    found = told(Observation(NOW, taken, intent=intent))

    assert found[guest("movable", "web1")] == 0
    assert found[guest("refusal_info", "web1", code=code)] == 1


def test_a_guest_that_no_method_moves_within_its_intent():
    busy = measured(fitted(hot=200, rate=2000), touched=300)
    web = domain("web1", intent={"max_downtime_ms": 50}, memory_bytes=GIB)
    seen = Observation(
        NOW, snapshot("h1", web), Lessons(working_sets={web["uuid"]: busy}, paths={"h2": PATH}), intent={}
    )
    found = told(seen)

    assert found[guest("movable", "web1")] == 0
    assert found[guest("refusal_info", "web1", code="cannot_keep_intent")] == 1
    assert found["kvmops_host_drain_forecast_seconds"] == 0
    assert found["kvmops_host_drain_unknown_guests"] == 0


def test_local_disks_are_copied_where_the_operator_permits_it():
    local = domain("web1", disks=[disk(shared=False, shared_why="ext4", data_bytes=GIB, copy_bytes=GIB)])
    seen = Observation(NOW, snapshot("h1", local), Lessons(working_sets=of("web1"), paths={"h2": PATH}))

    assert told(seen)[guest("movable", "web1")] == 0
    allowed = Observation(seen.now, seen.snapshot, seen.lessons, intent={"allow_storage_copy": True})
    assert told(allowed)[guest("movable", "web1")] == 1
    assert told(allowed)[guest("forecast_duration_seconds", "web1")] > GIB / 23.88e6


def test_before_the_first_move_nothing_is_forecast():
    found = told(Observation(NOW, snapshot("h1", domain("web1")), Lessons(working_sets=of("web1"))))

    assert found[guest("movable", "web1")] == 1
    assert guest("forecast_duration_seconds", "web1") not in found
    assert (found["kvmops_host_drain_forecast_seconds"], found["kvmops_host_drain_unknown_guests"]) == (0, 1)


def test_the_operator_may_state_what_the_link_gives():
    lessons = Lessons(working_sets=of("web1"), stated_bytes_per_s=20 * MIB)
    found = told(Observation(NOW, snapshot("h1", domain("web1")), lessons))

    assert found[guest("forecast_info", "web1", destination="", method="pre-copy", verdict="converges")] == 1


def test_the_best_destination_is_the_fastest_one():
    slow = {**PATH, "learned": {"bandwidth_bytes_per_s": {"mean": 2e6, "deviation": 4e4, "seen": 7}}}
    lessons = Lessons(working_sets=of("web1"), paths={"h2": slow, "h3": PATH, "h1": PATH})
    found = told(Observation(NOW, snapshot("h1", domain("web1")), lessons))

    assert [key for key in found if "forecast_info" in key and 'destination="h3"' in key]
    assert found['kvmops_path_bandwidth_bytes_per_second{destination="h2"}'] == 2e6


def planned(created_at, total_s=30.0, refusals=()):
    """What a plan foresees of web1."""
    return {
        "schema": "kvmops.foreseen/1", "plan": "drain-h1", "goal": "drain", "created_at": created_at,
        "expected_s": 41.0, "window_s": None, "fits_window": None, "remarks": [],
        "guests": {uuid_of("web1"): {
            "destination": "h7", "method": "post-copy", "verdict": "converges", "total_s": total_s, "downtime_ms": 81,
            "bytes": 5, "refusals": list(refusals),
        }},
    }  # fmt: skip


@pytest.mark.parametrize(("created_at", "known"), [("2026-11-25T02:00:00Z", "h7"), ("2026-11-20T02:00:00Z", "h2")])
def test_the_newer_of_plan_and_measurement_counts(created_at, known):
    lessons = Lessons(working_sets=of("web1"), paths={"h2": PATH})
    found = told(Observation(NOW, snapshot("h1", domain("web1")), lessons, plan=planned(created_at)))

    assert [key for key in found if "forecast_info" in key and f'destination="{known}"' in key]


def test_an_old_plan_counts_where_the_host_itself_knows_nothing():
    lessons = Lessons(working_sets=of("web1"))
    found = told(Observation(NOW, snapshot("h1", domain("web1")), lessons, plan=planned("2026-11-20T02:00:00Z")))

    assert found[guest("forecast_duration_seconds", "web1")] == 30
    assert found[guest("forecast_downtime_seconds", "web1")] == 0.081


def test_a_guest_without_room_elsewhere_is_known_by_the_plan():
    lessons = Lessons(working_sets=of("web1"), paths={"h2": PATH})
    plan = planned("2026-11-25T02:00:00Z", None, ["no_room"])
    found = told(Observation(NOW, snapshot("h1", domain("web1")), lessons, plan=plan))

    assert found[guest("movable", "web1")] == 0
    assert found[guest("refusal_info", "web1", code="no_room")] == 1


def test_what_is_known_of_the_host():
    found = told(full())

    assert found["kvmops_written_timestamp_seconds"] == NOW
    assert found['kvmops_host_info{host="h1",libvirt="11.3.0",qemu="10.0.13",kernel="6.12.48"}'] == 1
    assert found["kvmops_host_guests"] == 7
    assert found["kvmops_host_guest_memory_bytes"] == 6 * GIB + 512 * MIB
    states = {state: found[f'kvmops_host_maintenance_state{{state="{state}"}}'] for state in ("active", "cordoned")}
    assert states == {"active": 0, "cordoned": 1}
    assert found["kvmops_host_maintenance_since_timestamp_seconds"] == 1795485600
    assert found['kvmops_host_lease_info{owner="ali\\"ce",run="drain-h1"}'] == 1
    assert found["kvmops_host_lease_expires_timestamp_seconds"] == NOW + 60
    assert found["kvmops_host_drain_window_seconds"] == 600


@pytest.mark.parametrize(
    ("lease", "rest_s", "held"),
    [
        (dict(FREE), 0.0, 0),
        ({**FREE, "run": "r", "owner": "o"}, 0.0, 0),
        ({**FREE, "run": "r"}, 5.0, 1),
        (None, 0.0, 1),
    ],
    ids=["free", "ended", "held", "unreadable"],
)
def test_a_lease_that_cannot_be_read_counts_as_held(lease, rest_s, held):
    found = told(Observation(NOW, snapshot("h1"), lease=lease, lease_rest_s=rest_s))

    assert found["kvmops_host_lease_held"] == held


def test_the_last_move_of_each_guest():
    results = [
        moved("web1", "2026-11-24T02:00:00Z", total_s=4.0, downtime_ms=90),
        moved("web1", "2026-11-25T02:00:00Z", outcome="failed", total_s=9.0, downtime_ms=None),
        moved("web1", "2026-11-26T02:00:00Z", outcome="refused"),
        moved("web1", "yesterday"),
        {"guest": "web1", "outcome": "moved", "finished_at": "2026-11-27T02:00:00Z"},
        moved("web1", "2026-11-27T02:00:00Z", forecast={"total_s": 5}),
        None,
    ]
    found = told(Observation(NOW, snapshot("h1"), moves=past_moves.moves(results)))

    assert found[guest("last_move_timestamp_seconds", "web1")] == 1795485600 + 86400
    assert found[guest("last_move_duration_seconds", "web1")] == 9
    assert guest("last_move_downtime_seconds", "web1") not in found
    assert any('outcome="failed"' in key for key in found)


def test_how_right_forecasts_were():
    def expected(seconds):
        return {**choice(), "total_s": {"value": seconds, "low": 1, "high": 99}}

    results = [
        moved(f"web{day}", f"2026-11-{day:02}T02:00:00Z", total_s=10.0, forecast=expected(11.0)) for day in range(4, 24)
    ]
    # An older one that was far off, and one that did not move.
    results += [
        moved("web1", "2026-11-01T02:00:00Z", total_s=10.0, forecast=expected(90.0)),
        moved("web2", "2026-11-25T02:00:00Z", total_s=10.0, forecast=expected(90.0), outcome="failed"),
    ]
    found = told(Observation(NOW, snapshot("h1"), moves=past_moves.moves(results)))

    assert found['kvmops_forecast_compared_moves{figure="duration"}'] == past_moves.COMPARED_MOVES
    assert found['kvmops_forecast_error_median_ratio{figure="duration"}'] == 0.1
    assert found['kvmops_forecast_error_worst_ratio{figure="duration"}'] == 0.1
    nothing = told(Observation(NOW, snapshot("h1")))
    assert nothing['kvmops_forecast_compared_moves{figure="downtime"}'] == 0
    assert not any("error" in key for key in nothing)


def test_a_host_keeps_its_own_part_of_a_plan():
    plan = plan_document(cluster(snapshot("h1", domain("web1")), snapshot("h2")))
    plan["stays"] = [
        {"guest": {"name": "gpu1", "uuid": uuid_of("gpu1")}, "host": "h1",
         "refusals": [{"code": "hostdev", "reason": "r", "remedy": "m"}]},
        {"guest": {"name": "pin1", "uuid": uuid_of("pin1")}, "host": "h1",
         "refusals": [{"code": "excluded", "reason": "r", "remedy": "m"}]},
        {"guest": {"name": "far1", "uuid": uuid_of("far1")}, "host": "h9",
         "refusals": [{"code": "hostdev", "reason": "r", "remedy": "m"}]},
    ]  # fmt: skip
    kept = foreseen.foreseen(plan, "h1")

    foreseen.FORESEEN(kept, "")
    steps = {step["guest"]["uuid"] for step in plan["steps"] if step["source"] == "h1"}
    assert steps
    assert set(kept["guests"]) == steps | {uuid_of("gpu1")}
    assert foreseen.expectation_of(kept, uuid_of("gpu1")).refusals == ("hostdev",)
    assert foreseen.expectation_of(kept, uuid_of("pin1")) is None
    assert foreseen.expectation_of(None, uuid_of("gpu1")) is None


def test_a_host_that_tells_little_is_told_as_far_as_it_goes():
    found = told(Observation(NOW, {"host": "h1"}))

    assert found['kvmops_host_maintenance_state{state="active"}'] == 1
    assert "kvmops_host_memory_bytes" not in found
