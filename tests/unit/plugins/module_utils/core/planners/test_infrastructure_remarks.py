# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import planning
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Request
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.shutdown_consent import consented
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import infrastructure
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    cluster,
    disk,
    domain,
    resources,
    snapshot,
    uuid_of,
)

HOSTDEV = {"code": "hostdev", "reason": "PCI device 0000:3b:00.0 of the host is passed through", "remedy": "detach it"}


def nfs(source, path="/guests", **more):
    return [{"path": path, "type": "nfs4", "source": source, "shared": True, **more}]


def on_share(name, **changes):
    return domain(name, disks=[disk(source=f"/guests/{name}.qcow2")], **changes)


def links(address):
    return [{"name": "eth1", "addresses": [address], "speed_mbit": 10000, "up": True}]


def with_serving_host():
    """h1 exports its own /guests to h2 and h3, which name it by name and by address."""
    return cluster(
        snapshot(
            "h1",
            mounts=[{"path": "/guests", "type": "xfs", "source": "/dev/sda3", "shared": False}],
            links=links("10.0.5.11/24"),
        ),
        snapshot(
            "h2",
            *(on_share(f"web{n}") for n in range(3)),
            mounts=nfs("h1.example.org:/guests"),
            links=links("10.0.5.12/24"),
        ),
        snapshot(
            "h3", *(on_share(f"db{n}") for n in range(3)), mounts=nfs("10.0.5.11:/guests"), links=links("10.0.5.13/24")
        ),
    )


def with_serving_guest(share="nas:/guests", **nas):
    """The guest nas on h1 serves a share that guests of all three hosts are on."""
    local = domain("nas", disks=[disk(source="/dev/vg0/nas", type="block", shared=False)], **nas)
    return cluster(
        snapshot("h1", local, on_share("app0"), on_share("app1"), mounts=nfs(share)),
        snapshot("h2", on_share("web0"), mounts=nfs(share)),
        snapshot("h3", on_share("db0"), mounts=nfs(share)),
    )


def planned(seen, kind="drain", hosts=("h1",), **constraints):
    return planning.make(Request(kind, list(hosts)), Constraints(seen, **constraints)).planned


def remarked(plan):
    return [(one["code"], one["reason"], one["remedy"]) for one in plan.remarks]


@pytest.mark.parametrize(("kind", "hosts"), [("drain", ["h1"]), ("evacuate", ["h1"]), ("upgrade", ["h1", "h2", "h3"])])
def test_a_host_whose_share_others_run_from_is_told_before_it_is_away(kind, hosts):
    assert remarked(planned(with_serving_host(), kind, hosts)) == [
        (
            "serves_storage",
            (
                "h2 and h3 run 6 guests from a share of h1 (10.0.5.11:/guests and h1.example.org:/guests), and "
                "lose it when "
                "h1 is rebooted or shut down"
            ),
            "before that, move the disks of these guests to other storage, or shut these guests down; or leave h1 out",
        )
    ]


def test_no_remark_where_nobody_else_is_concerned():
    assert remarked(planned(with_serving_host(), hosts=["h2"])) == []
    # Every host has that address for itself.
    seen = with_serving_host()
    for one in seen.values():
        one["resources"] = resources(addresses=["127.0.0.1", "10.0.5.11"])
    seen["h2"]["mounts"] = []
    assert infrastructure.serving_hosts(seen) == {}


def test_a_guest_that_serves_the_storage_is_told_and_goes_last():
    seen = with_serving_guest(memory_bytes=128 << 20)
    seen["h1"]["domains"][0]["disks"] = []
    plan = planned(seen)
    assert [step["guest"]["name"] for step in plan.placement.steps] == ["app0", "app1", "nas"]
    assert plan.placement.steps[-1]["after"] == ["s001", "s002"]
    assert remarked(plan) == [
        (
            "serves_storage",
            "nas serves nas:/guests, from which h1, h2 and h3 run 4 guests",
            "nas goes last; while it moves, all of them wait for their disks as long as its downtime lasts",
        )
    ]


