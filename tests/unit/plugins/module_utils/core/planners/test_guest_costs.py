# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import rebalancing
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.drain import drain
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.forecast_planning import make_with_forecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.guest_costs import GuestCosts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import PlanForecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Request
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    GIB,
    MIB,
    band,
    choice,
    cluster,
    domain,
    record,
    snapshot,
    uuid_of,
    working_set,
)

QUIET, HOT = domain("quiet"), domain("hot")
#: 128 MiB within a second is six times what the links below take.
SETS = [working_set(QUIET, hot_bytes=MIB), working_set(HOT, hot_bytes=128 * MIB, fill_s=1.0)]
SLOW = {host: {"bandwidth_mib_s": 22.8} for host in ("h1", "h2", "h3")}
NO = {"code": "cannot_keep_intent", "reason": "the link is too slow", "remedy": "give it a link of 1 GiB/s"}


@pytest.fixture(autouse=True)
def short_search(monkeypatch):
    """A few tries are enough for a few guests."""
    monkeypatch.setattr(rebalancing, "TRIES_A_UNIT", 500)


class Told(PlanForecasts):
    """Forecasts as a test wants them: nothing does for a guest or a host that is called one of ``refusing``."""

    def choice(self, guest, source, destination, intent):
        self.asked.append((guest["name"], destination))
        if {guest["name"], destination} & self.refusing:
            return choice(method=None, verdict="never", refusal=NO, total_s=None, bytes=None, downtime_ms=None)
        return choice(**self.changes)


def told(seen, *refusing, connect=None, **changes):
    """Forecasts for a cluster in which every guest of h1 was measured."""
    made = Told(seen, connect or {}, [working_set(guest) for guest in seen["h1"]["domains"]])
    made.__dict__.update(refusing=set(refusing), changes=changes, asked=[])
    return made


def foreseen(constraints, forecasts, *, closing=()):
    """The terms with forecasts of all guests that were measured."""
    guest_costs = GuestCosts(constraints, forecasts, closing=closing)
    guest_costs.ask_all()
    return guest_costs.constraints


def drained(forecasts, *, intent=None, **options):
    constraints = foreseen(Constraints(forecasts.snapshots, intent or {}), forecasts, closing=["h1"])
    return drain(["h1"], constraints, **options)


def stays(planned):
    return {stay["guest"]["name"]: stay["refusals"] for stay in planned.placement.stays}


def real(*guests, sets=None):
    seen = cluster(snapshot("h1", *guests), snapshot("h2"), snapshot("h3"))
    return PlanForecasts(seen, SLOW, SETS if sets is None else sets)


def test_a_guest_whose_intent_cannot_be_kept_stays_with_what_would_permit_it():
    planned = drained(real(QUIET, HOT), intent={"max_downtime_ms": 200})
    assert [step["guest"]["name"] for step in planned.placement.steps] == ["quiet"]
    [refused] = stays(planned)["hot"]
    assert refused["code"] == "cannot_keep_intent"
    assert "allow_postcopy" in refused["remedy"]
    assert "give it a link of" in refused["remedy"]


def test_a_guest_that_was_not_measured_stays_where_no_guest_keeps_its_intent():
    forecasts = real(QUIET, domain("new"), sets=[SETS[0]])
    plans = [
        make_with_forecasts(Request("drain", ["h1"]), Constraints(forecasts.snapshots, intent), forecasts).planned
        for intent in ({}, {"max_downtime_ms": 30})
    ]
    assert sorted(step["guest"]["name"] for step in plans[0].placement.steps) == ["new", "quiet"]
    planned = plans[1]
    assert planned.placement.steps == []
    assert [one["code"] for one in stays(planned)["new"]] == ["cannot_keep_intent"]
    assert "every guest is down for" in stays(planned)["new"][0]["reason"]


def test_a_guest_that_may_run_on_there_at_once_goes():
    planned = drained(real(QUIET, HOT), intent={"allow_postcopy": True})
    assert {step["guest"]["name"]: step["strategy"] for step in planned.placement.steps}["hot"] == "post-copy"
    for step in planned.placement.steps:
        assert step["forecast"]["method"] == step["strategy"]
        timing = planned.expected["steps"][step["id"]]
        assert timing["end_s"] - timing["start_s"] == pytest.approx(step["forecast"]["total_s"]["value"], abs=0.11)
    assert planned.expected["guessed"] == []
    assert planned.expected["bytes"] == pytest.approx(
        sum(step["forecast"]["bytes"]["value"] for step in planned.placement.steps), abs=1
    )


def test_another_destination_may_do_where_the_best_one_does_not():
    seen = cluster(snapshot("h1", domain("web1")), snapshot("h2", free_bytes=48 * GIB), snapshot("h3"))
    slow = {"h2": {"bandwidth_mib_s": 10}}
    planned = drained(told(seen, "h2", connect=slow))
    assert [step["destination"] for step in planned.placement.steps] == ["h3"]
    seen["h3"]["maintenance"] = record("cordoned")
    assert NO in stays(drained(told(seen, "h2", connect=slow)))["web1"]


def test_a_guest_is_forecast_once_for_all_hosts_that_are_alike():
    seen = cluster(snapshot("h1", *map(domain, "abc")), *(snapshot(f"h{n}") for n in range(2, 9)))
    forecasts = told(seen)
    foreseen(Constraints(seen), forecasts, closing=["h1"])
    assert [name for name, _host in forecasts.asked] == ["a", "b", "c"]
    del forecasts.asked[:]
    seen["h5"]["migration"]["postcopy"]["usable"] = False
    foreseen(Constraints(seen), forecasts, closing=["h1"])
    assert [one for one in forecasts.asked if one[0] == "a"] == [("a", "h2"), ("a", "h5")]


