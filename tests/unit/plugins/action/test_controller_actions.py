# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from unittest import mock

import pytest
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.playbook.task import Task
from ansible.template import Templar

from ansible_collections.kvmops.cluster.plugins.action import (
    cluster_view,
    measurement_view,
    migration_report,
    plan_info,
    plan_report,
    plan_review,
    preflight_report,
    report_trend,
    show_lines,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import sentence
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.shared_devices import pattern_refusal
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    cluster,
    domain,
    path,
    plan_document,
    record,
    resources,
    snapshot,
    step_result,
    working_set,
)


class Shown(list):
    """What an action has put on the terminal."""

    def display(self, message, color=None):
        self.extend(message.splitlines())

    def warning(self, message, formatted=False):
        self.append(f"WARNING {message}")


@pytest.fixture
def run(monkeypatch):
    """Run an action; whatever it does beyond documents and its display, to a connection for example, fails."""

    def run_action(plugin, hostvars=None, check_mode=False, **arguments):
        shown = Shown()
        if hasattr(plugin, "Display"):
            monkeypatch.setattr(plugin, "Display", lambda: shown)
        task = Task.load({"action": "kvmops.cluster.x", "args": arguments})
        task.check_mode, task.diff, task.async_val, task.args = check_mode, False, 0, arguments
        action = plugin.ActionModule(
            task=task,
            connection=mock.Mock(spec=["_shell"], _shell=mock.Mock(spec=["tmpdir"], tmpdir="/nowhere")),
            play_context=mock.Mock(check_mode=check_mode),
            loader=mock.Mock(),
            templar=mock.Mock(spec=Templar),
            shared_loader_obj=mock.Mock(),
        )
        hostvars = hostvars or {}
        return action.run(task_vars={"hostvars": hostvars, "ansible_play_hosts_all": list(hostvars)}), shown

    return run_action


def test_lines_are_shown_as_they_are(run):
    result, shown = run(show_lines, lines=["A  B", "1  é"])

    assert (result, shown) == ({"changed": False}, ["A  B", "1  é"])


def test_a_failure_comes_after_the_lines(run):
    result, shown = run(show_lines, lines=["A"], failure="db1 cannot leave h1")

    assert result == {"changed": False, "failed": True, "msg": "db1 cannot leave h1"}
    assert shown == ["A"]


SEEN = {
    "h1": {"seen": {"snapshot": snapshot("h1")}, "kvmops_cluster_migration_address": "198.18.0.11"},
    "h2": {"seen": {"snapshot": snapshot("h2", maintenance=record("cordoned"))}},
    "h3": {"seen": {"unreachable": True, "msg": "no route to host"}},
}


def test_a_view_names_who_is_open_and_who_is_absent(run):
    result, shown = run(cluster_view, SEEN, snapshots_from="seen")

    assert (list(result["snapshots"]), result["open"]) == (["h1", "h2"], ["h1"])
    assert result["absent"] == [{"host": "h3", "reason": "it cannot be reached: no route to host"}]
    assert result["endpoints"][0] == {
        "name": "h1",
        "uri": "qemu+ssh://root@h1/system",
        "migration_address": "198.18.0.11",
        "incoming": {},
        "mtu": None,
    }
    assert shown == ["WARNING h3 is left out and gets no guests: it cannot be reached: no route to host"]


def test_a_view_says_which_files_must_still_be_looked_for(run):
    kernel = {"kind": "file", "name": "/srv/vmlinuz-6", "what": "kernel"}
    seen = {
        "h1": {"seen": {"snapshot": snapshot("h1", domain("web1", requires=[kernel]), resources=resources())}},
        "h2": {"seen": {"snapshot": snapshot("h2", resources=resources())}},
        # A snapshot of an older release cannot be asked.
        "h3": {"seen": {"snapshot": snapshot("h3")}},
    }
    result, _shown = run(cluster_view, seen, snapshots_from="seen")
    assert result["files"] == ["/srv/vmlinuz-6", "/usr/bin/qemu-system-x86_64"]
    assert result["unasked"] == ["h1", "h2"]

    again = {"files": {"/srv/vmlinuz-6": True}}
    asked = {host: {"seen": {"snapshot": snapshot(host, resources=resources(**again))}} for host in ("h1", "h2")}
    result, _shown = run(
        cluster_view, {**asked, "h3": {"seen": {"skipped": True}}}, snapshots_from="seen", before=result
    )
    assert (list(result["snapshots"]), result["unasked"]) == (["h1", "h2", "h3"], [])


