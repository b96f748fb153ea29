# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who could not come home at first is tried again, as long as that brings somebody home."""

from __future__ import annotations

import json

import pytest

from ansible_collections.kvmops.cluster.tests.unit.builders import domain, snapshot, uuid_of

from .conftest import part

OPTIONS = """
import json
import pathlib

from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({name: {"type": "raw"} for name in (
    "name", "state", "owner", "reason", "force", "uri", "state_dir", "guests", "budget_s", "allow_monitor",
    "bandwidth_mib_s", "destinations", "encryption", "timeout_s", "plan", "fence", "window", "reserve_mib",
    "tune_network", "free_memory", "hooks", "guest_hooks", "progress_path", "incoming_limit", "files",
    "cpu_sample_s", "connect")}, supports_check_mode=True)
host, here = module.params["name"], pathlib.Path(module.params["state_dir"] or "/nowhere")
"""
#: A guest is a file in the folder of the host that it runs on.
HOST_INFO = (
    OPTIONS
    + """
snapshot = json.loads((here / "snapshot.json").read_text())
snapshot["domains"] = [json.loads(path.read_text()) for path in sorted((here / "guests").iterdir())]
module.exit_json(snapshot=snapshot)
"""
)
MAINTENANCE = (
    OPTIONS
    + """
module.exit_json(maintenance={"state": "active"}, previous={"state": "cordoned", "since": "2026-11-24T02:00:00Z"})
"""
)
#: No guest can come from c.
PATHS = (
    OPTIONS
    + """
bad = {"check": "connect", "ok": False, "code": "no_way", "reason": "no way from c", "remedy": "mend it"}
module.exit_json(paths=[
    {"schema": "kvmops.path/1", "source": host, "destination": end["name"], "ok": host != "c", "guests": [],
     "checks": [bad] if host == "c" else []}
    for end in module.params["destinations"]])
"""
)
MEASURE = (
    OPTIONS
    + """
module.exit_json(working_sets=[], calibration={}, refusals=[])
"""
)
#: A guest moves once it has failed as often as its file says.
APPLY = (
    OPTIONS
    + """
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result

results = []
for step in module.params["plan"]["steps"]:
    if step["source"] != host:
        continue
    name = step["guest"]["name"]
    fails = here.parent / "fails" / name
    left = int(fails.read_text()) if fails.exists() else 0
    if left:
        fails.write_text(str(left - 1))
    else:
        (here / "guests" / name).rename(here.parent / step["destination"] / "guests" / name)
    results.append(step_result(step, "failed" if left else "moved"))
undone = [one for one in results if one["outcome"] != "moved"]
(module.fail_json if undone else module.exit_json)(msg="some failed", results=results, run={})
"""
)
NAMES = ("web1", "web2", "db1")


class Cluster:
    """Hosts a, b and c; the guests of a are on the others."""

    def __init__(self, hosts, **fails):
        self.hosts, self.reports = hosts, hosts.folder / "reports"
        for module, text in (
            ("host_info", HOST_INFO),
            ("host_maintenance", MAINTENANCE),
            ("working_set_info", MEASURE),
            ("plan_apply", APPLY),
        ):
            hosts.pretend(module, text)
        for host in ("a", "b", "c"):
            (hosts.folder / host / "guests").mkdir(parents=True)
            self._write(f"{host}/snapshot.json", snapshot(host))
        for name, host in zip(NAMES, ("b", "b", "c"), strict=True):
            self._write(f"{host}/guests/{name}", domain(name))
        for name, number in fails.items():
            self._write(f"fails/{name}", number)

    def _write(self, path, document):
        file = self.hosts.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document), encoding="utf-8")

    def drained(self):
        """What is told of how they came there: one by a report, two by the record of a run that was broken off."""
        goal = {"kind": "drain", "hosts": ["a"]}
        rows = [{"uuid": uuid_of("web1"), "source": "a", "destination": "b", "outcome": "moved"}]
        report = {"schema": "kvmops.report/1", "plan": "drain-1", "goal": goal, "guests": rows, "stays": []}
        self._write("reports/drain-1.json", {**report, "started_at": "2026-11-24T02:10:00Z"})
        steps = [
            {"id": name, "guest": {"name": name, "uuid": uuid_of(name)}, "source": "a", "destination": host}
            for name, host in (("web2", "b"), ("db1", "c"))
        ]
        self._write("a/runs/drain-2/plan.json", {"id": "drain-2", "goal": goal, "steps": steps})

    def upgraded(self):
        """The record of a rolling upgrade on a."""
        guests = [{"name": name, "uuid": uuid_of(name), "source": "a"} for name in NAMES]
        record = {"schema": "kvmops.upgrade/1", "run": "r1", "phase": "upgraded", "owner": "alice", "guests": guests}
        self._write("a/upgrade.json", {**record, "at": "2026-11-24T02:10:00Z"})

    def restore(self, **variables):
        mine = {"restore_host_name": "a", "restore_host_report_dir": str(self.reports)}
        return self.hosts.play(part("restore_host", "main"), **mine, **variables)

    def places(self):
        return {path.name: path.parent.parent.name for path in self.hosts.folder.glob("?/guests/*")}


