# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.plugin_utils.checks.host_checks import (
    check_clocks,
    check_disk_locks,
    check_host,
    check_requirements,
    check_send_buffer,
    check_storage,
)
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    cluster,
    disk,
    domain,
    record,
    resources,
    snapshot,
)

ENCRYPTED = {"encryption": "required", "allow_postcopy": False}


def codes(findings):
    return [(finding["host"], finding["bad"], finding["refusal"]["code"]) for finding in findings]


def changed(**changes):
    """A host with other migration capabilities."""
    return snapshot("h1", migration={**snapshot()["migration"], **changes})


def test_a_sound_host_gives_no_finding():
    assert check_host(snapshot("h1"), ENCRYPTED) == []


def test_encryption_that_is_wanted_and_missing_stops_moves():
    without = changed(tls={"usable": False, "reason": "no certificate", "remedy": "install one"})

    assert codes(check_host(without, ENCRYPTED)) == [("h1", True, "encryption")]
    assert check_host(without, {"encryption": "off"}) == []


def test_postcopy_is_looked_at_only_when_it_is_allowed():
    without = changed(postcopy={"usable": False, "reason": "a sysctl is 0", "remedy": "sysctl -w ...=1"})

    assert check_host(without, ENCRYPTED) == []
    [finding] = check_host(without, {**ENCRYPTED, "allow_postcopy": True})
    assert finding["refusal"] == {
        "code": "postcopy",
        "reason": "post-copy is allowed, but h1 cannot do it: a sysctl is 0",
        "remedy": "sysctl -w ...=1",
    }


LUN = {"type": "block", "source": "/dev/disk/by-id/wwn-1", "shared": True}


def on_luns(manager, *disks, state="running"):
    guest = {**domain("db1", state=state), "disks": list(disks)}
    return {**changed(**manager), "domains": [guest]}


def test_a_guest_on_a_block_device_that_nothing_locks_is_worth_a_note():
    [finding] = check_disk_locks(on_luns({"lock_manager": None}, LUN))
    assert codes([finding]) == [("h1", False, "no_disk_locks")]
    assert finding["refusal"]["reason"] == (
        "nothing locks the shared block devices of db1: if a switchover goes wrong, two hosts can run one guest on them"
    )
    assert finding["refusal"]["remedy"].startswith('set lock_manager = "lockd" in /etc/libvirt/qemu.conf of all hosts')


@pytest.mark.parametrize(
    "seen",
    [
        on_luns({"lock_manager": "lockd"}, LUN),
        on_luns({"lock_manager": "sanlock"}, LUN),
        # An older document does not tell.
        on_luns({}, LUN),
        on_luns({"lock_manager": None}, {**LUN, "shared": False}),
        # QEMU locks files itself.
        on_luns({"lock_manager": None}, {"type": "file", "shared": True}),
        on_luns({"lock_manager": None}, LUN, state="shutoff"),
    ],
)
def test_who_has_a_lock_or_needs_none_is_not_noted(seen):
    assert check_disk_locks(seen) == []


def test_known_bugs_and_cordons_are_only_noted():
    bug = {"code": "slow", "reason": "libvirt 11.3 is slow", "remedy": "upgrade"}
    host = snapshot(
        "h1",
        migration={**snapshot()["migration"], "known_bugs": [bug]},
        maintenance=record("cordoned", owner="bob@admin1", reason="fan"),
    )

    findings = check_host(host, ENCRYPTED)

    assert codes(findings) == [("h1", False, "slow"), ("h1", False, "closed")]
    assert findings[1]["refusal"]["reason"] == "h1 is cordoned by bob@admin1 (fan) and takes no guests"


@pytest.mark.parametrize(
    ("taken_at", "words"),
    [
        ("2026-11-24T02:00:04.000Z", None),
        ("2026-11-24T01:59:56.000Z", None),
        ("2026-11-24T01:58:00.000Z", "the clock of h1 is 120 s behind the controller's"),
        ("2026-11-24T02:00:33.000Z", "the clock of h1 is 30 s ahead of the controller's"),
    ],
)
def test_a_clock_may_be_off_by_so_much(taken_at, words):
    seen = {"h1": snapshot("h1", taken_at=taken_at)}

    findings = check_clocks(seen, "2026-11-24T02:00:00Z", "2026-11-24T02:00:03Z", 5)

    assert [finding["refusal"]["reason"] for finding in findings] == ([words] if words else [])


def user(**changes):
    return domain("web1", disks=[disk(source="/shared/web1.qcow2", **changes)])