def test_a_host_that_does_not_answer_a_second_time_is_as_it_was(run):
    before, _shown = run(cluster_view, SEEN, snapshots_from="seen")
    silent = {host: {"seen": {"unreachable": True, "msg": "gone"}} for host in ("h1", "h2")}
    result, shown = run(
        cluster_view, {**silent, "h3": {"seen": {"skipped": True}}}, snapshots_from="seen", before=before
    )
    assert list(result["snapshots"]) == ["h1", "h2"]
    assert [one["host"] for one in result["absent"]] == ["h3"]
    assert len(shown) == 1


def test_a_view_knows_which_names_are_one_server(run):
    mount = {"path": "/shared", "type": "nfs4", "source": "nas:/guests", "shared": True}
    seen = {
        "h1": {"seen": {"snapshot": snapshot("h1", mounts=[mount])}},
        "h2": {
            "seen": {"snapshot": snapshot("h2", mounts=[{**mount, "source": "10.0.9.1:/guests"}])},
            "kvmops_cluster_same_servers": [["nas", "10.0.9.1"]],
        },
    }
    result, _shown = run(cluster_view, seen, snapshots_from="seen")
    assert [result["snapshots"][host]["mounts"][0]["server"] for host in seen] == ["nas", "nas"]

    seen["h1"]["kvmops_cluster_same_servers"] = ["nas", "10.0.9.1"]
    with pytest.raises(AnsibleError, match=r"kvmops_cluster_same_servers of h1 is .*: give lists of names"):
        run(cluster_view, seen, snapshots_from="seen")


def test_a_host_that_is_needed_must_be_there(run):
    with pytest.raises(AnsibleError, match="h3 is needed and does not answer: it cannot be reached"):
        run(cluster_view, SEEN, snapshots_from="seen", required=["h3"])


def test_a_host_that_is_needed_and_refuses_an_option_says_why(run):
    why = pattern_refusal(["/dev/sd*"])
    seen = {**SEEN, "h3": {"seen": {"failed": True, "msg": sentence(why), "refusal": why}}}
    with pytest.raises(AnsibleError) as told:
        run(cluster_view, seen, snapshots_from="seen", required=["h3"])
    assert str(told.value) == (
        "h3 is needed and gives no snapshot: shared_devices has '/dev/sd*', which can match /dev/sd...; the kernel "
        "gives such names in the order in which it finds devices, so on another host such a name may be another disk, "
        "and a guest would overwrite that one: list names that are the same on all hosts (/dev/disk/by-id/..., "
        "/dev/mapper/..., /dev/VG/LV) in kvmops_cluster_shared_devices, and use them in the guest's definition; see "
        "which there are: ls -l /dev/disk/by-id. Repair that, then run the same again."
    )


def test_measurements_are_put_together_and_what_is_missing_is_warned_of(run):
    web1 = working_set(domain("web1"))
    migrating = {"code": "migrating", "reason": "db1 is being migrated", "remedy": "wait for its end"}
    new = {"code": "never_measured", "reason": "new has not been measured", "remedy": "measure it"}
    seen = {
        "h1": {"m": {"working_sets": [web1], "refusals": [migrating, new], "calibration": {}}},
        "h2": {"m": {"failed": True, "msg": "budget_s is -1"}},
        "h3": {"m": {"skipped": True}},
    }
    result, shown = run(measurement_view, seen, measured_from="m")

    assert result["working_sets"] == [web1]
    assert [one["code"] for one in result["unmeasured"]] == ["migrating", "never_measured", "host_not_measured"]
    assert shown == [
        "WARNING Not measured on h1: db1 is being migrated: wait for its end",
        "WARNING Not measured on h2: budget_s is -1",
    ]


BEFORE = cluster(snapshot("h1", domain("web1"), domain("db1")), snapshot("h2"))
PLAN = plan_document(BEFORE)


