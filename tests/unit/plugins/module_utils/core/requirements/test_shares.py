# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.drain import drain
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import shares
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, resources, snapshot

RANDOM, OTHER_RANDOM = "6f1c5a2e9b3d4711:8a55c0ffee1234", "77aa5a2e9b3d4711:8a55c0ffee1234"


def mount(source, kind="nfs4", **more):
    return {"path": "/shared", "type": kind, "source": source, "shared": True, **more}


def host(name, *guests, of, **changes):
    links = [{"name": "eth1", "addresses": [f"10.0.5.1{name[1:]}/24"], "speed_mbit": 10000, "up": True}]
    return snapshot(name, *guests, mounts=[of], links=links, **changes)


def drained(here, there, same_servers=()):
    """Where the guest of h1 goes, or why it stays."""
    seen = cluster(host("h1", domain("web1"), of=here), host("h2", of=there))
    found = drain(["h1"], Constraints(shares.with_one_name(seen, same_servers))).placement
    return found.steps[0]["destination"] if found.steps else found.stays[0]["refusals"][0]


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (mount("nas:/guests"), mount("nas:/guests/")),
        (mount("NAS.example.org:/guests"), mount("nas.example.org.:/guests")),
        (mount("nas:/guests", address="10.0.9.1"), mount("10.0.9.1:/guests")),
        (mount("nas:/guests", address="10.0.9.1"), mount("nas.example.org:/guests", address="10.0.9.1")),
        (mount("[fd00::1]:/guests"), mount("nas:/guests", address="fd00:0::1")),
        (mount("nas-a:/guests", fsid=RANDOM), mount("nas-b:/guests", fsid=RANDOM)),
        (mount("nas:/guests", address="10.0.9.1"), mount("nas:/guests", address="10.0.9.2")),
        (mount("nas:/guests", kind="nfs"), mount("nas:/guests")),
        (
            mount("10.9.0.1,10.9.0.2,10.9.0.3:/", kind="ceph"),
            mount("10.9.0.2:6789,10.9.0.1:6789,10.9.0.3:6789:/", kind="ceph"),
        ),
        (mount("10.9.0.1,10.9.0.2:/vms", kind="ceph"), mount("10.9.0.2:/vms/", kind="ceph")),
        (mount("admin@ab12.cephfs=/vms", kind="ceph"), mount("guest@ab12.cephfs=/vms", kind="ceph")),
        (mount("h1:/vms", kind="fuse.glusterfs"), mount("localhost:/vms", kind="fuse.glusterfs")),
        (mount("//NAS/Guests", kind="cifs"), mount("\\\\nas\\guests\\", kind="smb3")),
        # h1 gives its own disk to all.
        (mount("localhost:/guests"), mount("h1.example.org:/guests")),
        (mount("127.0.0.1:/guests"), mount("10.0.5.11:/guests")),
        (mount("/dev/mapper/lun", kind="gfs2"), mount("/dev/mapper/lun", kind="gfs2")),
    ],
)
def test_one_share_that_two_hosts_name_differently(here, there):
    assert drained(here, there) == "h2"
    assert drained(there, here) == "h2" or "localhost" in str((here, there)) or "127.0.0.1" in str(here)


@pytest.mark.parametrize(
    ("here", "there", "reason"),
    [
        (
            mount("nas.example.org:/guests"),
            mount("10.0.9.1:/guests"),
            (
                "disk vda (/shared/vda.qcow2) is on nas.example.org:/guests, and h2 has mounted 10.0.9.1:/guests at "
                "/shared: nothing proves that nas.example.org and 10.0.9.1 are one server"
            ),
        ),
        (
            # Ids that a person gave, or that are numbers of devices, are the same on many servers.
            mount("nas-a:/guests", fsid="0:1"),
            mount("nas-b:/guests", fsid="0:1"),
            (
                "disk vda (/shared/vda.qcow2) is on nas-a:/guests, and h2 has mounted nas-b:/guests at /shared: "
                "nothing "
                "proves that nas-a and nas-b are one server"
            ),
        ),
        (
            mount("localhost:/guests"),
            mount("localhost:/guests"),
            (
                "disk vda (/shared/vda.qcow2) is on localhost:/guests of h1 itself, which h2 has not mounted at "
                "/shared "
                "(localhost:/guests is mounted there)"
            ),
        ),
        (
            mount("10.0.5.11:/guests"),
            mount("10.0.5.12:/guests"),
            (
                "disk vda (/shared/vda.qcow2) is on 10.0.5.11:/guests of h1 itself, which h2 has not mounted at "
                "/shared "
                "(10.0.5.12:/guests is mounted there)"
            ),
        ),
        (
            # Each host looks the name up in a file of its own.
            mount("nas:/guests", address="10.0.9.1", fsid=RANDOM),
            mount("nas:/guests", address="10.0.9.2", fsid=OTHER_RANDOM),
            (
                "disk vda (/shared/vda.qcow2) is on nas:/guests, which h2 has not mounted at /shared (nas:/guests is "
                "mounted there)"
            ),
        ),
        (
            # The second is a directory of the first, bound to the same place.
            mount("h1:/vol", kind="fuse.glusterfs"),
            mount("h1:/vol/vms", kind="fuse.glusterfs"),
            (
                "disk vda (/shared/vda.qcow2) is on h1:/vol, which h2 has not mounted at /shared (h1:/vol/vms is "
                "mounted there)"
            ),
        ),
        (
            mount("10.9.0.1:/a", kind="ceph"),
            mount("10.9.0.1:/b", kind="ceph"),
            (
                "disk vda (/shared/vda.qcow2) is on 10.9.0.1:/a, which h2 has not mounted at /shared (10.9.0.1:/b is "
                "mounted there)"
            ),
        ),
        (
            mount("mon1,mon2:/", kind="ceph"),
            mount("10.9.0.1:6789,10.9.0.2:6789:/", kind="ceph"),
            (
                "disk vda (/shared/vda.qcow2) is on mon1,mon2:/, and h2 has mounted 10.9.0.1:6789,10.9.0.2:6789:/ at "
                "/shared: nothing proves that mon1 and 10.9.0.1 are one server"
            ),
        ),
        (
            mount("127.1:/guests"),
            mount("127.1:/guests"),
            "disk vda (/shared/vda.qcow2) is on 127.1:/guests of h1 itself, which h2 has not mounted at /shared",
        ),
        (
            mount("ip6-localhost:/guests"),
            mount("ip6-localhost:/guests"),
            "disk vda (/shared/vda.qcow2) is on ip6-localhost:/guests of h1 itself, which h2 has not mounted",
        ),
        (
            mount("admin@ab12.cephfs=/", kind="ceph"),
            mount("admin@cd34.cephfs=/", kind="ceph"),
            (
                "disk vda (/shared/vda.qcow2) is on admin@ab12.cephfs=/, which h2 has not mounted at /shared "
                "(admin@cd34.cephfs=/ is mounted there)"
            ),
        ),
    ],
)
def test_two_shares(here, there, reason):
    assert drained(here, there)["reason"].startswith(reason)


