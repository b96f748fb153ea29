# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.jobs import Job, Slots
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.schedule import lower_bound, schedule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.window_check import verdict


def job(name, seconds, source="h1", destination="h2", after=(), **more):
    return Job(name, f"guest {name}", source, destination, seconds, tuple(after), **more)


def test_one_source_sends_one_at_a_time():
    made = schedule([job("a", 3), job("b", 5, destination="h3")])
    assert made.steps == {"a": (0, 3), "b": (3, 8)}
    assert (made.total_s, made.bound_s, made.distance) == (8, 8, 0)
    assert made.bound_why == "the moves from h1 take 8.0 s"


def test_two_sources_share_a_destination_by_turns():
    made = schedule([job("a", 3), job("b", 5, source="h4")])
    assert made.steps == {"a": (0, 3), "b": (3, 8)}
    wide = schedule([job("a", 3), job("b", 5, source="h4")], Slots(per_destination=2))
    assert wide.total_s == 5


def test_a_step_that_waits_lets_the_next_of_its_source_go_first():
    jobs = [job("a", 3, after=["c"]), job("b", 2, destination="h3"), job("c", 4, source="h2", destination="h3")]
    assert schedule(jobs, Slots(per_destination=2)).steps == {"a": (4, 7), "b": (0, 2), "c": (0, 4)}


def test_a_shared_link_takes_only_so_many():
    jobs = [job("a", 3, links=("core",)), job("b", 5, source="h4", destination="h5", links=("core",))]
    assert schedule(jobs).total_s == 5
    made = schedule(jobs, Slots(per_link={"core": 1}))
    assert (made.total_s, made.bound_why) == (8, "the moves over core take 8.0 s")


def test_a_ring_that_was_edited_in_by_hand_does_not_hang():
    assert schedule([job("a", 3, after=["b"]), job("b", 2, after=["a"])]).total_s == 5


def test_steps_that_wait_for_what_is_not_there_do_not_wait():
    assert schedule([job("a", 3, after=["gone"])]).total_s == 3


def test_a_plan_fits():
    assert verdict([job("a", 30), job("b", 50)], 90) == ("fits", (), "it takes 1 min 20 s of the 1 min 30 s available")


def test_a_plan_fits_without_the_guest_that_is_just_long_enough():
    jobs = [job("a", 30), job("b", 50), job("c", 300)]
    assert verdict(jobs, 345) == (
        "fits_without",
        ("guest b",),
        "it takes 6 min 20 s and 5 min 45 s are available; without guest b it takes 5 min 30 s",
    )


def test_guests_that_others_wait_for_go_with_those():
    jobs = [job("a", 50), job("b", 5, source="h3", destination="h1", after=["a"]), *(job(f"c{n}", 1) for n in range(4))]
    found = verdict(jobs, 10)
    assert (found.code, found.without) == ("fits_without", ("guest a", "guest b"))


def test_a_plan_that_does_not_fit_says_why():
    assert verdict([job("a", 60), job("b", 60)], 30)[::2] == (
        "does_not_fit",
        "the moves from h1 take 2 min 00 s, and 30 s are available",
    )


def test_a_plan_that_only_waiting_makes_too_long():
    jobs = [job("a", 10), job("b", 10, source="h3"), job("c", 10, source="h3", destination="h4")]
    jobs = [jobs[0], jobs[1]._replace(after=("a",)), jobs[2]._replace(after=("b",))]
    found = verdict(jobs, 15)
    assert found.code == "does_not_fit"
    assert found.reason == "steps that wait for each other take 30 s, and 15 s are available"


@pytest.mark.parametrize("seed", range(100))
def test_slots_and_waits_are_kept_and_the_bound_is_one(seed):
    rng = random.Random(seed)
    hosts = [f"h{n}" for n in range(5)]
    jobs = []
    for number in range(rng.randint(1, 25)):
        source, destination = rng.sample(hosts, 2)
        after = rng.sample([other.id for other in jobs], min(len(jobs), rng.choice([0, 0, 1, 2])))
        links = ("core",) if rng.random() < 0.4 else ()
        seconds = rng.randint(1, 30)
        flow = {"flow_s": rng.uniform(0, 1) * seconds, "at_once": rng.randint(1, 2)} if seed % 2 else {}
        jobs.append(job(f"s{number}", seconds, source, destination, after, links=links, **flow))
    slots = Slots(rng.randint(1, 2), rng.randint(1, 2), {"core": rng.randint(1, 2)})
    made = schedule(jobs, slots)
    assert set(made.steps) == {one.id for one in jobs}
    assert made.total_s >= made.bound_s - 1e-9
    assert made.bound_s == lower_bound(jobs, slots)[0]
    for one in jobs:
        start, end = made.steps[one.id]
        if not one.flow_s:
            assert end - start == one.seconds
        assert one.slowed(1) - 1e-6 <= end - start <= one.slowed(2) + 1e-6
        assert all(made.steps[other].end_s <= start for other in one.after)
        at_once = [other for other in jobs if made.steps[other.id].start_s <= start < made.steps[other.id].end_s]
        assert sum(other.source == one.source for other in at_once) <= slots.per_source
        assert sum(other.destination == one.destination for other in at_once) <= slots.per_destination
        assert sum("core" in other.links for other in at_once) <= slots.per_link["core"]
    window = rng.uniform(0.2, 1.2) * made.total_s
    found = verdict(jobs, window, slots)
    if found.code == "fits":
        assert made.total_s <= window
    elif found.code == "fits_without":
        rest = [one for one in jobs if one.guest not in found.without]
        assert schedule(rest, slots).total_s <= window