def afterwards(*, h1=(), h2=(), outcomes=("moved", "moved")):
    """What the hosts of a play have registered after a drain."""
    results = [step_result(step, outcome) for step, outcome in zip(PLAN["steps"], outcomes, strict=True)]
    return {
        "h1": {"applied": {"results": results}, "after": {"snapshot": snapshot("h1", *map(domain, h1))}},
        "h2": {"after": {"snapshot": snapshot("h2", *map(domain, h2))}},
    }


def report(run, hostvars, **arguments):
    return run(migration_report, hostvars, plan=PLAN, results_from="applied", snapshots_from="after", **arguments)


def test_a_drain_that_is_done_is_told_and_kept(run, tmp_path):
    result, shown = report(run, afterwards(h2=("web1", "db1")), directory=str(tmp_path / "reports"))

    assert (result["empty"], result["report"]["ok"], result["changed"]) == (True, True, False)
    assert json.loads((tmp_path / "reports" / f"{PLAN['id']}.json").read_text(encoding="utf-8")) == result["report"]
    assert shown[-2:] == ["h1 runs no guest.", f"The report is in {result['path']}"]


def test_check_mode_writes_no_report(run, tmp_path):
    result, _shown = report(run, afterwards(h2=("web1", "db1")), directory=str(tmp_path / "r"), check_mode=True)

    assert (result["path"], list(tmp_path.iterdir())) == (None, [])


def test_a_guest_that_did_not_move_fails_the_task_and_leaves_its_result_short(run):
    hostvars = afterwards(h1=("web1",), h2=("db1",), outcomes=("moved", "failed"))

    result, shown = report(run, hostvars)

    assert result["msg"].startswith("The drain of h1 is not complete: 1 of 2 guests did not move as planned (web1).")
    assert set(result) == {"changed", "failed", "msg", "path", "paths", "left"}
    assert result["left"] == {"h1": ["web1"]}
    assert "h1 still runs web1, and stays cordoned." in shown


@pytest.mark.parametrize(("outcome", "where", "failed"), [("failed", "h1", False), ("moved", "nowhere", True)])
def test_a_tolerant_task_fails_only_when_a_guest_cannot_be_found(run, outcome, where, failed):
    hostvars = afterwards(h1=("web1",) if where == "h1" else (), h2=("db1",), outcomes=("moved", outcome))

    result, _shown = report(run, hostvars, tolerant=True)

    assert result.get("failed", False) is failed


def test_the_score_of_a_rebalance_is_shown_and_kept(run):
    figures = {"score_before": 0.8317, "score_planned": 0.2, "score_after": 0.2114}

    result, shown = report(run, afterwards(h2=("web1", "db1")), figures=figures)

    assert result["report"]["figures"] == figures
    assert "Score: 0.832 before, 0.211 after (0.200 planned)" in shown


def test_hosts_that_others_asked_count_as_if_they_had_told_themselves(run):
    """With --limit, a host of the play asks those that are not, in a loop."""
    answer = {"snapshot": snapshot("h2"), "ansible_loop_var": "other", "other": "h2"}
    silent = {"unreachable": True, "msg": "no route to host", "ansible_loop_var": "other", "other": "h3"}
    asked = {"seen": {"snapshot": snapshot("h1")}, "elsewhere": {"results": [answer, silent]}}

    result, _shown = run(cluster_view, {"h1": asked, "h2": {}, "h3": {}}, snapshots_from=["seen", "elsewhere"])

    assert list(result["snapshots"]) == ["h1", "h2"]
    assert [missing["host"] for missing in result["absent"]] == ["h3"]


def test_a_guest_that_came_meanwhile_fails_the_task(run):
    result, shown = report(run, afterwards(h1=("new1",), h2=("web1", "db1")))

    assert "guests came to it meanwhile" in result["msg"]
    assert any("new1 came to h1 after the plan was made" in line for line in shown)


def test_a_run_that_broke_down_is_told_even_where_the_guests_arrived(run):
    hostvars = afterwards(h2=("web1", "db1"))
    hostvars["h1"]["applied"] = {"failed": True, "msg": "h1 has not answered for 300 s."}

    result, shown = report(run, hostvars)

    assert "failed" not in result
    assert any("The run on h1 did not end normally: h1 has not answered for 300 s." in line for line in shown)


