# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import subprocess

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import child_process, connection
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import as_root, mtu, paths, ports, target
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import (
    Destination,
    PathRequest,
    SourceHost,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.paths import source_host
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.probe import checks_of_path
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt

#: What the source knows of names.
NAMES = {"h1.example.org": "127.0.1.1", "h2.example.org": "10.0.1.12", "h2-migration": "198.18.0.12"}


def look_up(name, port, *, type):  # noqa: A002
    address = NAMES.get(name, name)
    if not address[0].isdigit():
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return [(socket.AF_INET, type, 6, "", (address, port))]


H2 = Destination("h2", "qemu+ssh://root@h2/system", "198.18.0.12")


@pytest.fixture
def hosts(cluster, monkeypatch):
    monkeypatch.setattr(ports, "connect_ports", lambda address, numbers, timeout_s: dict.fromkeys(numbers))
    monkeypatch.setattr(mtu, "mtu_towards", lambda family, address: 1500)
    monkeypatch.setattr(mtu, "arrives", lambda family, address, size: True)
    monkeypatch.setattr(target.socket, "getaddrinfo", look_up)
    monkeypatch.setattr(as_root.os, "geteuid", lambda: 0)
    return cluster.add_host("h1"), cluster.add_host("h2")


@pytest.fixture
def ready(tmp_path):
    """A host's files with encryption switched off in them, so that only what a test is about can fail."""
    return tmp_path


def probe(hosts, root, destination=H2, *, encryption="off", read_only=False):
    with connection.connect("qemu:///system", read_only=True) as local:
        source = source_host(local, check_guests=True)
    request = PathRequest("h1", "qemu:///system", encryption, 10, True, read_only)
    said = list(checks_of_path(request, source, destination, root))
    return paths._path(request, destination, child_process.Ended(said, False, None))


def check(found, name):
    return next(c for c in found["checks"] if c["check"] == name)


def test_a_path_that_works(hosts, ready, cluster):
    hosts[0].add_guest("web1")
    hosts[0].add_guest("web2")
    found = probe(hosts, ready)
    assert found["ok"]
    assert [(c["check"], c["ok"], c["code"]) for c in found["checks"]] == [
        ("connect", True, "connected"),
        ("identity", True, "another_host"),
        ("versions", True, "fit"),
        ("encryption", True, "off"),
        ("ports", True, "reachable"),
        ("cpu", True, "fits"),
        ("mtu", True, "fits"),
    ]
    assert found["guests"] == []
    # Two guests with the same CPU are one question.
    assert len(hosts[1].compared) == 1


def test_check_mode_opens_read_only_connections_only(hosts, ready, cluster):
    hosts[0].add_guest("web1")
    found = probe(hosts, ready, read_only=True)
    assert found["ok"]
    assert check(found, "cpu")["code"] == "not_asked"
    assert {read_only for _uri, read_only in cluster.opened} == {True}
    assert cluster.writes == []


def test_the_same_host(hosts, ready):
    found = probe(hosts, ready, Destination("h9", "qemu+ssh://root@h1/system", None))
    assert not found["ok"]
    failed = check(found, "identity")
    assert failed["code"] == "same_host"
    assert failed["reason"].startswith("qemu+ssh://root@h1/system leads to this host, or to one with the same UUID")
    assert "host_uuid in /etc/libvirt/libvirtd.conf" in failed["remedy"]


@pytest.mark.parametrize(
    ("here", "there", "ok", "code", "reason"),
    [
        ((11003000, 10000002), (8000000, 7002000), False, "libvirt_too_old", "libvirt 8.0 on h2 is known to lose"),
        ((11003000, 10000002), (9000000, 7002000), True, "qemu_older", "QEMU 7.2 on h2 is older than 10.0.2 on h1"),
        ((11003000, 7002000), (9000000, 7002000), True, "libvirt_older", "libvirt 9.0 on h2 is older than 11.3 on h1"),
        ((10000000, 8002000), (9000000, 8002000), True, "libvirt_vmx_features", "libvirt 10.0 adds vmx features"),
        ((9000000, 7002000), (11003000, 10000002), True, "fit", "libvirt 11.3.0, QEMU 10.0.2 on h2"),
    ],
)
def test_versions(hosts, ready, here, there, ok, code, reason):
    for host, versions in zip(hosts, (here, there), strict=True):
        host.libvirt_version, host.qemu_version = versions
    found = check(probe(hosts, ready), "versions")
    assert (found["ok"], found["code"]) == (ok, code)
    assert found["reason"].startswith(reason)


def test_an_unknown_name(hosts, ready):
    found = probe(hosts, ready, Destination("h9", "qemu+ssh://root@h9/system", "198.18.0.19"))
    assert not found["ok"]
    failed = check(found, "connect")
    assert failed["code"] == "name_unknown"
    assert "Could not resolve hostname h9" in failed["reason"]
    assert failed["remedy"] == "make the name resolvable on the source host, or use an address in the URI"


def test_a_connection_in_the_clear(hosts, ready):
    found = probe(hosts, ready, Destination("h2", "qemu+tcp://h2/system", None), encryption="required")
    failed = check(found, "encryption")
    assert (failed["ok"], failed["code"]) == (False, "control_unencrypted")
    assert failed["reason"] == (
        "encryption is required, and what libvirt says to h2 is not kept secret: qemu+tcp neither encrypts nor proves"
        " which host answers"
    )
    assert failed["remedy"] == (
        "use qemu+ssh:// or qemu+tls:// with certificates in kvmops_cluster_connect_uri, or permit encryption: off"
    )


def test_no_certificates(hosts, ready):
    failed = check(probe(hosts, ready, encryption="required"), "encryption")
    assert (failed["ok"], failed["code"]) == (False, "no_certificates")
    assert failed["reason"] == (
        "h1 cannot encrypt a guest's memory: /etc/pki/qemu has no ca-cert.pem and no server-cert.pem"
    )


def test_filtered_ports(hosts, ready, monkeypatch):
    monkeypatch.setattr(ports, "connect_ports", lambda address, numbers, timeout_s: dict.fromkeys(numbers, "no answer"))
    failed = check(probe(hosts, ready), "ports")
    assert failed == {
        "check": "ports",
        "ok": False,
        "code": "ports_filtered",
        "reason": "no answer from 198.18.0.12 port 49215",
        "remedy": "open TCP 49152-49215 from h1 to 198.18.0.12",
    }


@pytest.fixture
def tried(hosts, monkeypatch):
    """Addresses and ports that were tried."""
    found = []
    monkeypatch.setattr(
        ports,
        "connect_ports",
        lambda address, numbers, timeout_s: found.append((address, *numbers)) or dict.fromkeys(numbers),
    )
    return found


URI = "qemu+ssh://root@10.0.1.99/system"


@pytest.mark.parametrize(
    ("address", "incoming", "expected"),
    [
        # Nobody says anything: libvirt sends guests to what the destination calls itself, not to the host of the URI.
        (None, {}, ("10.0.1.12", 49152, 49153, 49215)),
        (None, {"host": "h2-migration"}, ("198.18.0.12", 49152, 49153, 49215)),
        ("198.18.0.12", {"host": "h2.example.org"}, ("198.18.0.12", 49152, 49153, 49215)),
        ("198.18.0.12", {"first_port": 50000, "last_port": 50100}, ("198.18.0.12", 50000, 50001, 50100)),
        ("198.18.0.12", {"first_port": 50000, "last_port": 50000}, ("198.18.0.12", 50000)),
        ("198.18.0.12", {"listen": "0.0.0.0"}, ("198.18.0.12", 49152, 49153, 49215)),
        ("198.18.0.12", {"listen": "198.18.0.12"}, ("198.18.0.12", 49152, 49153, 49215)),
    ],
)
def test_the_name_and_the_ports_that_libvirt_will_use_are_tried(hosts, ready, tried, address, incoming, expected):
    hosts[1].address = "10.0.1.99"
    assert probe(hosts, ready, Destination("h2", URI, address, incoming))["ok"]
    assert tried[-1] == expected


@pytest.mark.parametrize(
    ("address", "incoming", "code", "reason", "remedy"),
    [
        (
            None,
            {"host": "h2.internal"},
            "address_unknown",
            (
                "h2.internal cannot be looked up on h1: Name or service not known; h2 calls itself so, and "
                "libvirt sends "
                "guests there"
            ),
            (
                "set kvmops_cluster_migration_address of h2 to its address on the migration network, or make the name "
                "resolvable on h1"
            ),
        ),
        (
            "h2.internal",
            {},
            "address_unknown",
            "h2.internal cannot be looked up on h1: Name or service not known",
            (
                "set kvmops_cluster_migration_address of h2 to its address on the migration network, or make the name "
                "resolvable on h1"
            ),
        ),
        (
            None,
            {"host": "h1.example.org"},
            "address_is_local",
            "h1.example.org means h1 itself on h1, and libvirt would send guests for h2 there",
            (
                "set kvmops_cluster_migration_address of h2 to its address on the migration network, or correct "
                "the name of "
                "h2 (hostnamectl, /etc/hosts)"
            ),
        ),
        (
            "198.18.0.12",
            {"listen": "10.0.1.12"},
            "address_not_listened_on",
            (
                "h2 takes guests on 10.0.1.12 only (migration_address in its qemu.conf), but they are sent to "
                "198.18.0.12 "
                "(198.18.0.12)"
            ),
            "set kvmops_cluster_migration_address of h2 to 10.0.1.12, or change its qemu.conf",
        ),
    ],
)
def test_a_name_that_does_not_lead_to_the_destination(hosts, ready, address, incoming, code, reason, remedy):
    hosts[1].address = "10.0.1.99"
    failed = check(probe(hosts, ready, Destination("h2", URI, address, incoming)), "ports")
    assert (failed["ok"], failed["code"], failed["reason"], failed["remedy"]) == (False, code, reason, remedy)


LARGE_IS_LOST = (
    "packets of 9000 bytes from h1 do not reach 198.18.0.12, but small ones do: a migration would stand still"
)


@pytest.mark.parametrize(
    ("here", "there", "largest", "expected"),
    [
        (1500, 1500, 1500, (True, "fits", "packets of 1500 bytes get through in one piece")),
        (1500, None, 1500, (True, "fits", "packets of 1500 bytes get through in one piece")),
        (9000, 9000, 1500, (False, "mtu", LARGE_IS_LOST)),
        # TCP may have agreed on smaller ones: no reason to stop.
        (9000, None, 1500, (True, "mtu", LARGE_IS_LOST)),
        (
            9000,
            1500,
            1500,
            (True, "mtu_differs", "the migration network has an MTU of 9000 on h1 and 1500 on h2"),
        ),
        (
            1500,
            1500,
            0,
            (True, "no_answer", "198.18.0.12 does not answer to ICMP, so large packets were not tried"),
        ),
        (None, 1500, 1500, (True, "not_tried", "the route to 198.18.0.12 is not known")),
    ],
)
def test_the_mtu_of_the_migration_network(hosts, ready, monkeypatch, here, there, largest, expected):
    monkeypatch.setattr(mtu, "mtu_towards", lambda family, address: here)
    monkeypatch.setattr(mtu, "arrives", lambda family, address, size: size <= largest)
    found = check(probe(hosts, ready, H2._replace(mtu=there)), "mtu")
    assert (found["ok"], found["code"], found["reason"]) == expected


@pytest.mark.parametrize(
    "state",
    [
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_MIGRATION),
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY),
        # Its QEMU may be waiting to be resumed, and would take whoever connects for its source.
        (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED),
    ],
)
def test_a_guest_that_comes_in_there_is_not_disturbed(hosts, ready, monkeypatch, state):
    tried = []
    monkeypatch.setattr(
        ports, "connect_ports", lambda address, numbers, timeout_s: tried.extend(numbers) or dict.fromkeys(numbers)
    )
    hosts[1].add_guest("coming", state=state)
    probe(hosts, ready)
    assert set(tried) == {49215}


