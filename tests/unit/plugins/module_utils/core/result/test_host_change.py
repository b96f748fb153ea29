# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hosts before and after a run."""

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.host_change import (
    host_changes,
    load,
    planned_changes,
)
from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, MIB, cluster, domain, plan_document, snapshot


def test_what_a_host_has_and_what_is_in_use():
    guests = [domain("web1", cpus_used=0.5), domain("web2", cpus_used=1.25), domain("old", state="shutoff")]
    found = load(snapshot("h1", *guests, free_bytes=16 * GIB))
    assert (found["guests"], found["vcpus"], found["cpus_used"]) == (2, 4, 1.75)
    assert (found["memory_bytes"], found["available_bytes"]) == (64 * GIB, 16 * GIB)
    assert found["guest_memory_bytes"] == 1024 * MIB


def test_a_host_of_which_nobody_measured_the_guests():
    assert load(snapshot("h1", domain("web1")))["cpus_used"] is None
    assert load(snapshot("h1"))["cpus_used"] == 0


def test_a_host_that_gave_no_snapshot_is_not_known():
    assert host_changes(["h1"], {}, {"h1": snapshot("h1")})[0]["before"] is None


def test_the_hosts_as_a_plan_leaves_them():
    seen = cluster(snapshot("h1", domain("web1"), free_bytes=4 * GIB), snapshot("h2", free_bytes=8 * GIB))
    first, second = planned_changes(["h1", "h2"], seen, plan_document(seen)["steps"])
    assert (first["before"]["guests"], first["after"]["guests"]) == (1, 0)
    assert second["after"]["available_bytes"] == 8 * GIB - 512 * MIB
    assert (second["before"]["vcpus"], second["after"]["vcpus"]) == (0, 2)
