# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import planning
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Request
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.placement_rules import Rule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.compatibility import destination_refusals
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, cluster, domain, snapshot, uuid_of


def ruled(name="web1", **words):
    made = domain(name)
    made["metadata"].update(words)
    return made


def drained(*guests, rules=None):
    """A drain of h1; h2 has most room."""
    seen = cluster(snapshot("h1", *guests), snapshot("h2", free_bytes=50 * GIB), snapshot("h3", free_bytes=20 * GIB))
    return planning.make(Request("drain", ["h1"]), Constraints(seen, rules=rules or {})).planned.placement


def destinations(placement):
    return {step["guest"]["name"]: step["destination"] for step in placement.steps}


def first_refusals(placement):
    return {
        stay["guest"]["name"]: (
            stay["refusals"][0]["code"],
            stay["refusals"][0]["reason"],
            stay["refusals"][0]["remedy"],
        )
        for stay in placement.stays
    }


@pytest.mark.parametrize(
    "words", [{"only_on": "h1,h3"}, {"only_on": "h1 h3.example.org"}, {"not_on": "h2"}, {"not_on": "h2.example.org h9"}]
)
def test_the_metadata_of_a_guest_says_where_it_may_run(words):
    assert destinations(drained(ruled(**words), domain("free"))) == {"web1": "h3", "free": "h2"}


def test_a_guest_stays_where_the_metadata_leave_no_host():
    placement = drained(ruled(only_on="h1"), domain("free"))
    assert destinations(placement) == {"free": "h2"}
    assert first_refusals(placement)["web1"] == (
        "placement_rule",
        "web1 may not run on h2 (its metadata: only on h1); likewise for h3",
        "change only_on or not_on in its metadata (virsh metadata), or choose another host",
    )


def test_each_move_looks_once_more():
    guest = ruled(not_on="h2")
    found = destination_refusals(guest, snapshot("h1", guest), snapshot("h2"), intents.normalise({}))
    assert [one["reason"] for one in found] == ["web1 may not run on h2 (its metadata: not on h2)"]
    assert destination_refusals(guest, snapshot("h1", guest), snapshot("h3"), intents.normalise({})) == []


def test_the_run_says_where_guests_may_run():
    rules = {uuid_of("web1"): [Rule(frozenset(["h3"]), frozenset(), "rule 1", "change rule 1")]}
    assert destinations(drained(domain("web1"), domain("free"), rules=rules)) == {"web1": "h3", "free": "h2"}
    # What the metadata forbids, no rule permits.
    placement = drained(ruled(not_on="h3"), rules=rules)
    assert first_refusals(placement)["web1"][:2] == (
        "placement_rule",
        "web1 may not run on h2 (rule 1: only on h3)",
    )


def test_metadata_that_make_no_sense_say_nothing():
    assert destinations(drained(ruled(only_on=" , ", not_on=""))) == {"web1": "h2"}
