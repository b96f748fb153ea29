# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import NumberedCluster
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.drain import drain
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, cluster, disk, domain, resources, snapshot


def drained(*guests, h2=None, h3=None, others=(), h1=None):
    """A drain of h1; h2 has most room, h3 has less."""
    seen = cluster(
        snapshot("h1", *guests, **(h1 or {})),
        snapshot("h2", *others, free_bytes=50 * GIB, **({"resources": resources()} if h2 is None else h2)),
        snapshot("h3", free_bytes=20 * GIB, **(h3 or {})),
    )
    return drain(["h1"], Constraints(seen)).placement


def destinations(placement):
    return {step["guest"]["name"]: step["destination"] for step in placement.steps}


def reasons(placement):
    return {stay["guest"]["name"]: [(r["code"], r["reason"]) for r in stay["refusals"]] for stay in placement.stays}


def with_cpus(count):
    return {"capacity": {**snapshot("x")["capacity"], "cpus": count, "available_bytes": 50 * GIB}}


def emulators(path):
    one = {"type": "kvm", "arch": "x86_64", "machines": ["pc-q35-7.2"], "cpu_models_usable": ["qemu64"]}
    return {"emulators": [{**one, "emulator": path}]}


@pytest.mark.parametrize(
    ("requirement", "has"),
    [
        ({"kind": "bridge", "name": "br-dmz"}, {"links": ["br-dmz"], "bridges": ["br-dmz"]}),
        ({"kind": "network", "name": "dmz"}, {"networks": {"dmz": True}}),
        ({"kind": "network", "name": "asleep"}, {"networks": {"asleep": True}}),
        ({"kind": "link", "name": "eno2"}, {"links": ["eno2"]}),
        ({"kind": "pool", "name": "vms"}, {"pools": {"vms": True}}),
        ({"kind": "secret", "name": "s"}, {"secrets": ["s"]}),
        ({"kind": "file", "name": "/srv/vmlinuz", "what": "kernel"}, {"files": {"/srv/vmlinuz": True}}),
        ({"kind": "cpus", "name": "40-43"}, {"cpus": "0-63"}),
        ({"kind": "address", "name": "192.0.2.1"}, {"addresses": ["192.0.2.1"]}),
        ({"kind": "security_model", "name": "selinux"}, {"security_models": ["selinux"]}),
        ({"kind": "partition", "name": "/machine/gold"}, {"partitions": ["/machine/gold"]}),
    ],
)
def test_a_guest_goes_where_everything_is_that_it_names(requirement, has):
    guest, plain = domain("web1", requires=[requirement]), domain("plain", requires=[])
    placement = drained(guest, plain, h3={"resources": resources(**has)})
    assert destinations(placement)["web1"] == "h3"
    # Where no host has it, the guest stays with the reason, and the others go.
    nowhere = drained(guest, plain, h3={"resources": resources()})
    assert destinations(nowhere) == {"plain": "h2"}
    (first, *_rest) = reasons(nowhere)["web1"]
    assert first[1].endswith("; likewise for h3")
    assert "h2" in first[1]


def test_a_guest_goes_where_its_emulator_is():
    guest = domain("web1", emulator="/usr/libexec/qemu-kvm")
    placement = drained(guest, h2=emulators("/usr/bin/qemu-system-x86_64"), h3=emulators("/usr/libexec/qemu-kvm"))
    assert destinations(placement) == {"web1": "h3"}


def test_a_guest_with_more_virtual_cpus_than_a_host_has_cpus_goes_to_a_larger_one():
    large, small = domain("large", vcpus=32), domain("small", vcpus=4)
    placement = drained(large, small, h2=with_cpus(4), h3=with_cpus(64))
    assert destinations(placement)["large"] == "h3"
    assert destinations(drained(small, h2=with_cpus(4), h3=with_cpus(64))) == {"small": "h2"}
    assert reasons(drained(large, h2=with_cpus(4), h3=with_cpus(4)))["large"][0] == (
        "too_few_cpus",
        "large has 32 virtual CPUs, but h2 has only 4 CPUs; likewise for h3",
    )


def test_hosts_that_lack_different_things_are_told_apart():
    """Both hosts look the same apart from that. Each guest gets the one that serves it."""
    a = domain("a", requires=[{"kind": "bridge", "name": "br-a"}])
    b = domain("b", requires=[{"kind": "bridge", "name": "br-b"}])
    placement = drained(
        a,
        b,
        h2={"resources": resources(links=["br-a"], bridges=["br-a"])},
        h3={"resources": resources(links=["br-b"], bridges=["br-b"])},
    )
    assert destinations(placement) == {"a": "h2", "b": "h3"}