def test_the_operator_says_which_names_are_one_server():
    here, there = mount("nas.example.org:/guests"), mount("10.0.9.1:/guests")
    assert drained(here, there)["remedy"] == (
        "mount it by the same name on both hosts; or, if they are one server, say so in the inventory: "
        'kvmops_cluster_same_servers: [["nas.example.org", "10.0.9.1"]]'
    )
    assert drained(here, there, [["nas.example.org", "10.0.9.1"]]) == "h2"
    # What is said of servers makes no two directories one.
    assert drained(here, mount("10.0.9.1:/other"), [["nas.example.org", "10.0.9.1"]])["code"] == "storage_unreachable"


def test_the_operator_says_which_names_are_one_monitor_of_cephfs():
    here, there = mount("mon1,mon2:/", kind="ceph"), mount("10.9.0.1,10.9.0.2:/", kind="ceph")
    remedy = drained(here, there)["remedy"]
    assert remedy.endswith('say so in the inventory: kvmops_cluster_same_servers: [["mon1", "10.9.0.1"]]')
    assert drained(here, there, [["mon1", "10.9.0.1"]]) == "h2"
    assert drained(here, mount("10.9.0.1:/other", kind="ceph"), [["mon1", "10.9.0.1"]])["code"] == "storage_unreachable"


def test_a_host_of_the_cluster_is_known_by_all_its_names():
    """h1 gives its disk to h2 and h3, which name it differently."""
    seen = cluster(
        host("h1", of=mount("/dev/sda3", kind="xfs")),
        host("h2", domain("web1"), of=mount("h1.example.org:/guests")),
        host("h3", of=mount("10.0.5.11:/guests")),
    )
    assert drain(["h2"], Constraints(seen)).placement.steps == []
    found = drain(["h2"], Constraints(shares.with_one_name(seen))).placement
    assert [step["destination"] for step in found.steps] == ["h3"]


def test_an_address_that_each_host_has_for_itself_names_no_server():
    """libvirt's own network gives every host the address 192.168.122.1."""
    own = resources(addresses=["127.0.0.1", "192.168.122.1"])
    here = there = mount("localhost:/guests")
    one, other = host("h1", of=here, resources=own), host("h2", of=there, resources=own)
    assert shares.same(here, one, there, other) is False


MOUNTINFO = """\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:45 / /shared rw,relatime shared:1 - nfs4 nas:/guests rw,vers=4.2,proto=tcp,clientaddr=10.0.5.11,addr=10.0.9.1
3 1 0:46 / /two\\040words rw - nfs nas:/x rw,vers=3,mountaddr=10.0.9.8,addr=10.0.9.9
4 1 0:47 / /smb rw - cifs //win/guests rw,vers=3.1.1,addr=10.0.9.3
"""
VOLUMES = """\
NV SERVER   PORT DEV          FSID                              FSC
v4 0a000901  801 0:45         6f1c5a2e9b3d4711:8a55c0ffee1234   no
v3 0a000909  801 0:46         1:0                               no
"""
NEIGHBOURS = """\
IP address       HW type     Flags       HW address            Mask     Device
10.0.9.1         0x1         0x2         52:54:00:00:00:0A     *        eth1
10.0.9.2         0x1         0x0         00:00:00:00:00:00     *        eth1
"""


def test_what_the_kernel_tells_of_mounts():
    paths = ("/", "/shared", "/two words", "/smb")
    found = shares.with_servers([{"path": path} for path in paths], MOUNTINFO, VOLUMES)
    assert found == [
        {"path": "/"},
        {"path": "/shared", "address": "10.0.9.1", "fsid": RANDOM},
        {"path": "/two words", "address": "10.0.9.9", "fsid": "1:0"},
        {"path": "/smb", "address": "10.0.9.3"},
    ]
    assert shares.with_servers([{"path": "/shared"}], "", "") == [{"path": "/shared"}]


def test_the_mac_address_of_a_server_on_the_same_network():
    found = shares.with_servers([{"path": "/shared"}, {"path": "/smb"}], MOUNTINFO, "", NEIGHBOURS)
    assert [one.get("mac") for one in found] == ["52:54:00:00:00:0a", None]