def test_who_failed_is_tried_again_until_a_pass_brings_nobody_home(hosts):
    cluster = Cluster(hosts, web2=1, db1=9)
    cluster.drained()

    outcome = cluster.restore(restore_host_passes=5)

    assert outcome.status == 0, outcome.text
    assert cluster.places() == {"web1": "a", "web2": "a", "db1": "c"}, outcome.text
    assert "One more pass (2 of at most 5): db1, web2" in outcome.words
    assert "One more pass (3 of at most 5): db1" in outcome.words
    assert "pass 4" not in outcome.words
    assert {lease["owner"] for lease in hosts.kept("lease.json").values()} == {None}


@pytest.mark.parametrize("passes", [1, 2])
def test_no_more_passes_than_asked_for_and_a_failure_at_the_end_if_all_must_be_home(hosts, passes):
    cluster = Cluster(hosts, web2=passes)
    cluster.drained()

    outcome = cluster.restore(restore_host_passes=passes, restore_host_on_blocked="stop")

    assert outcome.status == 2, outcome.text
    assert "web2 did not come home to a; the reasons and remedies are printed above. a is open" in outcome.words
    assert cluster.places() == {"web1": "a", "web2": "b", "db1": "a"}
    assert outcome.text.count("One more pass") == passes - 1
    assert {lease["owner"] for lease in hosts.kept("lease.json").values()} == {None}


def test_nobody_comes_home_to_a_host_that_would_promise_too_many_cpus(hosts):
    cluster = Cluster(hosts)
    cluster.drained()

    # 1.6 for all guests; each has two.
    outcome = cluster.restore(restore_host_vcpu_ratio=0.1)

    assert outcome.status == 0, outcome.text
    assert cluster.places() == {"web1": "b", "web2": "b", "db1": "c"}, outcome.text
    assert "One more pass" not in outcome.words


def test_after_an_upgrade_as_well_and_only_by_ways_that_were_tried(hosts):
    cluster = Cluster(hosts, web2=1)
    cluster.upgraded()
    hosts.pretend("migration_path_info", PATHS)
    run = {
        "__run_lease_owner": "alice",
        "__run_lease_run": "rolling_upgrade",
        "__rolling_upgrade_run": "r1",
        "__rolling_upgrade_hosts": ["a", "b", "c"],
        "__rolling_upgrade_planned": {"waves": []},
        "rolling_upgrade_report_dir": str(cluster.reports),
    }

    have = part("run", "lease", __run_lease_hosts=["a", "b", "c"])
    outcome = hosts.play(have, part("rolling_upgrade", "finish/bring_home"), **run)

    assert outcome.status == 0, outcome.text
    assert cluster.places() == {"web1": "a", "web2": "a", "db1": "c"}, outcome.text
    assert "no way from c" in outcome.words
    assert "One more pass, for guests that are not home: db1, web2" in outcome.words