def test_a_plan_that_is_none_is_refused(run):
    with pytest.raises(AnsibleError, match="this is not a plan"):
        run(migration_report, {}, plan={}, results_from="applied", snapshots_from="after")


def saved(tmp_path, plan=None):
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(plan or PLAN), encoding="utf-8")
    return str(path)


def test_a_saved_plan_is_given_back_as_it_was_made(run, tmp_path):
    result, _shown = run(plan_info, path=saved(tmp_path), snapshots=BEFORE, goal="drain", hosts=["h1"])

    assert (result["plan"], result["blocked"], result["changes"]) == (PLAN, [], [])
    assert result["table"][0].startswith(f"Plan {PLAN['id']}: 2 guests")


def test_a_saved_plan_can_be_read_without_a_look_at_the_cluster(run, tmp_path):
    result, _shown = run(plan_info, path=saved(tmp_path))

    assert result["plan"] == PLAN


def test_a_saved_plan_is_refused_once_the_cluster_is_another_and_says_what_changed(run, tmp_path):
    now = cluster(snapshot("h1", domain("web1"), domain("db1")), snapshot("h2", maintenance=record("cordoned")))

    result, _shown = run(plan_info, path=saved(tmp_path), snapshots=now)

    assert result["failed"]
    assert [change["code"] for change in result["changes"]] == ["cordoned"]
    assert "so no guest was moved: h2 is cordoned" in result["msg"]


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"goal": "evacuate"}, "it is for the drain of h1, not for the evacuation: give"),
        ({"hosts": ["h2"]}, "it is for the drain of h1, not for the drain of h2"),
        ({"path": "/nowhere/plan.json"}, "The plan /nowhere/plan.json cannot be read: No such file or directory"),
    ],
)
def test_a_plan_for_something_else_is_refused(run, tmp_path, asked, why):
    with pytest.raises(AnsibleError, match=why):
        run(plan_info, **{"path": saved(tmp_path), "snapshots": BEFORE, **asked})


CONNECT = {
    "h1": {"connect_uri": "qemu+ssh://root@h1/system", "migration_address": "198.18.0.11"},
    "h2": {"connect_uri": "qemu+ssh://root@h2/system", "migration_address": None},
}


def test_a_plan_with_the_addresses_of_the_inventory_is_read(run, tmp_path):
    result, _shown = run(plan_info, path=saved(tmp_path), connect=CONNECT, intent={"max_downtime_ms": 200})

    assert result["plan"] == PLAN


def test_nobody_is_asked_whom_the_inventory_does_not_have(run, tmp_path):
    result, _shown = run(plan_info, path=saved(tmp_path), connect={})

    assert {host["connect_uri"] for host in result["plan"]["hosts"].values()} == {None}
    assert {host["migration_address"] for host in result["plan"]["hosts"].values()} == {None}


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        (
            {"connect": {**CONNECT, "h1": {"connect_uri": "qemu+ssh://root@evil/system", "migration_address": None}}},
            (
                "cannot be used: its addresses are not those of the inventory: the connect URI of h1 is "
                "'qemu+ssh://root@h1/system' in the plan and 'qemu+ssh://root@evil/system' in the inventory; "
                "the migration address of h1 is '198.18.0.11' in the plan and not given in the inventory: "
                "find out who changed them; if the inventory has changed, make a new plan."
            ),
        ),
        (
            {"intent": {"max_downtime_ms": 100}},
            (
                "cannot be used: step s001 (db1) permits more than this run does: max_downtime_ms=200 (the run: 100): "
                "permit it to this run as well, in the same words as when the plan was made, or make a new plan."
            ),
        ),
        ({"intent": {"max_downtime_ms": "soon"}}, "cannot be used: max_downtime_ms must be a whole number"),
        (
            {"sha256": "ab" * 32},
            f", and the plan that was asked for has {'ab' * 32}: give the file that was reviewed (sha256sum tells",
        ),
    ],
)
def test_a_plan_that_leads_elsewhere_or_permits_more_is_refused(run, tmp_path, asked, why):
    with pytest.raises(AnsibleError) as caught:
        run(plan_info, path=saved(tmp_path), **asked)
    assert why in str(caught.value)