def test_a_cpu_that_the_destination_cannot_be_stands_against_that_guest_only(hosts, ready):
    hosts[0].add_guest("fine")
    xml = libvirt.domain_xml("odd name", "4dea22b3-1d52-d8f3-2516-782e98ab3fa0").replace("qemu64", "Skylake-Server")
    hosts[0].add_guest("odd name", uuid="4dea22b3-1d52-d8f3-2516-782e98ab3fa0", xml=xml)
    hosts[1].incompatible_cpus["Skylake-Server"] = "Host CPU does not provide required features: avx512f"
    found = probe(hosts, ready)
    assert found["ok"]
    assert check(found, "cpu")["code"] == "some_refused"
    (refused,) = found["guests"]
    assert refused["name"] == "odd name"
    (why,) = refused["refusals"]
    assert why["code"] == "cpu"
    assert why["reason"] == (
        "h2 cannot provide the CPU of this guest: the CPU is incompatible with host CPU: Host CPU does not provide "
        "required features: avx512f"
    )


def test_a_destination_that_breaks_off(hosts, ready, monkeypatch):
    def broken(self):
        raise libvirt.libvirtError("internal error: client socket is closed", 1)

    monkeypatch.setattr(libvirt.Connection, "getLibVersion", broken)
    with pytest.raises(libvirt.libvirtError):
        probe(hosts, ready)
    source = SourceHost("u", (9, 0, 0), (7, 2, 0), [])
    request = PathRequest("h1", "qemu:///system", "off", 10, True, False)
    said = list(checks_of_path(request, source, H2, ready))
    failed = check(paths._path(request, H2, child_process.Ended(said, False, None)), "connect")
    assert (failed["ok"], failed["code"]) == (False, "connection_lost")


