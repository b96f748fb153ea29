# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.definitions import define_only_at_destination
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt as libvirt
from ansible_collections.kvmops.cluster.tests.unit.movers import URI

HERE, THERE = Endpoint("h1", "qemu:///system"), Endpoint("h2", URI)


def define(rig, guest, definition="<domain/>"):
    return define_only_at_destination(rig.connections, HERE, THERE, guest.uuid, definition)


OFF = (libvirt.VIR_DOMAIN_SHUTOFF, libvirt.VIR_DOMAIN_SHUTOFF_MIGRATED)


def test_a_definition_goes_where_the_guest_is(rig):
    guest = rig.h1.add_guest("web1", state=OFF)
    rig.h2.add_guest("web1", uuid=guest.uuid, persistent=False)
    assert define(rig, guest, guest.xml) == ["defined it on h2", "removed its definition on h1"]
    assert rig.h2.guest("web1").persistent
    assert rig.h1.guests == {}


def test_a_transient_guest_gets_no_definition(rig):
    guest = rig.h2.add_guest("web1", persistent=False)
    assert define(rig, guest, None) == []
    assert rig.cluster.writes == []


def test_a_definition_with_a_guest_behind_it_is_never_removed(rig):
    guest = rig.h1.add_guest("web1")
    rig.h2.add_guest("web1", uuid=guest.uuid)
    assert define(rig, guest, guest.xml) == []
    assert rig.h1.guest("web1").persistent
    assert rig.cluster.writes == []


def test_a_guest_that_does_not_run_there_is_not_defined_there(rig):
    guest = rig.h2.add_guest("web1", state=OFF, persistent=False)
    assert define(rig, guest, guest.xml) == []
    assert rig.cluster.writes == []


@pytest.mark.parametrize(
    ("code", "told"), [(libvirt.VIR_ERR_NO_DOMAIN, False), (libvirt.VIR_ERR_OPERATION_INVALID, True)]
)
def test_a_definition_that_cannot_be_removed_is_passed_over_only_if_it_is_gone(rig, monkeypatch, code, told):
    guest = rig.h1.add_guest("web1", state=OFF)
    rig.h2.add_guest("web1", uuid=guest.uuid)

    def refuse(_domain, _flags=0):
        raise libvirt.libvirtError("refused", code)

    monkeypatch.setattr(libvirt.Domain, "undefineFlags", refuse)
    with pytest.raises(libvirt.libvirtError) if told else contextlib.nullcontext():
        assert define(rig, guest, guest.xml) == []
