# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import re

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    record,
    uuid_of,
)
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.plan.sample_plan import PINNED, hosts, made


@pytest.mark.parametrize("host", [*AWKWARD_NAMES, "../../etc", ".", "h" * 300])
def test_the_id_is_a_safe_name_for_a_directory(host):
    found = plan.new_id({"kind": "drain", "hosts": [host]}, "2026-11-24T02:00:00Z", "3f9a")
    assert re.fullmatch(r"drain-[A-Za-z0-9._-]+-20261124T020000Z-3f9a", found)
    assert "/" not in found
    assert len(found) < 100
    found = plan.directory_name("migrate", host, "2026-11-24T02:00:00Z", "3f9a")
    assert re.fullmatch(r"migrate-[A-Za-z0-9._-]+-20261124T020000Z-3f9a", found)
    assert len(found) < 100


def test_steps_of_a_host():
    document = made()
    assert [step["guest"]["name"] for step in plan.steps_of(document, "h1")] == ["web1", "web2"]
    assert plan.steps_of(document, "h2") == []


def test_what_is_to_be_known_of_guests_that_move_is_told_once():
    shared = {"code": "mounted_9p", "reason": "it may have /srv mounted", "remedy": "unmount it"}
    own = {"code": "dropped_medium", "reason": "the medium in sda stays", "remedy": ""}
    seen = {
        "h1": {
            "domains": [{"uuid": "u1", "remarks": [shared]}, {"uuid": "u2", "remarks": [shared, own]}, {"uuid": "u3"}]
        },
        # A definition that was left behind does not move.
        "h2": {"domains": [{"uuid": "u1", "remarks": [own]}]},
    }
    steps = [{"guest": {"name": f"web{number}", "uuid": f"u{number}"}, "source": "h1"} for number in (1, 2, 3)]
    assert plan.guest_remarks(steps, seen, {}) == [
        {**shared, "reason": "web1 and web2: it may have /srv mounted"},
        {**own, "reason": "web2: the medium in sda stays"},
    ]
    assert plan.guest_remarks(steps[:0], seen, {}) == []


def test_its_own_cluster():
    document = made()
    plan.check_cluster(document, {host: uuid_of(f"host {host}") for host in ("h1", "h2", "h3")})
    plan.check_cluster(document, {"h1": uuid_of("host h1"), "stranger": "x"})
    plan.check_cluster(document, {"h1": None})


@pytest.mark.parametrize(
    ("uuids", "code", "text"),
    [
        (
            {"a1": "x", "a2": "y"},
            "other_cluster",
            (
                "plan drain-h1-20261124T020000Z-3f9a is for another cluster: it does not know a1, a2, only h1, h2, h3: "
                "give the plan that was made for these hosts"
            ),
        ),
        (
            {"h1": "x", "h2": "y"},
            "other_cluster",
            (
                "plan drain-h1-20261124T020000Z-3f9a is for another cluster: h1, h2 are other machines "
                "(their UUIDs differ): give the plan that was made for these hosts"
            ),
        ),
        (
            {"h1": uuid_of("host h1"), "h2": "new"},
            "host_reinstalled",
            (
                "h2 is not the host that plan drain-h1-20261124T020000Z-3f9a was made for: its UUID was "
                f"{uuid_of('host h2')} and is now new: make a new plan"
            ),
        ),
        (
            {"h1": "new"},
            "host_reinstalled",
            (
                "h1 is not the host that plan drain-h1-20261124T020000Z-3f9a was made for: its UUID was "
                f"{uuid_of('host h1')} and is now new: make a new plan"
            ),
        ),
    ],
)
def test_another_cluster(uuids, code, text):
    with pytest.raises(PlanError) as caught:
        plan.check_cluster(made(), uuids)
    assert (caught.value.refusal["code"], str(caught.value)) == (code, text)


def test_the_digest_does_not_hear_counters():
    before, after = hosts()["h1"], copy.deepcopy(hosts()["h1"])
    after["taken_at"] = "2030-01-01T00:00:00Z"
    after["capacity"]["available_bytes"] //= 2
    after["capacity"]["cells"][0]["free_bytes"] //= 2
    after["domains"][0]["balloon"]["rss_bytes"] = 1
    after["domains"].reverse()
    assert plan.snapshot_digest(before) == plan.snapshot_digest(after)
    assert re.fullmatch("sha256:[0-9a-f]{64}", plan.snapshot_digest(before))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(host_uuid="x"),
        lambda s: s["versions"].update(qemu="10.1.0"),
        lambda s: s.update(maintenance=record("cordoned")),
        lambda s: s["domains"].pop(),
        lambda s: s["domains"][0].update(memory_bytes=GIB),
        lambda s: s["domains"][0].update(state="shutoff"),
        lambda s: s["domains"][0].update(blockers=[PINNED]),
        lambda s: s["domains"][0]["metadata"].update(home="h2"),
        lambda s: s["domains"][0]["disks"][0].update(shared=False),
    ],
)
def test_the_digest_hears_what_matters(change):
    before, after = hosts()["h1"], copy.deepcopy(hosts()["h1"])
    change(after)
    assert plan.snapshot_digest(before) != plan.snapshot_digest(after)
