# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.whereabouts import (
    Evidence,
    release_refusal,
    start_refusal,
)

UUID = "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"
CAPSULE = {"guest": {"name": "db1", "uuid": UUID}, "number": 7, "made_on": "h1"}
DIGEST = "sha256:" + "7" * 64
STOPPED = {"guest": {"name": "db1", "uuid": UUID}, "host": "h1", "number": 7, "digest": DIGEST}


def seen(host, state=None, **more):
    domains = [{"uuid": UUID, "name": "db1", "state": state, **more}] if state else []
    return {"host": host, "domains": domains}


@pytest.mark.parametrize(
    ("evidence", "code"),
    [
        (Evidence(), "may_run_elsewhere"),
        (Evidence(stopped=STOPPED), None),
        (Evidence(stopped={**STOPPED, "digest": "sha256:" + "8" * 64, "number": 8}), "stopped_other_capsule"),
        (Evidence(stopped={**STOPPED, "guest": {"uuid": "another"}}), "may_run_elsewhere"),
        (Evidence(stopped={}), "may_run_elsewhere"),
        (Evidence(source_is_off=True), None),
        (Evidence(snapshots=[seen("h1")]), None),
        (Evidence(snapshots=[seen("h1", "shutoff")]), None),
        (Evidence(snapshots=[seen("h1", "shutoff", autostart=True)]), "may_start_elsewhere"),
        (Evidence(snapshots=[seen("h2")]), "may_run_elsewhere"),
        (Evidence(snapshots=[seen("h1", "running")]), "runs_elsewhere"),
        (Evidence(snapshots=[seen("h1", "paused")]), "runs_elsewhere"),
        (Evidence(snapshots=[seen("h1", "crashed")]), "runs_elsewhere"),
        # What a host shows counts more than any word.
        (Evidence(stopped=STOPPED, snapshots=[seen("h2", "running")]), "runs_elsewhere"),
        (Evidence(source_is_off=True, snapshots=[seen("h2", "running")]), "runs_elsewhere"),
        # Its own libvirtd is asked directly.
        (Evidence(stopped=STOPPED, snapshots=[seen("h3", "running")]), None),
    ],
)
def test_a_guest_is_started_only_where_nothing_else_may_run_it(evidence, code):
    found = start_refusal(CAPSULE, DIGEST, "h3", evidence)
    assert (found or {}).get("code") == code


def test_the_host_that_made_the_capsule_knows_itself():
    assert start_refusal(CAPSULE, DIGEST, "h1", Evidence()) is None


def test_the_refusal_says_what_to_give():
    found = start_refusal(CAPSULE, DIGEST, "h3", Evidence())
    assert found["reason"] == "nothing says that db1 is off on h1, where capsule 7 was made"
    assert found["remedy"] == (
        "give stopped of the result of capsule_save with then: stop, or snapshots with that of h1 (cluster_view);"
        " if that site is lost, source_is_off: true"
    )


STARTED = {"guest": {"uuid": UUID}, "host": "h3", "state": "running", "digest": DIGEST}


@pytest.mark.parametrize(
    ("started", "snapshots", "kept"),
    [
        (None, [], True),
        (STARTED, [], False),
        ({**STARTED, "state": "off"}, [], True),
        ({**STARTED, "host": "h1"}, [], True),
        ({**STARTED, "host": None}, [], True),
        ({**STARTED, "digest": "sha256:" + "8" * 64}, [], True),
        ({**STARTED, "guest": {"uuid": "another"}}, [], True),
        ({}, [], True),
        (None, [seen("h3", "running")], False),
        (None, [seen("h3", "shutoff")], True),
        (None, [seen("h1", "running")], True),
    ],
)
def test_a_host_keeps_a_guest_until_it_provably_runs_elsewhere(started, snapshots, kept):
    found = release_refusal(CAPSULE["guest"], "h1", DIGEST, started, snapshots)
    assert (found is not None) is kept
