# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import source_order


def step(number, source, destination, *after, guest=None):
    name = guest or f"g{number}"
    return {
        "id": f"s{number}",
        "guest": {"name": name, "uuid": f"uuid-{name}"},
        "source": source,
        "destination": destination,
        "after": list(after),
    }


PLAN = {
    "steps": [
        step(1, "h1", "h3"),
        step(2, "h2", "h3", "s4"),
        step(3, "h1", "h4", "s1", "s2"),
        step(4, "h4", "h3", "s3"),
        step(5, "h4", "h2"),
    ]
}


def test_sources_come_in_the_order_of_their_first_steps_to_a_destination():
    assert source_order.ranks(PLAN, "h1") == {"h3": 0, "h4": 0}
    assert source_order.ranks(PLAN, "h2") == {"h3": 1}
    assert source_order.ranks(PLAN, "h4") == {"h3": 2, "h2": 0}
    assert source_order.ranks(PLAN, "h9") == {}


def test_a_step_awaits_the_other_sources_steps_that_stand_before_it():
    awaited = [[one["id"] for one in source_order.awaited(PLAN, step)] for step in PLAN["steps"]]
    # Step 2 waits for one that stands after it: two sources could wait for each other so.
    assert awaited == [[], [], ["s2"], ["s3"], []]


def arrivals(*steps):
    return [one["arrivals"] for one in source_order.awaited({"steps": list(steps)}, steps[-1])]


def test_a_guest_that_was_parked_may_be_found_wherever_it_went_on_to():
    parked = step(1, "h1", "h0", guest="db")
    onward = step(2, "h0", "h2", "s1", guest="db")
    elsewhere = step(3, "h5", "h6", guest="web")
    assert arrivals(parked, onward, elsewhere, step(4, "h3", "h1", "s1")) == [["h0", "h2"]]
    assert arrivals(parked, onward, elsewhere, step(4, "h3", "h1", "s2")) == [["h2"]]
    # Its own source's run sees that one ending.
    assert arrivals(parked, onward, step(4, "h0", "h1", "s1", "s2")) == [["h0", "h2"]]


def test_a_step_that_stands_later_may_have_taken_it_on_as_well():
    steps = [step(1, "h1", "h0", guest="db"), step(2, "h3", "h1", "s1"), step(3, "h0", "h2", "s1", guest="db")]
    assert [one["arrivals"] for one in source_order.awaited({"steps": steps}, steps[1])] == [["h0", "h2"]]


def test_where_it_was_before_proves_no_move():
    out, back = step(1, "h1", "h0", guest="db"), step(2, "h0", "h1", "s1", guest="db")
    assert arrivals(out, back, step(3, "h3", "h1", "s1")) == [["h0"]]
