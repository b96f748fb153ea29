# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.restore_claims import home_returns, left_from
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, domain, snapshot, uuid_of


def wanted(seen, left=(), hosts=("h1",)):
    return [(one.domain["name"], one.source, one.home) for one in home_returns(hosts, seen, left)]


def test_guests_come_home():
    seen = cluster(
        snapshot("h1", domain("here", home="h1")),
        snapshot("h2", domain("b", home="h1"), domain("a", home="h1"), domain("native", home="h2"), domain("stray")),
        snapshot("h3", domain("c", home="h1"), domain("off", home="h1", state="shutoff")),
    )
    assert wanted(seen) == [("a", "h2", "h1"), ("b", "h2", "h1"), ("c", "h3", "h1")]


def test_those_that_left_come_back_unless_they_have_another_home_now():
    seen = cluster(
        snapshot("h1"),
        snapshot("h2", domain("web1"), domain("web2", home="h2"), domain("web3", home="h1"), domain("web4")),
    )
    assert [name for name, *_rest in wanted(seen, [uuid_of(f"web{n}") for n in (1, 2, 3)])] == ["web1", "web3"]


def test_who_left_is_read_from_whatever_tells_it():
    rows = [
        "11111111-0000-0000-0000-000000000000",
        {"guest": "report", "uuid": "u-report", "source": "h1", "destination": "h2", "outcome": "moved"},
        {"guest": {"name": "result", "uuid": "u-result"}, "source": "h1", "outcome": "already_there"},
        {"id": "s001", "guest": {"name": "step", "uuid": "u-step"}, "source": "h1"},
        {"guest": "failed", "uuid": "u-failed", "source": "h1", "outcome": "failed"},
        {"guest": "other", "uuid": "u-other", "source": "h3", "outcome": "moved"},
    ]
    assert left_from("h1", rows) == {"11111111-0000-0000-0000-000000000000", "u-report", "u-result", "u-step"}
