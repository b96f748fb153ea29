# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# ruff: noqa: N802, N815 - the names are libvirt's
"""The policies of others as rules, and the driver that follows them."""

from __future__ import annotations

import pytest

from bench.drains import policy_drain, policy_driver
from bench.drains.drain_record import DrainRequest
from bench.drains.policies import FLOOR, GIB, LEAST, POLICIES, nova_steps

WAY = DrainRequest("h1", "h2", guest_cap_s=30.0, cap_s=90.0)
MEMORY = 256 * 1024 * 1024


def followed(name, *sights, memory=MEMORY):
    """What a policy does at each of several looks, as (action, value)."""
    ladders = [list(ladder) for ladder in POLICIES[name].ladders(memory)]
    usual = {"iteration": 0, "elapsed_s": 0.0, "stalled_s": 0.0}
    return [
        [(rule["do"], rule["value"]) for rule in policy_driver.due(ladders, {**usual, **sight})] for sight in sights
    ]


def test_ovirt_raises_the_limit_by_one_step_a_look_then_gives_up():
    told = followed("ovirt-minimal-downtime", *[{"iteration": many} for many in (1, 2, 9, 9, 9, 9, 9, 9)])
    limits = [[("downtime", limit)] for limit in (150, 200, 300, 400, 500)]
    assert told == [[], *limits, [("abort", None)], []]


def test_ovirt_switches_to_postcopy_after_two_steps():
    told = followed("ovirt-post-copy", *[{"iteration": many} for many in (2, 3, 3, 3)])
    assert told == [[("downtime", 150)], [("downtime", 200)], [("post-copy", None)], [("abort", None)]]


def test_nova_goes_by_time_and_by_size():
    assert followed("nova", {"elapsed_s": 1.0}, {"elapsed_s": 100.0}, {"elapsed_s": 151.0}) == [
        [("downtime", 50)],
        [],
        [("downtime", 95)],
    ]
    assert ("abort", None) in followed("nova", {"elapsed_s": 1601.0})[0]
    # twice the size, twice the time
    assert [rule["above"] for rule in nova_steps(4 * GIB)][:3] == [0, 300, 600]
    assert nova_steps(4 * GIB)[-1]["value"] == 500


@pytest.mark.parametrize("sight", [{"elapsed_s": 151.0}, {"stalled_s": 151.0}])
def test_kubevirt_gives_up_after_its_budget_and_without_progress(sight):
    assert followed("kubevirt", {"elapsed_s": 149.0, "stalled_s": 149.0}, sight) == [[], [("abort", None)]]


def test_plain_virsh_never_interferes():
    beyond = {"iteration": 999, "elapsed_s": 9999.0, "stalled_s": 9999.0}
    assert followed("virsh", beyond) == followed("auto-converge", beyond) == [[]]
    assert followed("postcopy", beyond) == [[("post-copy", None)]]


def test_nobody_encrypts_and_all_take_the_definition_along():
    for policy in [*POLICIES.values(), LEAST]:
        told = policy_drain.task(policy, WAY, [("g", MEMORY)], "198.18.0.12")
        assert {"LIVE", "PEER2PEER", "PERSIST_DEST", "UNDEFINE_SOURCE"} <= set(told["flags"])
        assert "TLS" not in told["flags"]
        assert told["uri"] == "qemu+tcp://h2/system"
        assert told["parameters"] == {"migrate_uri": "tcp://198.18.0.12"}
        assert (told["guest_cap_s"], told["cap_s"]) == (30.0, 90.0)


def test_how_many_at_once():
    assert {name: policy.at_once for name, policy in POLICIES.items() if policy.at_once != 1} == {
        "ovirt-minimal-downtime": 2,
        "ovirt-post-copy": 2,
        "kubevirt": 2,
    }
    assert FLOOR not in POLICIES


def test_progress_is_a_new_low():
    lowest = policy_driver.Lowest()
    readings = [(0.0, 100), (1.0, 80), (2.0, 90), (3.0, 80), (4.0, 79), (6.0, 79)]
    assert [lowest.stalled_s(remaining, at) for at, remaining in readings] == [0, 0, 1, 2, 0, 2]


