# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result
from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks.verification import left_on, newcomers, verified
from ansible_collections.kvmops.cluster.tests.unit.builders import domain, snapshot, uuid_of

STEP = {"id": "s001", "guest": {"name": "web1", "uuid": uuid_of("web1")}, "source": "h1", "destination": "h2"}
PLAN = {"goal": {"kind": "drain", "hosts": ["h1"]}, "steps": [STEP], "stays": []}


def cluster(**where):
    """Snapshots of hosts, each with the guests named; None leaves the host out."""
    return {host: snapshot(host, *guests) for host, guests in where.items() if guests is not None}


def checked(snapshots, outcome=None, **words):
    results = [step_result(STEP, outcome, **words)] if outcome else []
    [result] = verified(PLAN, results, snapshots)
    return result["outcome"], result["error"]


WEB1 = domain("web1")


@pytest.mark.parametrize(
    ("said", "where", "outcome"),
    [
        ("moved", {"h1": [], "h2": [WEB1]}, "moved"),
        ("already_there", {"h1": [], "h2": [WEB1]}, "already_there"),
        # The run did not say so, or did not know: the hosts do.
        (None, {"h1": [], "h2": [WEB1]}, "moved"),
        ("unclear", {"h1": [], "h2": [WEB1]}, "moved"),
        ("failed", {"h1": [WEB1], "h2": []}, "failed"),
        ("unclear", {"h1": [WEB1], "h2": []}, "failed"),
        ("refused", {"h1": [WEB1], "h2": []}, "refused"),
        (None, {"h1": [WEB1], "h2": []}, "not_started"),
        # It has left the source, but that is where it was shut off.
        ("moved", {"h1": [domain("web1", state="shutoff")], "h2": [WEB1]}, "moved"),
    ],
)
def test_the_hosts_say_what_came_of_a_step(said, where, outcome):
    assert checked(cluster(**where), said)[0] == outcome


@pytest.mark.parametrize(
    ("said", "where", "error"),
    [
        ("moved", {"h1": [WEB1], "h2": [WEB1]}, "it is active on h1 and h2"),
        ("moved", {"h1": [], "h2": []}, "it was moved to h2 and is not active there any more"),
        ("moved", {"h1": [], "h2": [], "h3": [WEB1]}, "it was moved to h2 and is now on h3"),
        # Whoever starts it anew, as a lost guest's result says, would start it twice.
        ("lost", {"h1": [], "h2": [], "h3": [WEB1]}, "it is active on h3: start it nowhere else"),
        ("moved", {"h1": [], "h2": None}, "it was moved to h2, which does not answer"),
        ("moved", {"h1": [], "h2": [domain("web1", state="paused")]}, "it is paused on h2"),
        ("unclear", {"h1": [domain("web1", state="paused")], "h2": []}, "it is paused on h1"),
        ("unclear", {"h1": [domain("web1", job={"operation": "migration"})], "h2": []}, "it is migrating on h1"),
        ("failed", {"h1": [], "h2": []}, "it is active neither on h1 nor on any other host that answers"),
        (None, {"h1": None, "h2": [WEB1]}, "it is running on h2, and h1 does not answer"),
    ],
)
def test_a_guest_that_is_not_where_it_should_be_is_unclear(said, where, error):
    assert checked(cluster(**where), said) == ("unclear", error)


@pytest.mark.parametrize("said", ["failed", "unclear", "off", None])
def test_a_guest_that_died_with_its_host_comes_with_how_to_start_it(said):
    off = domain("web1", state="shutoff", state_reason="unknown")
    outcome, error = checked(cluster(h1=[off], h2=[]), said)
    assert outcome == "off"
    assert error.startswith(
        "its QEMU on h1 has ended: web1 is shutoff (unknown) on h1 and unknown on h2: start it again"
    )


def test_a_guest_that_somebody_shut_down_meanwhile_needs_nothing():
    off = domain("web1", state="shutoff", state_reason="shutdown")
    assert checked(cluster(h1=[off], h2=[]), "off", error="somebody has shut it down") == ("off", None)


@pytest.mark.parametrize("reason", ["migrated", "unknown"])
def test_a_guest_that_had_left_is_not_called_off_at_its_source(reason):
    off = domain("web1", state="shutoff", state_reason=reason)
    assert checked(cluster(h1=[off], h2=[]), "moved")[0] == "unclear"
    if reason == "migrated":
        assert checked(cluster(h1=[off], h2=[]), "failed")[0] == "unclear"


def test_what_the_run_said_is_kept_beside_what_the_hosts_say():
    assert checked(cluster(h1=[], h2=[]), "failed", error="the link was cut.") == (
        "unclear",
        "the link was cut; it is active neither on h1 nor on any other host that answers",
    )


def test_guests_that_are_off_do_not_count_as_left():
    snapshots = cluster(h1=[domain("off1", state="shutoff"), domain("db1")], h2=[])

    assert left_on(["h1"], snapshots) == {"h1": ["db1"]}
    assert left_on(["h2"], snapshots) == {"h2": []}


def test_nothing_is_known_of_a_host_that_does_not_answer():
    assert left_on(["h1", "h2"], cluster(h2=[])) == {"h2": []}


def test_a_guest_that_came_meanwhile_is_named():
    snapshots = cluster(h1=[domain("db1"), domain("web1")], h2=[])

    assert newcomers(PLAN, snapshots) == ["db1 came to h1 after the plan was made, and runs there."]


def test_guests_may_well_be_on_a_host_that_is_restored():
    plan = {**PLAN, "goal": {"kind": "restore", "hosts": ["h1"]}}

    assert newcomers(plan, cluster(h1=[domain("db1")])) == []
