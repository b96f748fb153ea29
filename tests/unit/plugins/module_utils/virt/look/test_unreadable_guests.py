# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest whose definition cannot be read, seen by those who look at all guests of a host for another one's sake."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run.maintenance import RecordError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import cordon
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import destination, image_users
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths import paths
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit import hostile


@pytest.fixture(params=["billion laughs", "no XML"])
def host(cluster, request, monkeypatch):
    def described(domain, flags=0):
        return hostile.NO_DEFINITIONS[request.param] if domain.name() == "odd" else domain.guest().xml

    monkeypatch.setattr(libvirt.Domain, "XMLDesc", described)
    h1 = cluster.add_host("h1")
    h1.add_guest("odd")
    h1.add_guest("web1", disk="/images/web1.qcow2")
    return h1


def test_no_image_is_called_unused(host):
    connection = libvirt.open("qemu:///system")
    assert image_users.unused(connection, ["/images/other.qcow2"]) == frozenset()
    del host.guests[next(uuid for uuid, guest in host.guests.items() if guest.name == "odd")]
    assert image_users.unused(connection, ["/images/other.qcow2"]) == {"/images/other.qcow2"}


def test_the_others_are_described(host):
    connection = libvirt.open("qemu:///system")
    assert len(destination._numbers(connection)) == 1
    assert [guest["name"] for guest in paths.source_host(connection, check_guests=True).guests] == ["web1"]


def test_a_record_in_a_broken_secret_counts_as_cordoned(monkeypatch, cluster):
    cluster.add_host("h1")
    connection = libvirt.open("qemu:///system")
    cordon.publish(connection, {"schema": "kvmops.maintenance/1", "state": "cordoned"})
    monkeypatch.setattr(libvirt.Secret, "XMLDesc", lambda secret, flags=0: "<!DOCTYPE x []><x/>")
    with pytest.raises(RecordError, match="the host counts as cordoned"):
        cordon.read(connection)