# ---- the driver against a libvirt that answers at once ---------------------------------------------------------------


class LibvirtError(Exception):
    pass


class Libvirt:
    """As much of libvirt as the driver needs: guests that move at once, or that never end until they are aborted."""

    VIR_MIGRATE_LIVE, VIR_MIGRATE_PEER2PEER, VIR_MIGRATE_PERSIST_DEST, VIR_MIGRATE_UNDEFINE_SOURCE = 1, 2, 8, 16
    VIR_DOMAIN_EVENT_ID_JOB_COMPLETED = 22
    libvirtError = LibvirtError

    def __init__(self, endless=()):
        self.domains = {}
        self.endless = set(endless)
        self.calls = []

    def open(self, uri):
        return self

    def lookupByName(self, name):
        if self.domains.setdefault(name, Domain(self, name)) is None:
            raise LibvirtError(f"no domain {name}")
        return self.domains[name]

    def domainEventRegisterAny(self, domain, event, callback, opaque):
        domain.callback = callback


class Domain:
    def __init__(self, libvirt, name):
        self.libvirt, self.name = libvirt, name
        self.aborted = policy_driver.threading.Event()

    def migrateSetMaxDowntime(self, limit, flags):
        self.libvirt.calls.append((self.name, "downtime", limit))

    def migrateToURI3(self, uri, parameters, flags):
        self.libvirt.calls.append((self.name, uri, flags))
        if self.name in self.libvirt.endless:
            self.aborted.wait(10)
            raise LibvirtError("canceled by client")
        self.callback(None, self, {"data_processed": 7, "downtime": 40, "memory_iteration": 3}, None)

    def jobStats(self):
        return {"data_processed": 5, "data_remaining": 9, "memory_iteration": 2}

    def abortJob(self):
        self.aborted.set()


def drive(libvirt, guests, **changes):
    told = policy_drain.task(POLICIES["virsh"], WAY, [(name, MEMORY) for name in guests], "198.18.0.12")
    return policy_driver.run(libvirt, {**told, **changes})


def test_guests_leave_in_order():
    libvirt = Libvirt()
    found = drive(libvirt, ["b", "a"], downtime_ms=30)
    assert libvirt.calls == [
        ("b", "downtime", 30),
        ("b", "qemu+tcp://h2/system", 27),
        ("a", "downtime", 30),
        ("a", "qemu+tcp://h2/system", 27),
    ]
    assert [(one["guest"], one["outcome"], one["bytes"], one["downtime_ms"]) for one in found["guests"]] == [
        ("b", "moved", 7, 40),
        ("a", "moved", 7, 40),
    ]
    assert found["began_ns"] <= found["guests"][0]["began_ns"] <= found["guests"][1]["ended_ns"] <= found["ended_ns"]


def test_what_does_not_end_is_given_up_and_the_next_has_its_turn():
    found = drive(Libvirt(endless=["a"]), ["a", "b"], guest_cap_s=0.3, look_s=0.1)
    (stuck, other) = found["guests"]
    assert (stuck["outcome"], stuck["bytes"], stuck["downtime_ms"]) == ("capped", 5, None)
    assert stuck["error"] == "canceled by client"
    assert other["outcome"] == "moved"


def test_what_its_own_policy_ends_is_told_apart_from_what_a_cap_ends():
    abort = [[{"when": "iteration", "above": 0, "do": "abort", "value": None}]]
    (stuck,) = drive(Libvirt(endless=["a"]), ["a"], look_s=0.1, ladders=abort)["guests"]
    assert stuck["outcome"] == "aborted"
    assert [did["do"] for did in stuck["did"]] == ["abort"]


def test_a_guest_that_is_gone_stops_nobody():
    libvirt = Libvirt()
    libvirt.domains["a"] = None
    found = drive(libvirt, ["a", "b"])
    assert [(one["guest"], one["outcome"]) for one in found["guests"]] == [("a", "failed"), ("b", "moved")]
    assert found["guests"][0]["error"] == "no domain a"


def test_after_the_overall_cap_nothing_is_started():
    assert drive(Libvirt(), ["a", "b"], cap_s=0.0)["guests"] == []
