# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.disk_places import with_disk_places
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, cluster, disk, domain, snapshot

IMAGES = "/var/lib/libvirt/images"
LOCAL = disk(source=f"{IMAGES}/web1.qcow2", shared=False, shared_why="ext4", data_bytes=GIB)
COPY = {"allow_storage_copy": True}


def pool(**changes):
    made = {
        "name": "images",
        "type": "dir",
        "path": IMAGES,
        "active": True,
        "capacity_bytes": 100 * GIB,
        "available_bytes": 50 * GIB,
        "volumes": [],
    }
    return {**made, **changes}


def places(guest, run_intent=None, paths=None, **there):
    seen = cluster(
        snapshot("h1", guest),
        snapshot("h2", storage_pools=[pool(**there)]),
        snapshot("h3", storage_pools=[]),
        snapshot("h4"),
    )
    return with_disk_places(paths or {}, seen, COPY if run_intent is None else run_intent)


def test_a_host_without_a_place_is_no_destination():
    guest = domain("web1", disks=[LOCAL])
    found = places(guest)
    assert list(found) == [("h1", "h3", guest["uuid"])]
    assert [why["code"] for why in found["h1", "h3", guest["uuid"]]] == ["no_pool"]
    assert ("h1", "h2", guest["uuid"]) in places(guest, volumes=["web1.qcow2"])


def test_the_way_home_is_open_over_a_copy_of_its_own():
    guest, other = domain("web1", disks=[LOCAL]), domain("other")
    home = snapshot("h2", storage_pools=[pool(volumes=["web1.qcow2"])])
    for left, places_left in ((guest, []), (other, [("h1", "h2", guest["uuid"])])):
        left_copies = [{"uuid": left["uuid"], "path": LOCAL["source"]}]
        seen = cluster(snapshot("h1", guest), {**home, "left_copies": left_copies})
        assert list(with_disk_places({}, seen, COPY)) == places_left


@pytest.mark.parametrize(
    ("begun_at", "there", "is_open"),
    [("h2", (), True), ("h3", (), False), ("h2", (domain("other", disks=[LOCAL]),), False)],
)
def test_what_a_run_began_there_and_did_not_end_bars_no_way(begun_at, there, is_open):
    guest = domain("web1", disks=[LOCAL])
    source = snapshot("h1", guest)
    begun = [{"uuid": guest["uuid"], "destination": begun_at, "path": LOCAL["source"]}]
    destination = snapshot("h2", *there, storage_pools=[pool(volumes=["web1.qcow2"])])
    seen = cluster({**source, "begun_copies": begun}, destination)
    assert (("h1", "h2", guest["uuid"]) not in with_disk_places({}, seen, COPY)) is is_open


def test_what_the_paths_say_is_kept():
    guest = domain("web1", disks=[LOCAL])
    key = ("h1", "h3", guest["uuid"])
    cpu = {"code": "cpu", "reason": "too old", "remedy": "choose another"}
    assert [why["code"] for why in places(guest, paths={key: [cpu]})[key]] == ["cpu", "no_pool"]


@pytest.mark.parametrize(
    ("guest", "run_intent"),
    [
        (domain("web1"), COPY),
        (domain("web1", disks=[LOCAL], state="shutoff"), COPY),
        (domain("web1", disks=[LOCAL]), {}),
        (domain("web1", disks=[LOCAL], intent={"allow_storage_copy": False}), COPY),
        (domain("web1", disks=[LOCAL], intent={"allow_storage_copy": True}), {}),
        (domain("web1", disks=[LOCAL], intent={"nonsense": 1}), COPY),
    ],
)
def test_who_copies_no_disk_needs_no_place(guest, run_intent):
    assert places(guest, run_intent) == {}
