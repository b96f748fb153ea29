# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.cluster.plugins.filter.working_set_table import FilterModule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast.calibration import new_path
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.registered_results import measurements
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    MIB,
    cluster,
    domain,
    record,
    snapshot,
    working_set,
)

QUIET, HOT, NEW = domain("quiet"), domain("hot", intent={"max_downtime_ms": 200}), domain("new")
NEVER = {"code": "never_measured", "reason": "new has not been measured on this host yet", "remedy": "measure it"}
table = FilterModule().filters()["working_set_table"]


def view(*hosts, bandwidth=22.8):
    seen = cluster(*(hosts or (snapshot("h1", QUIET, HOT, NEW), snapshot("h2"))))
    connect = {host: {"bandwidth_mib_s": bandwidth} for host in seen}
    return {"snapshots": seen, "connect": connect, "open": [h for h in seen if is_open(seen[h])]}


def is_open(seen):
    return seen["maintenance"]["state"] == "active"


def measured(*sets, refusals=(), paths=None):
    learned = {"guests": {}, "paths": paths or {}}
    return measurements({"h1": {"working_sets": list(sets), "refusals": list(refusals), "calibration": learned}})


SETS = [working_set(QUIET), working_set(HOT, hot_bytes=128 * MIB)]


def test_every_guest_with_what_it_does_and_what_its_move_costs():
    lines = table(measured(*SETS, refusals=[NEVER]), view())
    assert " ".join(lines[0].split()) == "HOST GUEST MEMORY TOUCHED TIME SENT DOWNTIME HOW WHAT IT DOES"
    assert lines[1].split()[:6] == ["h1", "hot", "512", "MiB", "128", "MiB"]
    assert lines[2].split()[:6] == ["h1", "quiet", "512", "MiB", "128", "MiB"]
    assert lines[2].endswith("rewrites 2 MiB within 1.0 s, 0 MiB/s beyond")
    assert " ms " in lines[2]
    assert "Not measured yet: new." in lines
    [stuck] = [number for number, line in enumerate(lines) if line.startswith("hot cannot be moved as intended: ")]
    assert any("allow_postcopy" in line for line in lines[stuck:])


def test_what_is_permitted_counts():
    lines = table(measured(*SETS), view(), intent={"allow_postcopy": True})
    assert "post-copy" in lines[1]
    assert not any("cannot be moved" in line for line in lines)


def test_the_fastest_open_host_is_the_one_to_compare_with():
    rate = {"mean": 200e6, "deviation": 1e5, "seen": 5}
    fast = {**new_path(), "learned": {"bandwidth_bytes_per_s": rate}}
    hosts = (snapshot("h1", QUIET), snapshot("h2"), snapshot("h3"), snapshot("h4", maintenance=record("cordoned")))
    known = view(*hosts, bandwidth=None)
    slow = table(measured(SETS[0]), known)
    assert "is not known yet, so there is no forecast" in " ".join(slow)
    to_h3 = table(measured(SETS[0], paths={"h3": fast}), known)
    assert "Nobody knows" not in " ".join(to_h3)
    assert table(measured(SETS[0], paths={"h4": fast}), known) == slow, "h4 takes no guests"


def test_a_guest_alone_in_the_world_is_shown_without_a_forecast():
    lines = table(measured(SETS[0]), view(snapshot("h1", QUIET)))
    assert lines[1].split()[6:10] == ["-", "-", "-", "-"]


def test_a_guest_that_is_unlike_usual_is_named():
    odd = {**SETS[0], "unusual": "it dirties 12 times as much as in the last 5 measurements"}
    assert "quiet behaves unusually: it dirties 12 times as much as in the last 5 measurements" in table(
        measured(odd), view()
    )


def test_a_guest_that_has_left_since_is_left_out():
    assert table(measured(*SETS), view(snapshot("h1", QUIET), snapshot("h2")))[1:] != []
    assert not any("hot" in line for line in table(measured(*SETS), view(snapshot("h1", QUIET), snapshot("h2"))))


def test_nothing_measured():
    assert table(measured(refusals=[NEVER]), view()) == ["No guest was measured.", "", "Not measured yet: new."]


def test_awkward_names():
    guests = [domain(name) for name in AWKWARD_NAMES]
    lines = table(measured(*map(working_set, guests)), view(snapshot("h1", *guests), snapshot("h2")))
    assert len(lines) == 1 + len(AWKWARD_NAMES)


@pytest.mark.parametrize(
    ("given", "seen", "intent", "text"),
    [
        ([], {"snapshots": {}}, {}, "takes measurements with working_sets, not list"),
        ({"working_sets": []}, {}, {}, "takes a view with snapshots, not dict"),
        ({"working_sets": [], "hosts": {}, "calibration": {}, "unmeasured": []},
         {"snapshots": {}, "connect": {}, "open": []}, {"max_downtime_ms": 0}, "max_downtime_ms must be"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(given, seen, intent, text):
    with pytest.raises(AnsibleFilterError, match=text):
        table(given, seen, intent=intent)
