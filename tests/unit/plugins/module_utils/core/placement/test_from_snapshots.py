# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import random

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints, Expected
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.drain import drain
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, snapshot, uuid_of


def moves(planned):
    return [(step["guest"]["name"], step["source"], step["destination"]) for step in planned.placement.steps]


def web(host):
    """A guest of a name that another guest has too."""
    return domain("web", uuid=uuid_of(f"web of {host}"))


def test_the_order_in_which_hosts_answer_changes_no_figure():
    """Tenths do not add up to the same in every order."""
    rng = random.Random(7)
    guests = [domain(f"g{n}") for n in range(40)]
    expected = {guest["uuid"]: Expected(seconds=rng.random(), cpus=rng.random()) for guest in guests[:30]}
    found = set()
    for dummy in range(20):
        rng.shuffle(guests)
        seen = cluster(*(snapshot(f"h{n}", *guests[n::4]) for n in rng.sample(range(4), 4)))
        made = NumberedCluster(Constraints(seen, expected=expected))
        unmeasured = made.cluster.units[made.units[uuid_of("g39")]]
        found.add((unmeasured.cpu, unmeasured.move_s))
    assert len(found) == 1


def test_two_guests_of_one_name_never_share_a_host():
    seen = cluster(snapshot("h1", web("h1")), snapshot("h2", web("h2")), snapshot("h3"), snapshot("h4"))
    assert sorted(destination for dummy, dummy2, destination in moves(drain(["h1", "h2"], Constraints(seen)))) == [
        "h3",
        "h4",
    ]


def test_the_second_of_a_name_stays_where_no_other_host_is_left():
    seen = cluster(snapshot("h1", web("h1")), snapshot("h2", web("h2")), snapshot("h3"))
    planned = drain(["h1", "h2"], Constraints(seen))
    ((dummy, source, destination),) = moves(planned)
    (stay,) = planned.placement.stays
    assert {source, stay["host"]} == {"h1", "h2"}
    assert destination == "h3"
    told = {refused["code"]: refused["reason"] for refused in stay["refusals"]}
    assert told["name_clash"] == f"h3 runs or will run another guest called web (UUID {uuid_of(f'web of {source}')})"


def test_a_name_tells_apart_beside_a_group():
    """The group keeps b away from h3, and its name the second web."""
    seen = cluster(
        snapshot("h1", web("h1"), domain("b", apart="x")),
        snapshot("h2", web("h2")),
        snapshot("h3", domain("c", apart="x")),
    )
    planned = drain(["h1", "h2"], Constraints(seen))
    codes = {stay["guest"]["name"]: [one["code"] for one in stay["refusals"]] for stay in planned.placement.stays}
    assert codes["b"][0] == "keep_apart"
    assert codes["web"][0] == "name_clash"


def test_a_guest_on_its_way_is_no_namesake_of_its_own():
    twin = domain(state="paused", state_reason="migration")
    made = NumberedCluster(Constraints(cluster(snapshot("h1", domain()), snapshot("h2", twin))))
    assert [unit.apart for unit in made.cluster.units] == [(), ()]