def test_storage_that_a_guest_uses_must_be_at_the_destination():
    seen = cluster(snapshot("h1", user()), snapshot("h2"), snapshot("h3", mounts=[]))

    [finding] = check_storage(seen, seen)

    assert finding["host"] == "h3"
    assert finding["refusal"]["reason"] == "/shared is not mounted on h3, and guests of h1 use it"
    assert finding["refusal"]["remedy"] == "mount nas:/guests on /shared of h3"


def test_another_storage_under_the_same_path_is_seen():
    other = [{"path": "/shared", "type": "nfs4", "source": "old-nas:/guests", "shared": True}]
    seen = cluster(snapshot("h1", user()), snapshot("h2", mounts=other))

    [finding] = check_storage(seen, seen)

    assert finding["refusal"]["reason"] == (
        "/shared on h2 is old-nas:/guests, but on h1 it is nas:/guests, and nothing proves that it is the same"
    )


@pytest.mark.parametrize("guest", [user(shared=False), {**user(), "state": "shutoff"}, domain("net", disks=[])])
def test_storage_that_no_running_guest_shares_does_not_matter(guest):
    seen = cluster(snapshot("h1", guest), snapshot("h2", mounts=[]))

    assert check_storage(seen, seen) == []


def on_bridge(name):
    return domain(name, requires=[{"kind": "bridge", "name": "br-dmz"}])


def test_what_guests_name_and_one_destination_lacks_is_worth_a_note():
    has = resources(links=["br-dmz"], bridges=["br-dmz"])
    guests = [on_bridge("web1"), on_bridge("web2"), domain("off", state="shutoff", requires=on_bridge("x")["requires"])]
    seen = cluster(snapshot("h1", *guests), snapshot("h2", resources=resources()), snapshot("h3", resources=has))

    [finding] = check_requirements(seen, seen)

    assert (finding["host"], finding["bad"]) == ("h2", False)
    assert finding["refusal"]["reason"] == "h2 has no bridge br-dmz, to which web1 is attached; likewise web2"


def test_what_guests_name_and_every_destination_lacks_stops_moves():
    seen = cluster(snapshot("h1", on_bridge("web1")), snapshot("h2", resources=resources()))

    assert codes(check_requirements(seen, seen)) == [("h2", True, "no_bridge")]
    assert check_requirements(cluster(seen["h1"]), cluster(seen["h1"])) == []


def with_buffer(wmem="4096 16384 4194304", kernel="6.12.48", **sysctls):
    return snapshot(
        "h1",
        sysctls={"net.ipv4.tcp_wmem": wmem, **sysctls},
        versions={**snapshot()["versions"], "kernel": kernel},
    )


def test_a_send_buffer_is_noted_with_its_cost_and_the_way_to_shorten_it():
    [finding] = check_send_buffer(with_buffer(), {"bandwidth_mib_s": 22.8})

    assert (finding["host"], finding["bad"]) == ("h1", False)
    assert finding["refusal"]["code"] == "send_buffer"
    assert finding["refusal"]["reason"] == (
        "1.6 MiB are unsent in the send buffer when a guest is stopped, so no guest is down for less than"
        " about 81 ms at 191 Mbit/s; with at most 128 KiB unsent it would be about 16 ms"
    )
    assert finding["refusal"]["remedy"].endswith("drain_host_tune_network=true")


def test_an_old_kernel_gets_another_remedy():
    [finding] = check_send_buffer(with_buffer(kernel="4.18.0-553.el8"), {"bandwidth_mib_s": 22.8})

    assert "Linux 5.6" in finding["refusal"]["remedy"]
    assert "net.ipv4.tcp_notsent_lowat=131072" in finding["refusal"]["remedy"]


@pytest.mark.parametrize(
    ("host", "connect"),
    [
        (with_buffer(), {"migration_address": "198.18.0.11"}),
        (with_buffer("4096 16384 131072"), {"bandwidth_mib_s": 22.8}),
        (with_buffer(**{"net.ipv4.tcp_notsent_lowat": "131072"}), {"bandwidth_mib_s": 22.8}),
    ],
    ids=["fast interface", "small buffer", "limited on the whole host"],
)
def test_a_send_buffer_that_costs_little_is_not_worth_a_word(host, connect):
    assert check_send_buffer(host, connect) == []


@pytest.mark.parametrize("connect", [{}, {"migration_address": "198.18.9.9"}])
def test_a_bandwidth_that_nobody_knows_is_asked_for(connect):
    [finding] = check_send_buffer(with_buffer(), connect)

    assert "is not known" in finding["refusal"]["reason"]
    assert "kvmops_cluster_bandwidth_mib_s" in finding["refusal"]["remedy"]