def by_a_user(monkeypatch, *, status, stderr):
    """The checks are made by a user who is not root, and this is what sudo or root's virsh says."""
    asked = []

    def run(words, **_options):
        asked.append(words)
        return subprocess.CompletedProcess(words, status, "", stderr)

    monkeypatch.setattr(as_root.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(as_root.subprocess, "run", run)
    return asked


def test_a_user_has_root_try_the_connection_that_libvirtd_will_open(hosts, ready, monkeypatch):
    asked = by_a_user(monkeypatch, status=0, stderr="")
    found = probe(hosts, ready)
    assert check(found, "connect")["code"] == "connected"
    assert asked == [["sudo", "-n", "/usr/bin/virsh", "-r", "-c", "qemu+ssh://root@h2/system", "version"]]


def test_a_destination_that_answers_the_user_and_not_root_is_no_path(hosts, ready, monkeypatch):
    by_a_user(
        monkeypatch,
        status=1,
        stderr="error: failed to connect to the hypervisor\nerror: Cannot recv data: Host key verification failed.",
    )
    failed = check(probe(hosts, ready), "connect")
    assert not failed["ok"]
    assert failed["code"] == "host_key"
    assert failed["reason"] == (
        "no connection to qemu+ssh://root@h2/system: failed to connect to the hypervisor error: Cannot recv data: "
        "Host key verification failed."
    )


def test_where_sudo_does_not_permit_it_the_path_counts_and_says_what_was_not_tried(hosts, ready, monkeypatch):
    by_a_user(monkeypatch, status=1, stderr="sudo: a password is required")
    told = check(probe(hosts, ready), "connect")
    assert told["ok"]
    assert told["reason"] == (
        "qemu+ssh://root@h2/system answers this user; whether it answers root of h1, as which libvirtd connects, was "
        "not tried: sudo: a password is required"
    )
    assert told["remedy"] == (
        "run kvmops.cluster.secure_hosts, which permits it, or try it as root: virsh -r -c qemu+ssh://root@h2/system "
        "version"
    )
