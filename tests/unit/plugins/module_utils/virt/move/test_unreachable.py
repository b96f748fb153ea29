# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests that run at their destination and cannot be reached there: the first one shows it, and not all of them."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import hooks
from ansible_collections.kvmops.cluster.plugins.module_utils.run.executor import Executor
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.preparation import PreparationOptions
from ansible_collections.kvmops.cluster.tests.unit.movers import MIB, rounds


class Silent:
    """A journal and a display that keep nothing."""

    def write(self, *_arguments, **_data):
        pass


@pytest.fixture
def drain(rig):
    def run(**hook):
        guests = [rig.h1.add_guest(f"web{number}") for number in range(4)]
        stated = {"command": ["/bin/false", "can-the-guest-reach-its-gateway"], "when": "after", **hook}
        rig.use(preparation=PreparationOptions(hooks=hooks.normalise([stated])))
        rig.cluster.on_migrate = lambda job: (rounds(job, 300 * MIB, 3 * MIB), job.complete())
        executor = Executor(rig.mover, Silent(), Silent(), window=1, stopping=threading.Event())
        return executor.run([rig.step(guest) for guest in guests])

    return run


REASON = "/bin/false failed after the move, on h1: it ended with status 1"


def test_after_the_first_that_cannot_be_reached_none_is_sent_there(drain, rig):
    first, *others = drain()
    assert (first["outcome"], [fault["reason"] for fault in first["faults"]]) == ("moved", [REASON])
    assert first["error"] == (
        f"it has moved, but {REASON}: see whether web0 can be reached on h2; this run sends no further guest there from"
        " here"
    )
    assert [other["outcome"] for other in others] == ["refused"] * 3
    assert {other["refusals"][0]["code"] for other in others} == {"destination_stopped"}
    assert sorted(guest.name for guest in rig.h1.guests.values()) == ["web1", "web2", "web3"]


def test_a_failure_that_stops_nobody_is_in_every_result(drain):
    results = drain(on_failure="go_on")
    assert [result["outcome"] for result in results] == ["moved"] * 4
    assert [[fault["code"] for fault in result["faults"]] for result in results] == [["hook_failed"]] * 4