def test_a_plan_is_pinned_by_its_digest(run, tmp_path):
    path_ = saved(tmp_path)
    digest = hashlib.sha256(Path(path_).read_bytes()).hexdigest()
    for wanted in (digest, f" {digest.upper()}\n", f"sha256:{digest}"):
        assert run(plan_info, path=path_, sha256=wanted)[0]["plan"] == PLAN


def test_a_plan_that_names_another_guest_than_its_uuid_is_refused(run, tmp_path):
    plan = json.loads(json.dumps(PLAN))
    plan["steps"][0]["guest"]["name"] = "unimportant"
    file = tmp_path / "edited.json"
    file.write_text(json.dumps(plan), encoding="utf-8")

    result, _shown = run(plan_info, path=str(file), snapshots=BEFORE)

    assert (result["failed"], [change["code"] for change in result["changes"]]) == (True, ["other_guest"])
    assert "of step s001 is db1, not unimportant" in result["msg"]


def test_a_plan_for_review_is_written_once(run, tmp_path):
    asked = {"plan": PLAN, "directory": str(tmp_path / "plans"), "apply": "ansible-playbook x -e y_plan=PLAN"}

    assert run(plan_review, check_mode=True, **asked)[0]["changed"]
    assert list(tmp_path.iterdir()) == []
    first, _shown = run(plan_review, **asked)
    again, _shown = run(plan_review, **asked)

    assert (first["changed"], again["changed"]) == (True, False)
    assert json.loads((tmp_path / "plans" / "drain.json").read_text(encoding="utf-8")) == PLAN
    assert f"-e y_plan={first['paths']['json']}" in (tmp_path / "plans" / "drain.md").read_text(encoding="utf-8")
    assert sorted(path.name for path in (tmp_path / "plans").iterdir()) == ["drain.json", "drain.md", "drain.xml"]


def test_no_link_in_the_place_of_a_plan_for_review_is_followed(run, tmp_path):
    (tmp_path / "precious").write_text("precious")
    for kind in ("json", "xml", "md"):
        (tmp_path / f"drain.{kind}").symlink_to(tmp_path / "precious")
    asked = {"plan": PLAN, "directory": str(tmp_path), "apply": "x"}
    assert run(plan_review, **asked)[0]["changed"]
    assert (tmp_path / "precious").read_text() == "precious"
    assert not any(path.is_symlink() for path in tmp_path.iterdir())
    assert not run(plan_review, **asked)[0]["changed"]


def test_a_report_that_cannot_be_written_is_told_after_what_became_of_the_guests(run, tmp_path):
    (tmp_path / "reports").write_text("a file")
    there = afterwards(h2=("web1", "db1"))
    with pytest.raises(AnsibleError, match=r"The report .* cannot be written: .*Give another directory"):
        report(run, there, directory=str(tmp_path / "reports"))
    (tmp_path / "precious").write_text("precious")
    (tmp_path / f"{PLAN['id']}.json").symlink_to(tmp_path / "precious")
    result, _shown = report(run, there, directory=str(tmp_path))
    assert result["path"] == str(tmp_path / f"{PLAN['id']}.json")
    assert (tmp_path / "precious").read_text() == "precious"


def test_a_report_is_written_in_each_format_and_is_private(run, tmp_path):
    formats = ["html", "markdown", "junit", "csv", "json"]

    result, shown = report(run, afterwards(h2=("web1", "db1")), directory=str(tmp_path), formats=formats)

    assert set(result["paths"]) == set(formats)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".html", ".json", ".md", ".xml"]
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert shown[-1] == f"The report is in {', '.join(result['paths'].values())}"


def test_an_operator_says_who_else_may_read_a_report(run, tmp_path):
    report(run, afterwards(h2=("web1", "db1")), directory=str(tmp_path), mode="0644")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}
    with pytest.raises(AnsibleError, match=r"'0777' is no mode for a report: give one such as '0600' or '0640'"):
        report(run, afterwards(h2=("web1", "db1")), directory=str(tmp_path), mode="0777")


