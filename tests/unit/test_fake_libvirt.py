# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The stand-in must behave as libvirt does, or the tests that use it prove nothing."""

from __future__ import annotations

import threading

import pytest

from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt

URI = "qemu+ssh://root@h2/system"
FLAGS = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)


class Mover(threading.Thread):
    """Moves a guest as a client would, and remembers how it ended."""

    def __init__(self, domain, flags=FLAGS):
        super().__init__(daemon=True)
        self.domain, self.flags, self.error = domain, flags, None
        self.start()

    def run(self):
        try:
            self.domain.migrateToURI3(URI, {}, self.flags)
        except libvirt.libvirtError as error:
            self.error = error


@pytest.fixture
def hosts(cluster):
    return cluster.add_host("h1"), cluster.add_host("h2")


def begin(hosts, flags=FLAGS):
    guest = hosts[0].add_guest("web1")
    connection = libvirt.open("qemu:///system")
    events = []
    for host, uri in ((hosts[0], "qemu:///system"), (hosts[1], URI)):
        watcher = libvirt.open(uri)
        for event in (
            libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE,
            libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION,
            libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED,
        ):
            watcher.domainEventRegisterAny(
                None, event, lambda *args, host=host, event=event: events.append((host.name, event, *args[2:-1])), None
            )
    mover = Mover(connection.lookupByName("web1"), flags)
    return guest, guest.wait_for_job(), mover, events


def test_a_completed_move_leaves_one_persistent_guest_at_the_destination(hosts):
    _guest, job, mover, events = begin(hosts)
    job.step(memory_iteration=1, memory_remaining=1 << 20)
    job.step(memory_iteration=3)
    job.complete(downtime=92)
    mover.join(5)
    assert mover.error is None
    assert hosts[0].guests == {}
    arrived = hosts[1].guest("web1")
    assert arrived.state == (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_MIGRATED)
    assert arrived.persistent
    assert [e for e in events if e[1] != libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED] == [
        ("h2", 0, 2, 1),
        ("h1", 20, 1),
        ("h1", 20, 2),
        ("h1", 20, 3),
        ("h1", 0, 3, 1),
        ("h2", 0, 4, 1),
        ("h1", 0, 5, 3),
    ]
    assert [e[2]["downtime"] for e in events if e[1] == libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED] == [92]


def test_without_the_flags_the_definition_stays_and_none_is_made(hosts):
    _guest, job, mover, _events = begin(hosts, libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER)
    job.complete()
    mover.join(5)
    assert hosts[0].guest("web1").state == (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)
    assert not hosts[1].guest("web1").persistent


def test_an_abort_lets_the_guest_run_on_and_says_so_to_the_caller(hosts):
    guest, _job, mover, events = begin(hosts)
    libvirt.open("qemu:///system").lookupByName("web1").abortJob()
    mover.join(5)
    assert (mover.error.get_error_code(), str(mover.error)) == (
        78,
        "operation aborted: job 'migration out' canceled by client",
    )
    # It was never stopped, so libvirt gives no other reason (seen with 11.3).
    assert guest.state == (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_BOOTED)
    assert hosts[1].guests == {}
    assert not [e for e in events if e[1] == libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED]


def test_a_lost_client_does_not_end_the_move(hosts):
    _guest, job, mover, _events = begin(hosts)
    job.lose_client()
    mover.join(5)
    assert mover.error.get_error_code() == 38
    domain = libvirt.openReadOnly("qemu:///system").lookupByName("web1")
    assert domain.jobStats()["type"] == libvirt.VIR_DOMAIN_JOB_UNBOUNDED
    job.complete()
    assert hosts[1].guest("web1") is not None


def test_postcopy_needs_its_flag_and_a_first_pass_and_can_break_half_way(hosts):
    guest, job, mover, events = begin(hosts, FLAGS | libvirt.VIR_MIGRATE_POSTCOPY)
    domain = libvirt.open("qemu:///system").lookupByName("web1")
    with pytest.raises(libvirt.libvirtError, match="Enable postcopy with migrate_set_capability"):
        domain.migrateStartPostCopy()
    job.step(memory_iteration=1)
    domain.migrateStartPostCopy()
    with pytest.raises(libvirt.libvirtError, match="cannot abort migration in post-copy mode"):
        domain.abortJob()
    job.break_link()
    mover.join(5)
    assert str(mover.error) == "operation failed: job 'migration in' failed in post-copy phase"
    assert guest.state[1] == libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
    assert ("h2", 0, 4, 3) in events


@pytest.mark.parametrize("call", ["abortJob", "suspend", "resume", "destroy", "undefine", "migrateStartPostCopy"])
def test_a_read_only_connection_changes_nothing(hosts, call):
    hosts[0].add_guest("web1")
    domain = libvirt.openReadOnly("qemu:///system").lookupByName("web1")
    with pytest.raises(libvirt.libvirtError, match="operation forbidden: read only access prevents virDomain") as why:
        getattr(domain, call)()
    assert why.value.get_error_code() == 29


def test_what_libvirt_refuses_at_the_start(hosts, cluster):
    h1, h2 = hosts
    guest = h1.add_guest("web1")
    domain = libvirt.open("qemu:///system").lookupByName("web1")
    with pytest.raises(libvirt.libvirtError, match="Attempt to migrate guest to the same host"):
        domain.migrateToURI3("qemu+ssh://root@h1/system", {}, FLAGS)
    with pytest.raises(libvirt.libvirtError, match="Could not resolve hostname h9"):
        domain.migrateToURI3("qemu+ssh://root@h9/system", {}, FLAGS)
    namesake = h2.add_guest("web1")
    with pytest.raises(libvirt.libvirtError, match=f"'web1' already exists with uuid {namesake.uuid}"):
        domain.migrateToURI3(URI, {}, FLAGS)
    guest.snapshots = 2
    with pytest.raises(libvirt.libvirtError, match="cannot migrate domain with 2 snapshots"):
        domain.migrateToURI3(URI, {}, FLAGS)
    assert guest.job is None


def test_events_are_registered_once_for_a_connection(hosts):
    connection = libvirt.open("qemu:///system")
    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, print, None)
    with pytest.raises(libvirt.libvirtError, match="event callback already tracked"):
        connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, print, None)