@pytest.mark.parametrize("share", ["nas:/guests", "nas.example.org:/guests", "NAS:/guests"])
def test_a_guest_is_known_by_the_name_of_its_share(share):
    (service,) = infrastructure.serving_guests(with_serving_guest(share)).values()
    assert (service.guests, sorted(service.clients)) == (4, ["h1", "h2", "h3"])
    assert infrastructure.serving_guests(with_serving_guest("filer:/guests")) == {}


def test_a_guest_is_known_by_the_mac_address_that_its_share_is_mounted_from():
    """The hosts name the share by an address."""
    mac = "52:54:00:00:00:0a"
    seen = with_serving_guest(
        "10.0.9.1:/guests", blockers=[HOSTDEV], interfaces=[{"type": "bridge", "mac": mac.upper()}]
    )
    assert infrastructure.serving_guests(seen) == {}
    for one in seen.values():
        one["mounts"] = nfs("10.0.9.1:/guests", address="10.0.9.1", mac=mac)
    assert infrastructure.serving_guests(seen)[uuid_of("nas")].guests == 4
    reason = (
        "nas serves 10.0.9.1:/guests, from which h1, h2 and h3 run 4 guests, so a permission for all guests does not "
        "count for it"
    )
    assert shut_down(seen) == ([], {"nas": reason})


def test_an_address_is_not_taken_for_a_name():
    seen = with_serving_guest("10.0.9.1:/guests")
    seen["h1"]["domains"].append(domain("10"))
    assert infrastructure.serving_guests(seen) == {}


def test_a_share_that_libvirt_takes_for_local_storage_is_one_as_well():
    seen = with_serving_host()
    seen["h2"]["mounts"] = [
        {"path": "/guests", "type": "cifs", "source": "//h1/guests", "shared": False, "undeclared": True}
    ]
    assert infrastructure.serving_hosts(seen)["h1"].guests == 6


def test_a_template_below_an_image_counts_as_well():
    seen = with_serving_host()
    layer = {"type": "file", "source": "/guests/base.qcow2", "role": "backing"}
    for one in seen["h2"]["domains"]:
        one["disks"] = [disk(source="/elsewhere/a.qcow2", layers=[layer])]
    assert infrastructure.serving_hosts(seen)["h1"].guests == 6


def over_network(name, server):
    return domain(name, disks=[disk(type="network", source=f"nbd:{name}", servers=[server])])


def test_a_disk_that_qemu_opens_over_the_network_has_a_server_too():
    seen = cluster(
        snapshot("h1", links=links("10.0.5.11/24")),
        snapshot("h2", over_network("web0", "h1"), over_network("web1", "10.0.5.11")),
        snapshot("h3", over_network("db0", "NAS.example.org"), domain("nas", disks=[], blockers=[HOSTDEV])),
    )
    ((host, service),) = infrastructure.serving_hosts(seen).items()
    assert (host, service.sources, service.clients) == (
        "h1",
        ("nbd of 10.0.5.11", "nbd of h1"),
        {"h2": ("web0", "web1")},
    )
    ((uuid, service),) = infrastructure.serving_guests(seen).items()
    assert (uuid, service.clients) == (uuid_of("nas"), {"h3": ("db0",)})


def test_a_guest_says_itself_what_it_serves():
    seen = cluster(snapshot("h1", domain("filer"), domain("a")), snapshot("h2"))
    seen["h1"]["domains"][0]["metadata"]["serves"] = "iSCSI of rack 7"
    plan = planned(seen)
    assert [step["guest"]["name"] for step in plan.placement.steps] == ["a", "filer"]
    assert remarked(plan)[0][1] == "filer serves iSCSI of rack 7"