def test_a_step_has_the_forecast_that_found_its_place_unless_that_names_another_host():
    seen = cluster(snapshot("h1", domain("a")), snapshot("h2"), snapshot("h3", free_bytes=60 * GIB))
    forecasts = told(seen)
    assert [step["destination"] for step in drained(forecasts).placement.steps] == ["h3"]
    assert forecasts.asked == [("a", "h2")]
    named = told(seen, why_not={"parallel-zstd": "libvirt and QEMU on h2 have no zstd"})
    drained(named)
    assert named.asked == [("a", "h2"), ("a", "h3")]


def test_a_group_is_not_torn_by_one_of_its_guests():
    guests = [domain("web1", together="web"), domain("web2", together="web")]
    planned = drained(told(cluster(snapshot("h1", *guests), snapshot("h2")), "web1"))
    assert planned.placement.steps == []
    codes = {name: [one["code"] for one in refusals] for name, refusals in stays(planned).items()}
    assert codes == {"web1": ["cannot_keep_intent"], "web2": ["keep_together"]}


def test_what_was_forecast_orders_the_plan():
    long, short, unsure = (domain(name) for name in ("long", "short", "unsure"))
    seen = cluster(snapshot("h1", long, short, unsure), snapshot("h2"))
    forecasts = told(seen)
    figures = {
        "long": choice(total_s=band(50)),
        "short": choice(total_s=band(5)),
        "unsure": choice(total_s=band(60), verdict="marginal"),
    }
    forecasts.__dict__["choice"] = lambda guest, *dummy: figures[guest["name"]]
    planned = drained(forecasts)
    assert [step["guest"]["name"] for step in planned.placement.steps] == ["unsure", "short", "long"]
    assert planned.expected["seconds"] == 115


def test_guests_that_were_not_measured_are_guessed_by_the_speed_of_their_way():
    planned = drained(real(domain("new", memory_bytes=228 * MIB), sets=[]))
    [step] = planned.placement.steps
    assert step["forecast"]["measured_at"] is None
    assert planned.expected["guessed"] == ["new"]
    assert planned.expected["seconds"] == pytest.approx(10 + 2, rel=0.01)
    assert planned.expected["bytes"] is None


def test_what_a_guest_uses_of_its_cpus_counts():
    forecasts = real(domain("quiet", vcpus=8))
    constraints = foreseen(Constraints(forecasts.snapshots), forecasts)
    assert constraints.expected[uuid_of("quiet")].cpus == pytest.approx(8 * 0.04)


def test_metadata_that_makes_no_sense_is_told_once_and_hinders_no_one():
    planned = drained(real(QUIET, domain("hot", intent={"max_downtime_ms": "soon"})))
    assert [step["guest"]["name"] for step in planned.placement.steps] == ["quiet"]
    assert [one["code"] for one in stays(planned)["hot"]] == ["intent"]


def uneven(*names, **changes):
    """A host with these guests, all measured, and an empty one."""
    return cluster(snapshot("h1", *(domain(name, memory_bytes=GIB, **changes) for name in names)), snapshot("h2"))


def rebalanced(forecasts):
    return make_with_forecasts(Request("rebalance"), Constraints(forecasts.snapshots), forecasts).planned


def test_of_a_rebalance_only_those_that_it_moves_are_forecast():
    forecasts = told(uneven(*"abcdef"), connect=SLOW, total_s=band(1))
    moved = [step["guest"]["name"] for step in rebalanced(forecasts).placement.steps]
    assert len(moved) == 3
    assert sorted(name for name, _host in forecasts.asked) == sorted(moved)


def test_another_moves_in_place_of_one_that_turns_out_to_be_refused():
    first = told(uneven(*"abcdef"), connect=SLOW, total_s=band(1))
    chosen = rebalanced(first).placement.steps[0]["guest"]["name"]
    planned = rebalanced(told(uneven(*"abcdef"), chosen, connect=SLOW, total_s=band(1)))
    moved = [step["guest"]["name"] for step in planned.placement.steps]
    assert len(moved) == 3
    assert chosen not in moved
    assert all(step["forecast"]["refusal"] is None for step in planned.placement.steps)


def test_when_all_are_refused_nobody_moves():
    planned = rebalanced(told(uneven(*"abcdef"), *"abcdef", connect=SLOW))
    assert planned.placement.steps == []
    assert [one["code"] for one in planned.remarks] == ["balanced"]


def test_who_turns_out_to_take_far_longer_than_was_reckoned_is_not_chosen_again():
    forecasts = told(uneven(*"abcdef"), connect=SLOW, total_s=band(1))
    slow = {step["guest"]["name"] for step in rebalanced(forecasts).placement.steps}
    forecasts.__dict__["choice"] = lambda guest, *dummy: choice(total_s=band(900 if guest["name"] in slow else 1))
    assert slow.isdisjoint(step["guest"]["name"] for step in rebalanced(forecasts).placement.steps)


def test_who_is_hot_is_left_where_another_does():
    """Before anything is forecast: 128 MiB within a second is more than the link takes, and more than one downtime."""
    guests = [domain(name, memory_bytes=GIB) for name in "abcdef"]
    sets = [working_set(guest, hot_bytes=128 * MIB if guest["name"] in "abc" else MIB, fill_s=1.0) for guest in guests]
    forecasts = PlanForecasts(cluster(snapshot("h1", *guests), snapshot("h2")), SLOW, sets)
    reckoned = GuestCosts(Constraints(forecasts.snapshots), forecasts).constraints.expected
    assert reckoned[uuid_of("a")].seconds > 5 * reckoned[uuid_of("d")].seconds
    assert {step["guest"]["name"] for step in rebalanced(forecasts).placement.steps} == set("def")
