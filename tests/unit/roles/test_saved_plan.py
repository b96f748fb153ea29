# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan that was saved is looked for where Ansible was started, and says by itself which hosts it is for."""

from __future__ import annotations

import json

import pytest

from .conftest import part

PLAN = {
    "schema": "kvmops.plan/1",
    "id": "evacuate-rack",
    "goal": {"kind": "evacuate", "hosts": ["a", "b", "c"]},
    "intent": {},
    "created_at": "2026-11-24T02:00:00Z",
    "snapshots": {},
    "hosts": {},
    "steps": [],
    "stays": [],
    "off": [],
    "expected": {"seconds": 0, "bytes": 0, "fits_window": None},
}
DRAIN = {**PLAN, "goal": {"kind": "drain", "hosts": ["a"]}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        # It goes on to the next question, with the hosts of the plan.
        (json.dumps(PLAN), "There is no other host to move the guests of a, b, c to."),
        (None, "The plan plans/rack.json cannot be read: No such file or directory."),
        ("hosts: [a]", "The plan plans/rack.json cannot be used: the plan is not JSON"),
        (json.dumps(DRAIN), "it is for the drain of a, not for the evacuation: give"),
    ],
    ids=["read", "missing", "not JSON", "for another goal"],
)
def test_the_hosts_to_evacuate_are_those_of_the_plan(hosts, text, told):
    (hosts.folder / "plans").mkdir()
    if text is not None:
        (hosts.folder / "plans/rack.json").write_text(text, encoding="utf-8")

    outcome = hosts.play(part("evacuate", "main"), evacuate_plan="plans/rack.json")

    assert outcome.status == 2, outcome.text
    assert told in outcome.words, outcome.text


def test_without_a_plan_and_without_hosts_nobody_is_evacuated(hosts):
    outcome = hosts.play(part("evacuate", "main"))

    assert outcome.status == 2, outcome.text
    assert "Say which hosts to empty: -l PATTERN, or -e evacuate_hosts=PATTERN." in outcome.words, outcome.text