# --- moves that share what they go over ------------------------------------------------------------------------------


def flows(count, seconds=60.0, *, at_once=1, setup_s=0.0, **more):
    """So many moves from one host, each of which fills the link for so long when alone."""
    whole = setup_s + seconds * at_once
    return [
        job(f"g{n}", whole, destination=f"h{n + 2}", flow_s=seconds * at_once, at_once=at_once, **more)
        for n in range(count)
    ]


@pytest.mark.parametrize("window", [1, 2, 3, 4])
def test_moves_at_once_carry_no_more_than_one_after_the_other(window):
    made = schedule(flows(4), Slots(per_source=window))
    assert (made.total_s, made.bound_s) == (pytest.approx(240), pytest.approx(240))
    assert verdict(flows(4), 90, Slots(per_source=window)).code == "does_not_fit"


def test_what_takes_no_bandwidth_goes_on_side_by_side():
    one, four = (schedule(flows(4, setup_s=10), Slots(per_source=n)).total_s for n in (1, 4))
    assert one == pytest.approx(280)
    assert four == pytest.approx(250)


def test_a_share_that_was_forecast_is_not_taken_twice():
    slots = Slots(per_source=4)
    assert schedule(flows(4, at_once=4), slots).total_s == pytest.approx(240)
    # The last one alone has the whole link again.
    made = schedule(flows(5, at_once=4), slots)
    assert made.total_s == pytest.approx(300)
    assert made.steps["g4"] == (pytest.approx(240), pytest.approx(300))
    assert made.bound_s == pytest.approx(300)


@pytest.mark.parametrize(
    ("slots", "jobs"),
    [
        (Slots(per_destination=2), [job("a", 60, source="h1", flow_s=60), job("b", 60, source="h3", flow_s=60)]),
        (
            Slots(per_link={"core": 2}),
            [
                job("a", 60, source="h1", links=("core",), flow_s=60),
                job("b", 60, source="h3", destination="h4", links=("core",), flow_s=60),
            ],
        ),
    ],
)
def test_a_destination_and_a_link_are_shared_as_well(slots, jobs):
    assert schedule(jobs, slots).total_s == pytest.approx(120)
    assert schedule(jobs, slots).bound_s == pytest.approx(120)
    assert schedule(jobs[:1], slots).total_s == pytest.approx(60)


def test_one_that_ends_leaves_its_share_to_the_others():
    jobs = [job("a", 10, flow_s=10), job("b", 30, destination="h3", flow_s=30)]
    made = schedule(jobs, Slots(per_source=2))
    assert made.steps["a"].end_s == pytest.approx(20)
    assert made.steps["b"].end_s == pytest.approx(40)


@pytest.mark.parametrize(
    ("slots", "asked", "most"),
    [
        (Slots(), (9, 9, 9), 1),
        (Slots(per_source=4), (9, 1, 9), 4),
        (Slots(per_source=4), (2, 5, 9), 2),
        # Four could leave, but their destination takes in one at a time.
        (Slots(per_source=4), (9, 1, 1), 1),
        (Slots(per_source=4), (9, 1, 3), 3),
        (Slots(per_source=4, per_destination=2), (9, 1, 1), 2),
        (Slots(per_destination=3), (9, 1, 9), 1),
        (Slots(per_destination=3), (9, 5, 9), 3),
        (Slots(per_source=2), (0, 0, 0), 1),
    ],
)
def test_the_most_that_may_share(slots, asked, most):
    assert slots.at_once(**dict(zip(("leaving", "senders", "receivers"), asked))) == most


def test_a_shared_link_is_shared_by_those_that_cross_it():
    slots, hosts = Slots(per_link={"core": 4}), {"leaving": 9, "senders": 20, "receivers": 20}
    assert slots.at_once(**hosts, links=("core", "other")) == 4
    assert slots.at_once(**hosts) == 1
