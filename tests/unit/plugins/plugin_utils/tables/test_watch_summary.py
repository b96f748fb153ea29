# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.filter.watch_summary import watch_summary

RUN = {"plan": "drain-h1-1", "owner": "alice@admin1"}
NOTHING = {"watched": None, "outcomes": None, "lease": None}
GONE = {"unreachable": True, "msg": "ssh: no route to host"}
REFUSAL = {"code": "hostdev", "reason": "it has a GPU", "remedy": "detach it"}


def result(name, outcome="moved", **more):
    return {"guest": {"name": name, "uuid": "u"}, "outcome": outcome, "refusals": [], "error": None, **more}


def watched(*results):
    return {"watched": RUN, "outcomes": list(results), "lease": None}


def test_a_run_that_did_all_it_should():
    said = watch_summary({"h1": watched(result("web1"), result("web2", "already_there")), "h2": NOTHING})
    assert said == {
        "lines": [
            "h1: drain-h1-1 of alice@admin1 is over: 2 guests moved.",
            "No other run moves guests away from h2.",
        ],
        "failure": "",
    }


def test_guests_that_did_not_move_are_named_with_their_reasons():
    said = watch_summary(
        {
            "h1": watched(
                result("web1"),
                result("gpu1", "refused", refusals=[REFUSAL]),
                result("db1", "failed", error="the link is down"),
                result("db2", "not_started"),
            )
        }
    )
    assert said == {
        "lines": [
            "h1: drain-h1-1 of alice@admin1 is over: 1 of 4 guests moved.",
            "  gpu1 (refused): it has a GPU: detach it",
            "  db1 (failed): the link is down",
            "  db2 (not_started): it was not its turn when the run ended",
        ],
        "failure": "Not every guest that was to leave h1 has moved; run the playbook that was at work again: it goes on"
        " from what is done.",
    }


def test_a_run_that_was_killed_on_its_host():
    said = watch_summary({"h1": {"watched": RUN, "outcomes": None, "lease": None}})
    assert said["lines"] == [
        (
            "h1: drain-h1-1 of alice@admin1 has ended without a result: it was killed on h1. A guest in flight"
            " arrives by itself; run the playbook that was at work again: it goes on from what is done"
        )
    ]
    assert said["failure"]


def test_nothing_at_work_is_said_and_is_no_failure():
    assert watch_summary({"h1": NOTHING, "h2": NOTHING}) == {
        "lines": ["No run moves guests away from h1 and h2."],
        "failure": "",
    }


def test_who_has_the_hosts_may_begin_later():
    lease = {"owner": "bob@admin2", "run": "drain-h1", "since": "2026-11-24T02:00:00Z"}
    said = watch_summary({"h1": {**NOTHING, "lease": lease}, "h2": {**NOTHING, "lease": lease}, "h3": NOTHING})
    assert said["lines"] == [
        "No run moves guests away from h1, h2 and h3.",
        (
            "h1 and h2 are taken by bob@admin2 for run drain-h1 since 2026-11-24T02:00:00Z: moves may begin later (-e"
            " watch_wait_s=600 waits for them)."
        ),
    ]


def test_a_host_that_does_not_answer_is_named():
    said = watch_summary({"h1": NOTHING, "h2": GONE})
    assert said["lines"] == [
        "No run moves guests away from h1.",
        "h2 is not watched: it cannot be reached: ssh: no route to host",
    ]
    assert said["failure"] == ""


@pytest.mark.parametrize("results", [{"h1": GONE, "h2": {"failed": True, "msg": "run as root"}}, {}])
def test_if_no_host_answers_nothing_is_known(results):
    assert watch_summary(results)["failure"].startswith("No host answers, so nothing is known of any run.")


@pytest.mark.parametrize("odd", [None, [], {"h1": 5}])
def test_anything_else_is_refused(odd):
    with pytest.raises(AnsibleFilterError, match=r"^watch_summary: give what kvmops\.cluster\.run_watch returned"):
        watch_summary(odd)