def test_a_report_has_what_the_sources_have_recorded_and_what_was_measured(run):
    told = [
        {"at": "2026-11-24T02:00:00.900Z", "event": "step.started", "data": {}},
        {"at": "2026-11-24T02:00:01.310Z", "event": "migration.started", "data": {"destination": "h2"}},
        {"at": "2026-11-24T02:00:05.100Z", "event": "step.finished", "data": {}},
    ]
    hostvars = afterwards(h2=("web1", "db1"))
    # The second one is of another shape: as if nothing were recorded.
    hostvars["h1"]["recorded"] = {"events": {"s001": told, "s002": [{"at": 5}]}}
    measured = working_set(domain("web1"))

    result, _shown = report(
        run, hostvars, recorded_from="recorded", before=BEFORE, working_sets=[measured, {"schema": "odd"}]
    )

    rows = {row["step"]: row for row in result["report"]["guests"]}
    assert [phase["phase"] for phase in rows["s001"]["phases"]] == ["prepare", "pre-copy"]
    assert rows["s002"]["phases"] == []
    assert [row["working_set"] for row in rows.values() if row["guest"] == "web1"] == [measured]
    hosts = {host["host"]: host for host in result["report"]["hosts"]}
    assert (hosts["h1"]["before"]["guests"], hosts["h1"]["after"]["guests"]) == (2, 0)
    assert hosts["h2"]["connect_uri"] == PLAN["hosts"]["h2"]["connect_uri"]


def test_a_report_says_how_to_go_on(run):
    result, _shown = report(run, afterwards(h1=("web1",), h2=("db1",), outcomes=("moved", "failed")), tolerant=True)
    assert result["report"]["again"] == "ansible-playbook kvmops.cluster.drain_host -e drain_host_name=h1"


def test_a_plan_is_written_before_anything_is_done(run, tmp_path):
    asked = {"plan": PLAN, "snapshots": BEFORE, "directory": str(tmp_path), "formats": ["html", "csv", "json"]}

    assert run(plan_report, check_mode=True, **asked)[0]["paths"]
    assert list(tmp_path.iterdir()) == []
    result, shown = run(plan_report, **asked)

    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PLAN['id']}.plan.csv", f"{PLAN['id']}.plan.html"]
    assert shown == [f"The plan is in {', '.join(result['paths'].values())}"]


def test_old_reports_are_shown_side_by_side(run, tmp_path):
    report(run, afterwards(h2=("web1", "db1")), directory=str(tmp_path), formats=["html"])
    (tmp_path / "torn.json").write_text('{"schema": "kvmops.report/1"')
    right = json.loads((tmp_path / f"{PLAN['id']}.json").read_text(encoding="utf-8"))
    (tmp_path / "odd.json").write_text(json.dumps({**right, "ok": 5}))

    result, shown = run(report_trend, path=str(tmp_path), formats=["html", "csv"])

    assert [(one["what"], one["moved"], one["guests"]) for one in result["runs"]] == [("drain of h1", 2, 2)]
    assert "1 run, 1 of them complete; 0 guests were down for longer than accepted" in shown
    assert f'href="./{PLAN["id"]}.html"' in (tmp_path / "reports.html").read_text(encoding="utf-8")
    assert (tmp_path / "reports.csv").read_text(encoding="utf-8").startswith("plan,what,started_at,ok,guests,moved,")
    assert any(line.startswith(f"WARNING The report on {PLAN['id']} is left out") for line in shown)


def test_a_folder_without_reports_is_told(run, tmp_path):
    with pytest.raises(AnsibleActionFail, match=r"There is no report in .*Give the folder"):
        run(report_trend, path=str(tmp_path))


def preflight(run, paths, absent=(), **arguments):
    seen = cluster(snapshot("h1"), snapshot("h2"))
    connect = {
        host: {"migration_address": "198.18.0.11", "bandwidth_mib_s": arguments.pop(host, None)} for host in seen
    }
    view = {"at": "2026-11-24T02:00:03Z", "snapshots": seen, "absent": list(absent), "connect": connect}
    hostvars = {"h1": {"tried": paths}, "h2": {"tried": {"paths": [path("h2", "h1")]}}}
    return run(
        preflight_report,
        hostvars,
        view=view,
        paths_from="tried",
        started_at="2026-11-24T02:00:00Z",
        **arguments,
    )


