# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import guest_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.state_names import reason_word, state_word
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import URI

HERE, THERE = Endpoint("h1", "qemu:///system"), Endpoint("h2", URI)
LEFT_PAUSED = (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION)


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("VIR_DOMAIN_RUNNING", "VIR_DOMAIN_RUNNING_BOOTED", ("running", "booted")),
        ("VIR_DOMAIN_RUNNING", "VIR_DOMAIN_RUNNING_MIGRATION_CANCELED", ("running", "migration_canceled")),
        ("VIR_DOMAIN_RUNNING", "VIR_DOMAIN_RUNNING_POSTCOPY_FAILED", ("running", "postcopy_failed")),
        ("VIR_DOMAIN_BLOCKED", None, ("running", "unknown")),
        ("VIR_DOMAIN_PAUSED", "VIR_DOMAIN_PAUSED_MIGRATION", ("paused", "migration")),
        ("VIR_DOMAIN_PAUSED", "VIR_DOMAIN_PAUSED_STARTING_UP", ("paused", "starting_up")),
        ("VIR_DOMAIN_PAUSED", "VIR_DOMAIN_PAUSED_POSTCOPY_FAILED", ("paused", "postcopy_failed")),
        ("VIR_DOMAIN_SHUTOFF", "VIR_DOMAIN_SHUTOFF_MIGRATED", ("shutoff", "migrated")),
        ("VIR_DOMAIN_CRASHED", None, ("crashed", "unknown")),
    ],
)
def test_states_and_reasons_in_words(state, reason, words):
    number = getattr(libvirt, state)
    assert (state_word(number), reason_word(number, getattr(libvirt, reason) if reason else 0)) == words


def test_a_state_of_a_newer_libvirt_is_no_state_that_means_something():
    assert state_word(99) == "state_99"
    assert reason_word(99, 1) == "reason_1"
    assert reason_word(libvirt.VIR_DOMAIN_RUNNING, 77) == "reason_77"


def seen(cluster, name="web1"):
    connection = libvirt.openReadOnly("qemu:///system")
    guest = cluster.hosts["h1"].guest(name)
    return guest_state.ask(connection, "h1", guest.uuid if guest else "00000000-0000-0000-0000-000000000000")


def test_the_state_of_a_guest(cluster):
    host = cluster.add_host("h1")
    assert (seen(cluster).state, seen(cluster).reachable) == ("absent", True)
    host.add_guest("web1")
    side = seen(cluster)
    assert (side.state, side.state_reason, side.persistent, side.migrating) == ("running", "booted", True, False)


def test_the_state_of_a_guest_that_comes_and_one_that_goes(cluster):
    h1, h2 = cluster.add_host("h1"), cluster.add_host("h2")
    guest = h1.add_guest("web1")
    job = libvirt.Job(guest, h2, {}, 0)
    guest.job = job
    assert seen(cluster).migrating
    assert guest_state.ask(libvirt.openReadOnly(URI), "h2", guest.uuid).migrating


@pytest.mark.parametrize(
    "operation", [libvirt.VIR_DOMAIN_JOB_OPERATION_SNAPSHOT, libvirt.VIR_DOMAIN_JOB_OPERATION_DUMP]
)
def test_another_job_is_no_migration(cluster, operation):
    h1, h2 = cluster.add_host("h1"), cluster.add_host("h2")
    guest = h1.add_guest("web1")
    guest.job = libvirt.Job(guest, h2, {}, 0)
    guest.job.stats["operation"] = operation
    assert not seen(cluster).migrating


def test_a_daemon_that_does_not_answer_is_not_one_without_the_guest(cluster):
    host = cluster.add_host("h1")
    host.add_guest("web1")
    connection = libvirt.openReadOnly("qemu:///system")
    host.stop_daemon()
    side = guest_state.ask(connection, "h1", host.guest("web1").uuid)
    assert (side.reachable, side.error) == (False, "internal error: client socket is closed")


class Settled:
    """await_agreement() on a clock of its own, with what happens at each look."""

    def __init__(self, rig, guest, *, events=(), watching=None, **named):
        self.looks, self._events = 0, dict(events)
        self.now = 0.0
        self.verdict, self.here, self.there = guest_state.await_agreement(
            rig.connections,
            "web1",
            guest.uuid,
            (HERE, THERE),
            clock=lambda: self.now,
            sleep=self._sleep,
            **({"watching": watching} if watching else {}),
            **named,
        )

    def _sleep(self, seconds):
        self.looks += 1
        self.now += seconds
        for at in [at for at in self._events if self.now >= at]:
            self._events.pop(at)()


def test_agreement_is_not_waited_for(rig):
    settled = Settled(rig, rig.h1.add_guest("web1"))
    assert (settled.verdict.kind, settled.looks) == ("stayed", 0)


def test_a_host_that_comes_back_in_time_is_believed(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    rig.h2.stop_daemon()
    settled = Settled(rig, guest, events={30.0: rig.h2.start_daemon})
    assert settled.verdict.kind == "resume_source"
    # It must have been so for a while, counted from when both could be seen.
    assert 33.0 <= settled.now < 35.0


def test_the_wait_ends(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    rig.h2.stop_daemon()
    settled = Settled(rig, guest)
    assert settled.verdict.kind == "unclear"
    assert guest_state.AGREEMENT_TIMEOUT_S <= settled.now <= guest_state.AGREEMENT_TIMEOUT_S + 1


def test_a_guest_that_shows_up_there_while_it_is_waited_is_not_resumed(rig):
    guest = rig.h1.add_guest("web1", state=LEFT_PAUSED)
    settled = Settled(rig, guest, events={2.0: lambda: rig.h2.add_guest("web1", uuid=guest.uuid)})
    assert settled.verdict.kind == "unclear"


@pytest.mark.parametrize("awaited", [True, False])
def test_a_move_in_flight_is_awaited_as_long_as_somebody_wants_that(rig, awaited):
    guest = rig.h1.add_guest("web1")
    guest.job = libvirt.Job(guest, rig.h2, {}, 0)
    seen = []

    def watching(here, there):
        seen.append((here.host, there.host))
        return awaited

    settled = Settled(rig, guest, events={500.0: guest.job.complete}, watching=watching)
    assert settled.verdict.kind == ("moved" if awaited else "in_flight")
    assert (settled.now >= 500.0) == awaited
    assert set(seen) == {("h1", "h2")}


def test_a_guest_that_comes_in_without_a_source_is_not_awaited_for_ever(rig):
    guest = rig.h2.add_guest("web1", state=LEFT_PAUSED)
    settled = Settled(rig, guest, watching=lambda _here, _there: True)
    assert (settled.verdict.kind, settled.now <= guest_state.AGREEMENT_TIMEOUT_S + 1) == ("in_flight", True)
