# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import socket
import sys
import threading
import types

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import Hook
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare import reachability
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.prepare.reachability import Reachability
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import Clock

AGENT, LEASE, ARP = (
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_AGENT,
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_LEASE,
    libvirt.VIR_DOMAIN_INTERFACE_ADDRESSES_SRC_ARP,
)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def check(clock):
    return Reachability(clock, clock.sleep).check


@pytest.fixture
def guest(cluster):
    return cluster.add_host("h1").add_guest("web1", agent=True)


@pytest.fixture
def domain(guest):
    return libvirt.openReadOnly("qemu:///system").lookupByName(guest.name)


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_hook(port, address="127.0.0.1"):
    return Hook((), "after", check="port", port=port, address=address)


def interfaces(*addresses):
    return {
        "vnet0": {"hwaddr": "52:54:00:00:00:01", "addrs": [{"addr": one, "prefix": 24, "type": 0} for one in addresses]}
    }


# --- a port ----------------------------------------------------------------------------------------------------------


def test_a_port_that_listens_is_reached(check, domain, free_port):
    with socket.create_server(("127.0.0.1", free_port)):
        ran = check(port_hook(free_port), domain, 5.0)
    assert (ran.ok, ran.why) == (True, None)


def test_a_port_that_does_not_listen_is_tried_until_the_time_is_over(check, clock, domain, free_port):
    ran = check(port_hook(free_port), domain, 5.0)
    assert (ran.ok, ran.why) == (False, "127.0.0.1: Connection refused")
    assert clock.slept == pytest.approx(5.0, abs=1.0)


def test_a_port_that_listens_a_moment_later_is_reached(check, clock, domain, free_port):
    servers = []
    clock.on_sleep = lambda _clock: servers or servers.append(socket.create_server(("127.0.0.1", free_port)))
    try:
        assert check(port_hook(free_port), domain, 30.0).ok
    finally:
        servers[0].close()


def test_a_name_that_nobody_knows_is_told(check, domain):
    ran = check(port_hook(22, "no-such-guest.invalid"), domain, 0.0)
    assert not ran.ok
    assert ran.why.startswith("no-such-guest.invalid: ")


def test_a_name_that_is_none_is_told(check, domain):
    assert not check(port_hook(22, "x" * 300), domain, 0.0).ok


def test_without_an_address_there_is_nothing_to_check(check, domain):
    ran = check(port_hook(22, None), domain, 0.0)
    assert ran.why == ("no address of the guest is known: state it (address), or install qemu-guest-agent in the guest")


def test_every_address_of_the_guest_is_tried(check, guest, domain, monkeypatch):
    guest.addresses = {AGENT: interfaces("192.0.2.7", "2001:db8::7")}
    tried = []

    def connect(place, timeout):
        tried.append((place, timeout))
        raise OSError(113, "No route to host")

    monkeypatch.setattr(socket, "create_connection", connect)
    ran = check(port_hook(443, None), domain, 0.0)
    assert ran.why == "192.0.2.7: No route to host; 2001:db8::7: No route to host"
    assert [place for place, _timeout in tried] == [("192.0.2.7", 443), ("2001:db8::7", 443)]


# --- addresses -------------------------------------------------------------------------------------------------------


def test_what_leads_to_this_host_is_no_address_of_a_guest(guest, domain):
    guest.addresses = {
        AGENT: interfaces("127.0.0.1", "::1", "fe80::1", "0.0.0.0", "224.0.0.1", "nonsense", "192.0.2.7"),
    }
    assert reachability.guest_addresses(domain) == ["192.0.2.7"]


def test_without_an_agent_the_host_says_where_it_has_seen_the_guest(guest, domain):
    guest.agent = False
    guest.addresses = {LEASE: {}, ARP: interfaces("192.0.2.9")}
    assert reachability.guest_addresses(domain) == ["192.0.2.9"]


def test_an_agent_that_knows_no_address_is_not_the_last_word(guest, domain):
    guest.addresses = {AGENT: interfaces("127.0.0.1"), LEASE: interfaces("192.0.2.8")}
    assert reachability.guest_addresses(domain) == ["192.0.2.8"]


def test_nobody_waits_for_hundreds_of_addresses(guest, domain):
    guest.addresses = {AGENT: interfaces(*[f"192.0.2.{number}" for number in range(1, 200)])}
    assert len(reachability.guest_addresses(domain)) == reachability.MAX_ADDRESSES