def test_a_sound_cluster_passes(run):
    result, shown = preflight(run, {"paths": [path("h1", "h2")]})

    assert (result["findings"], "failed" in result) == ([], False)
    assert shown[:3] == ["FROM \\ TO  h1  h2", "h1         -   ok", "h2         ok  -"]
    told = "mixed. Ansible works as somebody (unknown); hosts reach each other without a login"
    assert [line for line in shown[3:] if line] == [f"Rights: {told}; libvirt lets who reaches it do everything."]


def test_a_send_buffer_that_costs_much_is_only_noted_and_only_of_sources(run):
    tried = {"paths": [path("h1", "h2")]}

    result, shown = preflight(run, tried, h1=23, h2=23, sources=["h1"], destinations=["h2"])

    assert [(found["host"], found["bad"]) for found in result["findings"]] == [("h1", False)]
    assert "failed" not in result
    assert any(line.startswith("h1: note: 1.6 MiB are unsent in the send buffer") for line in shown)
    assert shown[-1].endswith("drain_host_tune_network=true")


def test_a_broken_path_is_shown_with_its_remedy_and_fails(run):
    check = {"check": "ports", "ok": False, "code": "filtered", "reason": "no answer", "remedy": "open TCP 49152"}

    result, shown = preflight(run, {"paths": [path("h1", "h2", ok=False, checks=[check])]})

    assert result["msg"].startswith("Guests cannot be moved everywhere yet: 1 of 2 paths do not work.")
    where = shown.index("h1 -> h2")
    assert shown[where : where + 3] == ["h1 -> h2", "  ports: no answer", "    -> open TCP 49152"]


def test_a_root_ssh_mesh_is_one_line_with_its_remedy_and_stops_nothing(run, monkeypatch):
    hosts = cluster(snapshot("h1"), snapshot("h2"))
    view = {
        "at": "2026-11-24T02:00:03Z",
        "snapshots": hosts,
        "absent": [],
        "connect": {host: {"connect_uri": f"qemu+ssh://root@{host}/system", "bandwidth_mib_s": None} for host in hosts},
    }
    hostvars = {"h1": {"tried": {"paths": [path("h1", "h2")]}}, "h2": {"tried": {"paths": [path("h2", "h1")]}}}
    result, shown = run(preflight_report, hostvars, view=view, paths_from="tried", started_at="2026-11-24T02:00:00Z")
    assert "failed" not in result
    where = shown.index(
        "h1 and h2: note: other hosts log in here as root over ssh (a root ssh mesh): who is root on one host is root "
        "on all"
    )
    assert shown[where + 1] == (
        "  -> let the playbook kvmops.cluster.secure_hosts set up users with few rights "
        "(docs/guides/least-privilege.md)"
    )


def test_a_source_that_could_try_nothing_fails(run):
    result, shown = preflight(run, {"failed": True, "msg": "out of memory"})

    assert "1 fault was found on hosts" in result["msg"]
    assert "h1: out of memory" in shown


def test_who_plans_from_it_is_told_all_the_same_but_not_stopped(run):
    check = {"check": "ports", "ok": False, "code": "filtered", "reason": "no answer", "remedy": "open TCP 49152"}
    absent = [{"host": "h3", "reason": "it cannot be reached"}]

    result, shown = preflight(run, {"paths": [path("h1", "h2", ok=False, checks=[check])]}, absent, tolerant=True)

    assert ("failed" in result, [found["bad"] for found in result["findings"]]) == (False, [False])
    assert {"h1 -> h2", "h3: note: it cannot be reached"} <= set(shown)


@pytest.mark.parametrize(("sources", "failed"), [([], True), (["h1"], False)])
def test_an_absent_host_matters_if_it_plays_a_part(run, sources, failed):
    absent = [{"host": "h3", "reason": "it cannot be reached"}]

    result, _shown = preflight(
        run, {"paths": [path("h1", "h2")]}, absent, sources=sources, destinations=["h2"] if sources else []
    )

    assert result.get("failed", False) is failed


def test_an_intent_that_makes_no_sense_is_refused(run):
    with pytest.raises(AnsibleError, match="did you mean encryption"):
        preflight(run, {"paths": []}, intent={"encription": "off"})
