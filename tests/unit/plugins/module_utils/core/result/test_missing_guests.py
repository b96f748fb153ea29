# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.missing_guests import missing_guests
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, snapshot, uuid_of


def step(name, source="h1"):
    return {"guest": {"name": name, "uuid": uuid_of(name)}, "source": source, "destination": "h2", "moved_at": None}


RUNS = [{"plan": "drain-1", "steps": [step("web1"), step("web2"), step("db1", source="h3")]}]


def off(name, reason="unknown"):
    return domain(name, state="shutoff", state_reason=reason)


def names(h1=(), h2=(), **more):
    seen = cluster(snapshot("h1", *h1), snapshot("h2", *h2))
    return [one["reason"].split(" ", 1)[0] for one in missing_guests(RUNS, "h1", seen, **more)]


def test_who_runs_anywhere_is_not_missed():
    assert names(h1=[domain("web1")], h2=[domain("web2")]) == []
    assert names(h1=[domain("web1", state="paused")], h2=[domain("web2")]) == []
    assert names(h1=[off("web1", "migrated"), domain("web2")], h2=[domain("web1")]) == []


def test_who_runs_nowhere_is_missed_unless_somebody_has_shut_it_down():
    assert names(h1=[off("web1"), off("web2", "crashed")]) == ["web1", "web2"]
    assert names(h1=[off("web1", "shutdown"), off("web2", "destroyed")]) == []
    assert names(h2=[off("web1", "saved")]) == ["web2"]
    # A guest without a definition is gone with its host.
    assert names() == ["web1", "web2"]


@pytest.mark.parametrize("dismissed", [["web1", "web2"], [uuid_of("web1"), "web2"]])
def test_who_is_dismissed_is_not_missed(dismissed):
    assert names(dismissed=dismissed) == []


def test_an_operator_reads_where_it_is_and_what_starts_it():
    seen = cluster(snapshot("h1", off("web1")), snapshot("h2", domain("web2")))
    [found] = missing_guests(RUNS, "h1", seen)
    assert found["reason"] == "web1 ran on h1 when that was closed, and runs nowhere now: it is off on h1"
    assert found["remedy"] == (
        "start it: virsh start web1 on h1 (/var/log/libvirt/qemu/web1.log on the host where it ran last says how it"
        " ended); or dismiss it"
    )
    [found] = missing_guests(RUNS, "h1", seen, silent=["h9"])
    assert "runs nowhere now, unless it runs on h9, which gives no answer: it is off on h1" in found["reason"]
    assert found["remedy"].startswith(
        "first see that it does not run on h9; only then start it: virsh start web1 on h1"
    )
    [first, _second] = missing_guests(RUNS, "h1", cluster(snapshot("h1")))
    assert first["reason"].endswith("no host has a definition of it")
    assert first["remedy"].startswith("define it anew and start it (")