def test_the_guest_that_runs_the_controller_goes_last():
    seen = cluster(snapshot("h1", domain("ansible", memory_bytes=128 << 20), domain("web1")), snapshot("h2"))
    plan = planned(seen, controller_uuids=[uuid_of("ansible")])
    assert [step["guest"]["name"] for step in plan.placement.steps] == ["web1", "ansible"]
    assert remarked(plan) == [
        (
            "runs_controller",
            "this controller runs in ansible",
            (
                "ansible goes last; if it is lost on the way, nobody follows the run: run the same again from another "
                "machine"
            ),
        )
    ]
    assert [step["guest"]["name"] for step in planned(seen).placement.steps] == ["ansible", "web1"]


def shut_down(seen, **options):
    stays = planned(seen, "upgrade", ["h1", "h2", "h3"]).placement.stays
    found = consented(stays, seen, {"allow_shutdown": True}, **options)
    return [guest["name"] for guest in found.stop], {
        stay["guest"]["name"]: stay["refusals"][-1]["reason"] for stay in found.blocked
    }


def test_a_guest_that_serves_the_storage_is_not_shut_down_without_being_named():
    reason = (
        "nas serves nas:/guests, from which h1, h2 and h3 run 4 guests, so a permission for all guests does not count "
        "for it"
    )
    assert shut_down(with_serving_guest(blockers=[HOSTDEV])) == ([], {"nas": reason})
    named = with_serving_guest(blockers=[HOSTDEV], intent={"allow_shutdown": True})
    assert shut_down(named) == (["nas"], {})


def test_a_definition_that_another_host_still_has_does_not_hide_the_guest_that_runs():
    left = domain("nas", state="shutoff", state_reason="migrated", balloon=None)
    seen = cluster(snapshot("h1", domain("nas", disks=[], blockers=[HOSTDEV])), snapshot("h2", left), snapshot("h3"))
    assert shut_down(seen) == (["nas"], {})


def test_the_guest_that_runs_the_controller_is_not_shut_down_without_being_named():
    seen = cluster(snapshot("h1", domain("ansible", blockers=[HOSTDEV])), snapshot("h2"), snapshot("h3"))
    reason = "ansible runs this controller, so a permission for all guests does not count for it"
    assert shut_down(seen, controller_uuids=[uuid_of("ansible")]) == ([], {"ansible": reason})
    assert shut_down(seen) == (["ansible"], {})


@pytest.mark.parametrize("reason", ["postcopy", "postcopy_failed"])
def test_a_guest_in_the_middle_of_a_post_copy_is_never_shut_down(reason):
    half = domain("db1", state_reason=reason)
    seen = cluster(snapshot("h1", half), snapshot("h2"))
    stay = {"guest": {"name": "db1", "uuid": half["uuid"]}, "host": "h1", "refusals": []}
    found = consented([stay], seen, {"allow_shutdown": True})
    assert found.stop == []
    why = found.blocked[0]["refusals"][-1]
    assert why["code"] == "postcopy"
    assert why["reason"].endswith("a part of its memory is on another host, and both halves would be lost")


def test_hosts_that_cannot_resume_a_post_copy_are_named_in_the_plan():
    seen = cluster(snapshot("h1", domain("db1", intent={"allow_postcopy": "recoverable"})), snapshot("h2"))
    run = {"allow_postcopy": True}
    [remark] = [one for one in planned(seen, intent=run).remarks if one["code"] == "postcopy_not_recoverable"]
    assert remark["reason"] == (
        "no guest goes from h1 to h2 by post-copy, as it could not be resumed there: libvirt 11.3 on h2 dies when a"
        " broken post-copy is resumed"
    )
    assert remark["remedy"] == "upgrade libvirt on h2 to 11.4 or later, or permit allow_postcopy: true"
    able = cluster(*({**one, "versions": {**one["versions"], "libvirt": "12.8.0"}} for one in seen.values()))
    assert planned(able, intent=run).remarks == []
