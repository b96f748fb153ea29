# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

from lab.guest import domain_xml
from lab.layout import addresses, scenario

NETWORKS = addresses.networks(0)
PLAN = scenario.parse(
    {
        "hosts": {"count": 2},
        "guests": [
            {
                "name": "g1",
                "host": "h2",
                "disk": 16,
                "group": "a & b",
                "policy": {"max_downtime_ms": 200, "allow_postcopy": True},
            },
            {"name": "g2", "host": "h1"},
        ],
    }
)
NAMESPACE = "{https://kvmops.cluster/xmlns/guest/1}"


def define(guest, *, kvm=False):
    return ET.fromstring(domain_xml.definition(guest, PLAN.host(guest.host), NETWORKS, instance=0, kvm=kvm))


def test_metadata_travels_with_the_guest():
    mark = define(PLAN.guests[0]).find(f"metadata/{NAMESPACE}guest")
    assert mark.attrib == {"home": "h2", "group": "a & b"}
    assert mark.find(f"{NAMESPACE}intent").attrib == {"max_downtime_ms": "200", "allow_postcopy": "true"}


def test_a_guest_without_wishes_has_none_in_its_metadata():
    mark = define(PLAN.guests[1]).find(f"metadata/{NAMESPACE}guest")
    assert mark.attrib == {"home": "h1"}
    assert list(mark) == []


def test_disk_and_command_line():
    with_disk, without = (define(guest) for guest in PLAN.guests)
    assert with_disk.find("devices/disk/source").get("file") == "/var/lib/libvirt/images/g1.qcow2"
    assert "lab.disk=/dev/vda" in with_disk.findtext("os/cmdline")
    assert without.find("devices/disk") is None
    assert "lab.address=198.19.0.102 " in without.findtext("os/cmdline")


def test_what_a_guest_is_to_do_is_on_its_command_line():
    told = {
        "phases": [{"seconds": 15, "hot_mib": 4, "pages_per_s": 500}, {"seconds": 5, "hot_mib": 8, "pages_per_s": 90}]
    }
    busy = {"name": "g", "host": "h1", "content": "compressible", "cold_pages_per_s": 7, **told}
    (guest,) = scenario.parse({"hosts": {}, "guests": [busy]}).guests
    words = define(guest).findtext("os/cmdline").split()
    assert {"lab.content=compressible", "lab.cold_per_s=7", "lab.phases=15:4:500,5:8:90", "lab.hot_mib=4"} <= set(words)


def test_the_machine_type_is_one_that_every_release_knows():
    assert define(PLAN.guests[0]).find("os/type").get("machine") == "pc-q35-7.2"


def test_kvm_only_when_it_was_proved():
    assert define(PLAN.guests[0]).get("type") == "qemu"
    assert define(PLAN.guests[0], kvm=True).get("type") == "kvm"
