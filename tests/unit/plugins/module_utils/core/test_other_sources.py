# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core import other_sources


def step(number, source, destination, *after):
    return {"id": f"s{number}", "source": source, "destination": destination, "after": list(after)}


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
    assert other_sources.ranks(PLAN, "h1") == {"h3": 0, "h4": 0}
    assert other_sources.ranks(PLAN, "h2") == {"h3": 1}
    assert other_sources.ranks(PLAN, "h4") == {"h3": 2, "h2": 0}
    assert other_sources.ranks(PLAN, "h9") == {}


def test_a_step_awaits_the_other_sources_steps_that_stand_before_it():
    awaited = [[one["id"] for one in other_sources.awaited(PLAN, step)] for step in PLAN["steps"]]
    # Step 2 waits for one that stands after it: two sources could wait for each other so.
    assert awaited == [[], [], ["s2"], ["s3"], []]
