# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import left_copies
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.left_copies import ImageNow
from ansible_collections.kvmops.cluster.tests.unit.builders import disk, domain, snapshot, uuid_of

GUEST = {"name": "web1", "uuid": uuid_of("web1")}
DAY = 86400
LEFT = {
    "target": "vda",
    "path": "/images/web1.qcow2",
    "size_bytes": 500,
    "allocated_bytes": 400,
    "mtime_ns": 7,
    "at": "2026-11-24T02:00:00Z",
    "destination": "h2",
}
RECORD = left_copies.record_of(GUEST, "h1", [LEFT])
UNCHANGED = ImageNow(500, 7)


def running(host="h2", **changes):
    made = {"disks": [disk("vda", source="/images/web1.qcow2", shared=False)], **changes}
    return snapshot(host, domain("web1", **made))


def why(now=UNCHANGED, snapshots=None, age_s=8 * DAY, left=None):
    return left_copies.against_removal(
        RECORD,
        LEFT if left is None else left,
        now,
        [snapshot("h1"), running()] if snapshots is None else snapshots,
        age_s=age_s,
        least_age_s=7 * DAY,
    )


def test_what_nobody_needs_may_be_removed():
    assert why() is None


@pytest.mark.parametrize(
    ("given", "code", "reason"),
    [
        ({"age_s": 2 * DAY}, "copy_too_young", "/images/web1.qcow2 is 48 h 00 min old, and copies are kept for"),
        ({"age_s": None}, "copy_too_young", "/images/web1.qcow2 is of unknown age"),
        ({"now": ImageNow(501, 7)}, "copy_changed", "/images/web1.qcow2 on h1 is not as the guest left it"),
        ({"now": ImageNow(500, 8)}, "copy_changed", "/images/web1.qcow2 on h1 is not as the guest left it"),
        ({"now": ImageNow(500, 7, is_file=False)}, "copy_changed", "is not as the guest left it"),
        ({"left": {**LEFT, "mtime_ns": None}, "now": ImageNow(500, None)}, "copy_changed", "is not as the guest"),
        ({"now": ImageNow(500, 7, users=("process 42",))}, "copy_in_use", "on h1 stays: process 42 uses it"),
        ({"now": ImageNow(500, 7, users=None)}, "copy_in_use", "it cannot be told whether anything uses it"),
        ({"snapshots": []}, "guest_not_seen", "web1 was not seen running on exactly one other host"),
        ({"snapshots": [running(state="paused")]}, "guest_not_seen", "web1 was not seen running"),
        ({"snapshots": [running(state="shutoff")]}, "guest_not_seen", "web1 was not seen running"),
        ({"snapshots": [running("h2"), running("h3")]}, "guest_not_seen", "on exactly one other host"),
        ({"snapshots": [running("h1")]}, "guest_is_here", "web1 is on h1 itself"),
        ({"snapshots": [running("h1", state="shutoff"), running()]}, "guest_is_here", "web1 is on h1 itself"),
        (
            {"snapshots": [running(disks=[disk("vda", source="/images/web1.qcow2", shared=True)])]},
            "guest_same_image",
            "disk vda of web1 on h2 is not surely another image than /images/web1.qcow2 on h1",
        ),
        ({"snapshots": [running(disks=[disk("vda", shared=None)])]}, "guest_same_image", "is not surely another"),
        ({"snapshots": [running(disks=[])]}, "guest_same_image", "is not surely another image"),
    ],
)
def test_in_doubt_it_stays(given, code, reason):
    found = why(**given)
    assert found is not None
    assert found["code"] == code
    assert reason in found["reason"]
    assert found["remedy"]


def test_a_guest_that_leaves_again_leaves_one_copy_of_each_image():
    again = left_copies.record_of(GUEST, "h1", [{**LEFT, "mtime_ns": 9}], RECORD)
    assert [one["mtime_ns"] for one in again["disks"]] == [9]
    moved = left_copies.record_of(GUEST, "h1", [{**LEFT, "path": "/fast/web1.qcow2"}], RECORD)
    assert [one["path"] for one in moved["disks"]] == ["/images/web1.qcow2", "/fast/web1.qcow2"]


@pytest.mark.parametrize(
    "document",
    [None, [], {}, {**RECORD, "schema": "other/1"}, {**RECORD, "guest": None}, {**RECORD, "disks": {}}],
)
def test_what_is_no_record_is_none(document):
    assert left_copies.parsed(document) is None


def test_of_a_record_what_is_whole_is_read():
    assert left_copies.parsed({**RECORD, "disks": [LEFT, None, {"path": 7}]}) == RECORD
