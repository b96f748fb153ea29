# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.filter.missing_guests import missing_guests as as_filter
from ansible_collections.kvmops.cluster.tests.unit.builders import cluster, snapshot, uuid_of


def step(name, source="h1"):
    return {"guest": {"name": name, "uuid": uuid_of(name)}, "source": source, "destination": "h2", "moved_at": None}


RUNS = [{"plan": "drain-1", "steps": [step("web1"), step("web2"), step("db1", source="h3")]}]


def test_the_filter_takes_what_the_modules_return():
    view = {"snapshots": cluster(snapshot("h1")), "absent": [{"host": "h2", "reason": "off"}]}
    assert [one["code"] for one in as_filter({"h1": RUNS, "h3": RUNS}, view)] == ["guest_missing"] * 3
    assert as_filter({"h1": RUNS}, view, "web1, web2") == []
    with pytest.raises(AnsibleFilterError, match="missing_guests takes a view with snapshots, not list"):
        as_filter({"h1": RUNS}, [])