def test_an_address_of_this_host_in_another_form_is_none_of_a_guest(guest, domain):
    guest.addresses = {AGENT: interfaces("::ffff:127.0.0.1", "::ffff:169.254.1.1", "::ffff:192.0.2.7")}
    assert reachability.guest_addresses(domain) == ["::ffff:192.0.2.7"]


@pytest.mark.parametrize(
    "told",
    [
        None,
        [],
        "192.0.2.1",
        {"eth0": None},
        {"eth0": ["192.0.2.1"]},
        {"eth0": {"addrs": {"addr": "192.0.2.1"}}},
        {"eth0": {"addrs": ["192.0.2.1", None, {"addr": None}, {"addr": ["192.0.2.1"]}, {"addr": "x" * 100_000}]}},
    ],
)
def test_addresses_of_another_shape_are_none(guest, domain, told):
    guest.addresses = {AGENT: told, LEASE: interfaces("192.0.2.8")}
    assert reachability.guest_addresses(domain) == ["192.0.2.8"]


def test_an_agent_that_lets_a_call_hang_is_not_asked_again(clock, check, guest, domain, monkeypatch):
    asked, over = [], threading.Event()

    def hang(_domain, source, _flags=0):
        asked.append(source)
        if source == AGENT:
            over.wait(10.0)
        return {}

    monkeypatch.setattr(reachability, "ADDRESSES_S", 0.05)
    monkeypatch.setattr(libvirt.Domain, "interfaceAddresses", hang)
    ran = check(port_hook(22, None), domain, 5.0)
    over.set()
    assert ran.why.startswith("no address of the guest is known")
    assert asked.count(AGENT) == 1
    assert asked.count(LEASE) > 1


def test_no_more_calls_hang_than_libvirtd_can_do_without(cluster, monkeypatch):
    over, silent = threading.Event(), set()
    monkeypatch.setattr(reachability, "ADDRESSES_S", 0.05)
    monkeypatch.setattr(
        libvirt.Domain, "interfaceAddresses", lambda _domain, source: source == AGENT and over.wait(10.0)
    )
    host = cluster.add_host("h1")
    for number in range(5):
        host.add_guest(f"web{number}")
        domain = libvirt.openReadOnly("qemu:///system").lookupByName(f"web{number}")
        assert reachability.guest_addresses(domain, silent) == []
    over.set()
    assert len(silent) == reachability.MAX_SILENT


# --- the agent -------------------------------------------------------------------------------------------------------


@pytest.fixture
def pinged(monkeypatch):
    """What the agent was asked; the first ``failures`` times it does not answer."""
    asked = types.SimpleNamespace(commands=[], failures=0)

    def command(_domain, text, _timeout, _flags):
        asked.commands.append(json.loads(text)["execute"])
        if len(asked.commands) <= asked.failures:
            raise libvirt.libvirtError("Guest agent is not responding: QEMU guest agent is not connected", 86)
        return json.dumps({"return": {}})

    monkeypatch.setitem(sys.modules, "libvirt_qemu", types.SimpleNamespace(qemuAgentCommand=command))
    return asked


def test_an_agent_that_answers_is_enough(check, domain, pinged):
    assert check(Hook((), "after", where="guest", check="agent"), domain, 5.0).ok
    assert pinged.commands == ["guest-ping"]


def test_an_agent_is_asked_again(check, domain, pinged):
    pinged.failures = 2
    assert check(Hook((), "after", where="guest", check="agent"), domain, 10.0).ok
    assert pinged.commands == ["guest-ping"] * 3


def test_an_agent_that_never_answers_is_told(check, domain, pinged):
    pinged.failures = 1000
    ran = check(Hook((), "after", where="guest", check="agent"), domain, 4.0)
    assert (ran.ok, ran.why) == (False, "Guest agent is not responding: QEMU guest agent is not connected")


@pytest.mark.parametrize("text", ["", "[]", '{"return": 7}', '{"error": {}}', "[" * 100_000])
def test_an_agent_that_answers_nonsense_cannot_be_reached(check, domain, monkeypatch, text):
    monkeypatch.setitem(sys.modules, "libvirt_qemu", types.SimpleNamespace(qemuAgentCommand=lambda *_arguments: text))
    ran = check(Hook((), "after", where="guest", check="agent"), domain, 2.0)
    assert not ran.ok
    assert ran.why.startswith("the agent does not answer properly: ")
