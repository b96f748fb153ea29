# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import threading

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection_pool
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection import VirtError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.events import EventStream
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import until

LOCAL, REMOTE = "qemu:///system", "qemu+ssh://root@h2/system"


@pytest.fixture
def hosts(cluster):
    return cluster.add_host("h1"), cluster.add_host("h2")


@pytest.mark.parametrize("read_only", [False, True])
def test_each_host_is_opened_once(hosts, cluster, read_only):
    with Connections(read_only=read_only) as connection_pool:
        assert connection_pool.get(LOCAL) is connection_pool.get(LOCAL)
        connection_pool.get(REMOTE)
    assert cluster.opened == [(LOCAL, read_only), (REMOTE, read_only)]


def test_a_dead_connection_is_made_again_once_the_daemon_is_back(hosts):
    with Connections(read_only=True) as connection_pool:
        first = connection_pool.get(REMOTE)
        hosts[1].stop_daemon()
        with pytest.raises(VirtError) as why:
            connection_pool.get(REMOTE)
        assert why.value.refusal["code"] == "no_daemon"
        hosts[1].start_daemon()
        assert connection_pool.get(REMOTE) is not first
        assert first.connection.closed


def test_a_connection_that_cannot_say_whether_it_lives_does_not(hosts, monkeypatch):
    with Connections(read_only=True) as connection_pool:
        first = connection_pool.get(REMOTE)

        def fail():
            raise libvirt.libvirtError("invalid connection pointer in virConnectIsAlive", 6)

        monkeypatch.setattr(first.connection, "isAlive", fail)
        assert connection_pool.get(REMOTE) is not first


def test_all_are_closed_at_the_end_also_those_that_died(hosts):
    with Connections(read_only=True) as connection_pool:
        links = [connection_pool.get(LOCAL), connection_pool.get(REMOTE)]
        hosts[1].stop_daemon()
    assert [link.connection.closed for link in links] == [True, True]
    assert hosts[0].callbacks == {}


def test_a_connection_without_events_is_closed_again(hosts, monkeypatch):
    def refuse(_connection, *_arguments):
        raise libvirt.libvirtError("this function is not supported by the connection driver", 3)

    monkeypatch.setattr(libvirt.Connection, "domainEventRegisterAny", refuse)
    with Connections(read_only=True) as connection_pool, pytest.raises(VirtError, match="not supported"):
        connection_pool.get(REMOTE)
    assert [connection.closed for connection in hosts[1].connections] == [True]


def test_a_slow_host_holds_up_only_those_who_want_it(hosts, monkeypatch):
    gate, waiting = threading.Event(), threading.Event()
    opened = libvirt.openReadOnly

    def slow(uri):
        if uri == REMOTE:
            waiting.set()
            assert gate.wait(5)
        return opened(uri)

    monkeypatch.setattr(libvirt, "openReadOnly", slow)
    with Connections(read_only=True) as connection_pool:
        thread = threading.Thread(target=connection_pool.get, args=(REMOTE,), daemon=True)
        thread.start()
        assert waiting.wait(5)
        assert connection_pool.get(LOCAL)
        gate.set()
        thread.join(5)


@pytest.fixture
def hangs(hosts, monkeypatch):
    """The destination's daemon takes connections and says nothing, until this is set."""
    monkeypatch.setattr(connection_pool, "OPEN_S", 0.05)
    answers, opened = threading.Event(), libvirt.openReadOnly

    def wait(uri):
        if uri == REMOTE:
            answers.wait(60)
        return opened(uri)

    monkeypatch.setattr(libvirt, "openReadOnly", wait)
    yield answers
    answers.set()


def test_a_daemon_that_hangs_is_told_and_not_waited_for(hosts, hangs, monkeypatch):
    with Connections(read_only=True) as kept:
        with pytest.raises(VirtError) as why:
            kept.get(REMOTE)
        assert why.value.refusal["code"] == "no_answer"
        assert why.value.refusal["reason"] == "qemu+ssh://root@h2/system does not answer within 0.05 s"
        monkeypatch.setattr(connection_pool, "OPEN_S", 60.0)
        assert kept.get(LOCAL)
        hangs.set()
        assert kept.get(REMOTE)


def test_a_connection_that_comes_too_late_is_closed(hosts, hangs):
    with Connections(read_only=True) as kept:
        with pytest.raises(VirtError):
            kept.get(REMOTE)
        hangs.set()
        until(lambda: [one.closed for one in hosts[1].connections] == [True])


def test_a_connection_that_cannot_be_closed_holds_nobody_up(hosts, monkeypatch):
    monkeypatch.setattr(connection_pool, "CLOSE_S", 0.05)
    closed = threading.Event()
    with Connections(read_only=True) as kept:
        monkeypatch.setattr(kept.get(REMOTE), "close", lambda: closed.wait(60))
        kept.close()
    closed.set()


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_go_to_those_who_listen_for_that_guest(hosts):
    web1, web2 = hosts[0].add_guest("web1"), hosts[0].add_guest("web2")
    now = [1.5]
    stream = EventStream(libvirt.openReadOnly(LOCAL), clock=lambda: now[0])
    first, second, both = [], [], []
    stream.listen(web1.uuid, first.append)
    stream.listen(web1.uuid, both.append)
    stream.listen(web2.uuid, second.append)
    stream.listen(web2.uuid, both.append)
    hosts[0].lifecycle(web1, libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY)
    hosts[0].emit(libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, web2, 7)
    hosts[0].emit(libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, web2, {"downtime": 92})
    assert [(event.at, event.kind, event.event, event.detail) for event in first] == [(1.5, "lifecycle", 3, 7)]
    assert [(event.kind, event.event, event.statistics) for event in second] == [
        ("iteration", 7, {}),
        ("completed", 0, {"downtime": 92}),
    ]
    assert len(both) == 3


def test_who_has_stopped_listening_hears_nothing(hosts):
    guest = hosts[0].add_guest("web1")
    stream = EventStream(libvirt.openReadOnly(LOCAL))
    heard = []
    stream.listen(guest.uuid, heard.append)
    stream.forget(guest.uuid, heard.append)
    stream.forget(guest.uuid, heard.append)
    stream.forget("unknown", heard.append)
    hosts[0].lifecycle(guest, libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    assert heard == []


def test_a_stream_that_was_closed_is_registered_no_more(hosts):
    connection = libvirt.openReadOnly(LOCAL)
    EventStream(connection).close()
    assert hosts[0].callbacks == {}
    EventStream(connection)
    assert len(hosts[0].callbacks) == 3
