# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import time

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import as_root, mtu, paths, ports, target
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import Destination
from ansible_collections.kvmops.cluster.plugins.modules import migration_path_info
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt

H2 = Destination("h2", "qemu+ssh://root@h2/system", "198.18.0.12")


def unknown_name(*_arguments, **_options):
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def hosts(cluster, monkeypatch):
    monkeypatch.setattr(ports, "connect_ports", lambda address, numbers, timeout_s: dict.fromkeys(numbers))
    monkeypatch.setattr(mtu, "arrives", lambda family, address, size: True)
    monkeypatch.setattr(as_root.os, "geteuid", lambda: 0)
    # Nobody asks a name server of the machine that runs the tests.
    monkeypatch.setattr(target.socket, "getaddrinfo", unknown_name)
    return cluster.add_host("h1"), cluster.add_host("h2")


def check(found, name):
    return next(c for c in found["checks"] if c["check"] == name)


def test_a_destination_that_never_answers_is_told_after_its_time(run_module, hosts, monkeypatch):
    monkeypatch.setattr(paths, "GRACE_S", 0.0)
    whole = libvirt.Cluster.resolve

    def resolve(self, uri):
        if "h2" in uri:
            time.sleep(60)
        return whole(self, uri)

    monkeypatch.setattr(libvirt.Cluster, "resolve", resolve)
    started = time.monotonic()
    result = run_module(
        migration_path_info,
        name="h1",
        timeout_s=0.5,
        encryption="off",
        destinations=[{"name": "h2", "uri": H2.uri}, {"name": "self", "uri": "qemu+ssh://root@h1/system"}],
    )
    # Well before the call that never answers comes back.
    assert time.monotonic() - started < 50
    hung, itself = result["paths"]
    assert not hung["ok"]
    failed = check(hung, "connect")
    assert failed["code"] == "timeout"
    assert failed["reason"] == "qemu+ssh://root@h2/system does not answer within 0.5 s"
    assert "virsh -c qemu+ssh://root@h2/system version" in failed["remedy"]
    # What could be told without it was told, and the other destination was not held up.
    assert check(hung, "encryption")["ok"]
    assert check(itself, "identity")["code"] == "same_host"
