# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who looks for guests that have died is told which hosts say nothing of them."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.tests.unit.builders import snapshot

from .conftest import part

VIEW = {"snapshots": {"a": snapshot("a")}, "absent": []}


def test_a_host_that_does_not_tell_which_guests_it_had_is_named(hosts):
    since = {"a": "2026-11-24T02:00:00Z", "gone": "2026-11-24T02:00:00Z", "b": ""}
    look = part("run", "missing", __run_missing_since=since, __run_view=VIEW, __run_dismissed=[])
    found = {"name": "Found", "ansible.builtin.debug": {"msg": "there are {{ __run_missing | length }}"}}

    outcome = hosts.play(look, found, hosts="c")

    assert outcome.status == 0, outcome.text
    assert "gone does not tell which guests it had when it was closed" in outcome.words, outcome.text
    assert "a does not tell" not in outcome.words
    assert "b does not tell" not in outcome.words
    assert "there are 0" in outcome.words


def test_nothing_is_said_where_every_host_tells(hosts):
    look = part(
        "run", "missing", __run_missing_since={"a": "2026-11-24T02:00:00Z"}, __run_view=VIEW, __run_dismissed=[]
    )

    outcome = hosts.play(look, hosts="c")

    assert outcome.status == 0, outcome.text
    assert "does not tell" not in outcome.words, outcome.text