def test_what_every_host_has_makes_no_more_classes():
    guests = [domain(f"g{n}", requires=[{"kind": "file", "name": f"/srv/{n}", "what": "kernel"}]) for n in range(9)]
    seen = cluster(snapshot("h1", *guests, resources=resources()), snapshot("h2", resources=resources()))
    numbered = NumberedCluster(Constraints(seen))
    assert len(numbered.classes.guests) == 1
    assert len(numbered.classes.hosts) == 1


def test_a_kernel_on_a_share_goes_only_where_the_share_is():
    kernel = [{"kind": "file", "name": "/boot-share/vmlinuz", "what": "kernel"}]
    share = {"path": "/boot-share", "type": "nfs4", "source": "nas:/boot", "shared": True}
    mounts = [*snapshot()["mounts"], share]
    guest, plain = domain("web1", requires=kernel), domain("plain")
    placement = drained(guest, plain, h1={"mounts": mounts}, h2={}, h3={"mounts": mounts})
    assert destinations(placement)["web1"] == "h3"
    assert destinations(drained(plain, h1={"mounts": mounts}, h2={}, h3={"mounts": mounts})) == {"plain": "h2"}


def below(*layers):
    told = [{"type": kind, "source": path, "role": "backing"} for kind, path in layers]
    return [disk(layers=told, backing=[path for _kind, path in layers])]


def test_an_image_goes_only_where_all_is_that_it_rests_on():
    """Each layer is on shared storage, but not every host has mounted all of it."""
    share = {"path": "/templates", "type": "nfs4", "source": "nas:/templates", "shared": True}
    mounts = [*snapshot()["mounts"], share]
    guest, plain = domain("web1", disks=below(("file", "/templates/base.qcow2"))), domain("plain")
    placement = drained(guest, plain, h1={"mounts": mounts}, h2={}, h3={"mounts": mounts})
    assert destinations(placement)["web1"] == "h3"
    assert reasons(drained(guest, h1={"mounts": mounts}, h2={}, h3={}))["web1"][0] == (
        "storage_unreachable",
        (
            "/templates/base.qcow2, on which disk vda rests, is on nas:/templates, which h2 has not mounted at "
            "/templates; likewise for h3"
        ),
    )


def test_a_device_below_an_image_must_be_there():
    guest = domain("web1", disks=below(("file", "/shared/b.qcow2"), ("block", "/dev/san/base")), requires=[])
    has = {"resources": resources(files={"/dev/san/base": True})}
    lacks = {"resources": resources(files={"/dev/san/base": False})}
    assert destinations(drained(guest, h2=lacks, h3=has)) == {"web1": "h3"}
    assert reasons(drained(guest, h2=lacks, h3=lacks))["web1"][0] == (
        "no_device",
        "h2 has no /dev/san/base, the device below disk vda of web1; likewise for h3",
    )


def test_a_host_without_the_key_refuses_nothing():
    placement = drained(domain("web1", requires=[{"kind": "bridge", "name": "br-dmz"}]), h2={}, h3={})
    assert destinations(placement) == {"web1": "h2"}


def port(fixed=True):
    return [{"kind": "port", "name": "5901", "what": "VNC display", "address": "", "fixed": fixed}]


def test_two_guests_with_one_fixed_port_never_share_a_host():
    placement = drained(domain("a", requires=port()), domain("b", requires=port()), h2={}, h3={})
    assert sorted(destinations(placement).values()) == ["h2", "h3"]
    three = drained(*(domain(name, requires=port()) for name in "abc"), h2={}, h3={})
    ((stays, told),) = reasons(three).items()
    assert len(three.steps) == 2
    assert told[0][0] == "port_taken"
    assert told[0][1].startswith(f"the VNC display of {stays} has the fixed port 5901, which ")


def test_a_guest_with_a_fixed_port_does_not_go_where_libvirt_has_given_that_port_away():
    taken = [domain("other", requires=port(fixed=False))]
    placement = drained(domain("a", requires=port()), others=taken, h2={}, h3={})
    assert destinations(placement) == {"a": "h3"}
    assert destinations(drained(domain("a", requires=port(fixed=False)), others=taken, h2={}, h3={})) == {"a": "h2"}


def test_a_guest_goes_where_its_device_is_not_mounted():
    """Also where another guest has the same device on purpose."""
    lun = {"target": "vda", "type": "block", "source": "/dev/sdb", "shared": True, "shared_why": "iSCSI"}
    guest, other = domain("web1", disks=[lun]), domain("web2", disks=[{**lun, "shareable": True}])
    there = {"/dev/sdb": True}
    mounted = resources(files=there, mounted={"/dev/sdb": "/mnt"})
    placement = drained(guest, other, h2={"resources": mounted}, h3={"resources": resources(files=there)})
    assert destinations(placement) == {"web1": "h3", "web2": "h2"}
