# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from unittest import mock

import pytest
from ansible.errors import AnsibleError
from ansible.playbook.task import Task
from ansible.template import Templar

from ansible_collections.kvmops.cluster.plugins.action.migration_plan import ActionModule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    GIB,
    MIB,
    cluster,
    domain,
    path,
    record,
    snapshot,
    uuid_of,
    working_set,
)


def run(check_mode=False, diff=False, **arguments):
    """Run the action; whatever it does beyond documents, to a connection for example, fails."""
    task = Task.load({"action": "kvmops.cluster.migration_plan", "args": arguments})
    task.check_mode, task.diff, task.async_val = check_mode, diff, 0
    task.args = arguments
    connection = mock.Mock(spec=["_shell"], _shell=mock.Mock(spec=["tmpdir"], tmpdir="/nowhere"))
    action = ActionModule(
        task=task,
        connection=connection,
        play_context=mock.Mock(check_mode=check_mode),
        loader=mock.Mock(),
        templar=mock.Mock(spec=Templar),
        shared_loader_obj=mock.Mock(),
    )
    return action.run(task_vars={})


def hosts():
    return [snapshot("h1", domain("web1"), domain("web2")), snapshot("h2"), snapshot("h3")]


def test_a_drain():
    connect = {"h2": {"connect_uri": "qemu+ssh://root@h2/system", "migration_address": "198.18.0.12"}}
    result = run(goal="drain", hosts=["h1"], snapshots=hosts(), connect=connect, intent={"deadline_s": "60"})
    assert result["changed"] is False
    assert read_plan(json.dumps(result["plan"])) == result["plan"]
    assert [step["destination"] for step in result["plan"]["steps"]] == ["h2", "h3"]
    assert result["plan"]["intent"] == {"deadline_s": 60}
    assert result["plan"]["hosts"]["h2"]["migration_address"] == "198.18.0.12"
    assert result["table"][0] == f"Plan {result['plan']['id']}: 2 guests (1 GiB) leave h1"
    assert result["blocked"] == []


def test_snapshots_by_host_and_check_mode_are_the_same():
    as_list = run(goal="drain", hosts=["h1"], snapshots=hosts())
    by_host = run(check_mode=True, goal="drain", hosts=["h1"], snapshots=cluster(*hosts()))
    assert by_host["plan"]["steps"] == as_list["plan"]["steps"]


def test_each_plan_has_an_id_of_its_own():
    ids = {run(goal="drain", hosts=["h1"], snapshots=hosts())["plan"]["id"] for _attempt in range(5)}
    assert len(ids) > 1


def test_a_way_home():
    seen = [snapshot("h1"), snapshot("h2", domain("web1", home="h1"), domain("web2"), domain("native"))]
    result = run(goal="restore", hosts=["h1"], snapshots=seen, left=[uuid_of("web2")])
    assert [step["guest"]["name"] for step in result["plan"]["steps"]] == ["web1", "web2"]


def test_excluded_guests_are_no_blocked_ones():
    seen = [snapshot("h1", *map(domain, AWKWARD_NAMES), domain("big", memory_bytes=500 * GIB)), snapshot("h2")]
    result = run(goal="drain", hosts=["h1"], snapshots=seen, exclude=list(AWKWARD_NAMES))
    assert sorted(stay["guest"]["name"] for stay in result["plan"]["stays"]) == sorted([*AWKWARD_NAMES, "big"])
    assert [stay["guest"]["name"] for stay in result["blocked"]] == ["big"]
    result = run(goal="drain", hosts=["h1"], snapshots=seen, exclude="domains[?contains(name, 'i')]")
    assert "big" not in [stay["guest"]["name"] for stay in result["blocked"]]


def uneven():
    """All guests on the first of three hosts."""
    return [snapshot("h1", *(domain(f"g{n}", memory_bytes=4 * GIB) for n in range(6))), snapshot("h2"), snapshot("h3")]


def test_an_evacuation_of_several_hosts():
    seen = [snapshot("h1", domain("a")), snapshot("h2", domain("b")), snapshot("h3"), snapshot("h4")]
    result = run(goal="evacuate", hosts=["h1", "h2"], snapshots=seen)
    assert {step["destination"] for step in result["plan"]["steps"]} == {"h3", "h4"}
    assert result["plan"]["goal"] == {"kind": "evacuate", "hosts": ["h1", "h2"]}
    assert result["plan"]["id"].startswith("evacuate-h1-and-1-more-")


def test_a_rebalance_tells_the_score_before_and_after():
    result = run(goal="rebalance", snapshots=uneven())
    figures = result["figures"]
    assert figures["score_after"] < 0.2 * figures["score_before"]
    assert figures["guests"] == len(result["plan"]["steps"]) == 4
    assert result["plan"]["id"].startswith("rebalance-cluster-")
    assert result["table"][0].endswith(": 4 guests (16 GiB) move to rebalance the cluster")
    assert any(line.startswith("Score: ") for line in result["table"])
    again = run(goal="rebalance", snapshots=[snapshot("h1", domain("a")), snapshot("h2", domain("b"))])
    assert ([one["code"] for one in again["remarks"]], again["plan"]["steps"]) == (["balanced"], [])
    assert again["table"][0].endswith(": nothing has to move")
    assert again["plan"]["remarks"] == again["remarks"]


def test_a_rebalance_keeps_to_its_hosts_rules_and_resting_guests():
    def moved(**arguments):
        steps = run(goal="rebalance", snapshots=uneven(), **arguments)["plan"]["steps"]
        return [(step["guest"]["name"], step["destination"]) for step in steps]

    assert {destination for _name, destination in moved(hosts=["h1", "h2"])} == {"h2"}
    assert len(moved(rules={"most_moves": "1"})) == 1
    assert len(moved(rules={"most_mib": 9000})) == 2
    assert moved(rules={"most_moves": 0}) == []
    assert moved(rules={"act_above": 5}) == []
    assert "g0" not in dict(moved(resting=[uuid_of("g0")]))
    everyone = [uuid_of(f"g{number}") for number in range(6)]
    [told] = run(goal="rebalance", snapshots=uneven(), resting=everyone)["remarks"]
    assert told["reason"].endswith("improves it enough (6 in their cool-down)")
    assert moved(weights={"memory": 0, "cpu": 0, "count": 0, "pressure": 0}) == []


def test_what_guests_and_hosts_are_measured_to_do_counts():
    """Of guests that are alike, those that use their CPUs move, and from the host where something waits for them."""
    quiet = [domain(f"q{n}", vcpus=8, cpus_used=0.0) for n in range(3)]
    seen = [snapshot("h1", *quiet, *(domain(f"busy{n}", vcpus=8, cpus_used=6.0) for n in range(3)))]
    seen.append(snapshot("h2", *(domain(f"p{n}", vcpus=8, cpus_used=0.0) for n in range(6))))
    steps = run(goal="rebalance", snapshots=seen, rules={"most_moves": 1})["plan"]["steps"]
    assert [step["guest"]["name"][:4] for step in steps] == ["busy"]
    seen = [snapshot(host, *(domain(f"{host}-{n}", vcpus=8, cpus_used=4.0) for n in range(4))) for host in ("h1", "h2")]
    calm = run(goal="rebalance", snapshots=seen)["figures"]["score_before"]
    seen[0]["pressure"] = {"cpu": 0.8, "memory": None, "io": None}
    only = {"memory": 0, "cpu": 0, "count": 0}
    pressed = run(goal="rebalance", snapshots=seen, rules={"most_moves": 1}, weights=only)
    assert pressed["figures"]["score_before"] > calm + 0.3
    alike = {"cpu": 0.8, "memory": None, "io": None}
    idle = [*(dict(one, pressure=alike) for one in seen), snapshot("h3", pressure=alike)]
    without = run(goal="rebalance", snapshots=[*seen, snapshot("h3")], weights={"pressure": 0})
    assert run(goal="rebalance", snapshots=idle)["figures"]["score_before"] == without["figures"]["score_before"]
    assert [step["source"] for step in pressed["plan"]["steps"]] == ["h1"]


def test_a_rolling_upgrade_is_told_wave_by_wave_and_its_plan_is_the_first_wave():
    seen = [snapshot("h1", domain("a")), snapshot("h2", domain("b")), snapshot("h3")]
    result = run(goal="upgrade", hosts=["h1", "h2", "h3"], snapshots=seen)
    waves = result["waves"]
    assert sorted(host for wave in waves for host in wave["hosts"]) == ["h1", "h2", "h3"]
    assert waves[0]["hosts"] == ["h3"], "the empty one comes first, so that nobody moves twice"
    assert result["figures"]["moves_per_guest"] == 1.0
    for wave in waves:
        assert read_plan(json.dumps(wave["plan"])) == wave["plan"]
        assert all(step["source"] in wave["hosts"] for step in wave["plan"]["steps"])
        assert wave["plan"]["goal"] == {"kind": "upgrade", "hosts": wave["hosts"]}
        assert wave["seconds"] == wave["plan"]["expected"]["seconds"]
    assert len({wave["plan"]["id"] for wave in waves}) == len(waves)
    assert result["plan"]["steps"] == waves[0]["plan"]["steps"]
    assert [wave["hosts"] for wave in result["plan"]["waves"]] == [wave["hosts"] for wave in waves]
    assert [line.split()[:3] for line in result["table"][3:6]] == [["1", "h3", "0"], ["2", "h1", "1"], ["3", "h2", "1"]]


def test_several_hosts_may_be_away_at_once():
    seen = [snapshot("h1", domain("a")), snapshot("h2", domain("b")), snapshot("h3"), snapshot("h4")]
    result = run(goal="upgrade", hosts=["h1", "h2", "h3", "h4"], snapshots=seen, at_once=2)
    assert [len(wave["hosts"]) for wave in result["waves"]] == [2, 2]


@pytest.mark.parametrize(
    ("window_s", "verdict", "headline", "line"),
    [
        (600, "fits", ", which fits into 10 min 00 s", "Fits: it takes 28 s of the 10 min 00 s available."),
        (
            20,
            "fits_without",
            ", which does NOT fit into 20 s",
            "Does NOT fit with web1: it takes 28 s and 20 s are available; ",
        ),
        (
            5,
            "does_not_fit",
            ", which does NOT fit into 5.0 s",
            "Does NOT fit: the moves from h1 take 28 s, and 5.0 s ",
        ),
    ],
)
def test_a_plan_is_held_against_the_window(window_s, verdict, headline, line):
    sets = [working_set(domain("web1")), working_set(domain("web2"), hot_bytes=8 * MIB)]
    connect = {host: {"bandwidth_mib_s": 11.4} for host in ("h1", "h2", "h3")}
    result = run(goal="drain", hosts=["h1"], snapshots=hosts(), connect=connect, working_sets=sets, window_s=window_s)
    assert result["plan"]["expected"]["verdict"] == verdict
    assert headline in result["table"][0]
    assert any(told.startswith(line) for told in result["table"]), result["table"]


def test_n_plus_one_is_remarked_or_required():
    seen = [snapshot("h1", domain("a", memory_bytes=20 * GIB)), snapshot("h2", free_bytes=24 * GIB)]
    seen.append(snapshot("h3", domain("b", memory_bytes=20 * GIB), free_bytes=GIB))
    told = run(goal="drain", hosts=["h1"], snapshots=seen, spare="warn")
    assert ([one["code"] for one in told["remarks"]], len(told["plan"]["steps"])) == (["n_plus_one"], 1)
    assert any(
        line.startswith("Note: after this plan, the other hosts could not take the guests of") for line in told["table"]
    )
    required = run(goal="drain", hosts=["h1"], snapshots=seen, spare="require")
    assert [one["code"] for stay in required["blocked"] for one in stay["refusals"]] == ["n_plus_one"]


def test_others_make_room_unless_they_must_not():
    seen = [
        snapshot("h1", domain("big", memory_bytes=6 * GIB)),
        snapshot("h2", domain("small", memory_bytes=GIB), free_bytes=6 * GIB),
        snapshot("h3", free_bytes=4 * GIB),
    ]
    result = run(goal="drain", hosts=["h1"], snapshots=seen)
    assert [step["guest"]["name"] for step in result["plan"]["steps"]] == ["small", "big"]
    assert result["table"][0].endswith(": 1 guest (6 GiB) leaves h1; 1 elsewhere makes room")
    assert run(goal="drain", hosts=["h1"], snapshots=seen, may_move_others=False)["plan"]["steps"] == []


def test_limits_on_virtual_cpus_and_versions_are_passed_on():
    older = {"libvirt": "11.3.0", "qemu": "9.2.0", "binding": None, "kernel": None}
    seen = [snapshot("h1", domain("a", vcpus=8)), snapshot("h2", domain("b", vcpus=12)), snapshot("h3", versions=older)]
    arguments = {"goal": "drain", "hosts": ["h1"], "snapshots": seen, "vcpu_ratio": 1}
    assert run(**arguments)["plan"]["steps"] == []
    assert [step["destination"] for step in run(**arguments, may_downgrade=True)["plan"]["steps"]] == ["h3"]


def test_links_and_slots_are_what_the_times_are_reckoned_with():
    seen = [snapshot("h1", domain("a")), snapshot("h2", domain("b")), snapshot("h3"), snapshot("h4")]
    arguments = {"goal": "evacuate", "hosts": ["h1", "h2"], "snapshots": seen}
    alone = run(**arguments)["plan"]["expected"]["seconds"]
    connect = {"h1": {"link": "rack1"}, "h2": {"link": "rack1"}}
    assert run(**arguments, connect=connect)["plan"]["expected"]["seconds"] == pytest.approx(2 * alone, abs=0.1)
    both = run(**arguments, connect=connect, slots={"link": 2})
    # Memory goes at half the rate, the rest goes on side by side.
    assert both["plan"]["expected"]["seconds"] == pytest.approx(2 * (alone - 2) + 2, abs=0.1)


@pytest.mark.parametrize(("window", "at_once"), [(1, 1), (4, 2)])
def test_moves_at_once_over_one_link_are_not_faster_for_it(window, at_once):
    guests = [domain(f"web{n}") for n in range(4)]
    seen = [snapshot("h1", *guests), snapshot("h2"), snapshot("h3")]
    arguments = {"goal": "drain", "hosts": ["h1"], "snapshots": seen, "connect": LINKS, "window_s": 12}
    result = run(**arguments, working_sets=[working_set(guest) for guest in guests], slots={"source": window})
    # Two hosts take in one each, so no more than two move at once, whatever the window.
    expected = result["plan"]["expected"]
    # Four times 131 MiB over 22.8 MiB/s, and the set-up of one or of all.
    assert 24 < expected["seconds"] < 30
    assert expected["verdict"] == "does_not_fit"
    assert {step["forecast"]["at_once"] for step in result["plan"]["steps"]} == {at_once}
    assert {step["forecast"]["bandwidth_bytes_per_s"] for step in result["plan"]["steps"]} == {
        round(22.8 * MIB / at_once)
    }


@pytest.mark.parametrize(("rates", "slower"), [
    ({"h1": 1100, "h2": 550, "far": 11}, 550), ({"h1": 1100, "far": 11}, 1100), ({"h2": 550, "far": 11}, 550),
])  # fmt: skip
def test_a_guess_goes_by_the_slower_end_of_its_own_way(rates, slower):
    far = snapshot("far", maintenance=record("cordoned"))
    seen = cluster(snapshot("h1", domain("a", memory_bytes=8 * GIB)), snapshot("h2"), far)
    connect = {host: {"bandwidth_mib_s": rate} for host, rate in rates.items()}
    expected = run(goal="drain", hosts=["h1"], snapshots=seen, connect=connect, window_s=60)["plan"]["expected"]
    assert expected["seconds"] == pytest.approx(8 * 1024 / slower + 2, abs=0.1)
    assert (expected["guessed"], expected["verdict"]) == (["a"], "fits")


def test_what_nobody_knows_is_guessed_from_the_interfaces():
    links = [{"name": "eth1", "addresses": ["198.18.0.11/24"], "speed_mbit": 1000, "up": True}]
    seen = [snapshot("h1", domain("a", memory_bytes=6 * GIB), links=links), snapshot("h2"), snapshot("h3")]
    arguments = {"goal": "drain", "hosts": ["h1"], "snapshots": seen}
    usual = run(**arguments)["plan"]["expected"]
    slow = run(**arguments, connect={"h1": {"migration_address": "198.18.0.11"}})["plan"]["expected"]
    assert slow["seconds"] == pytest.approx(6 * GIB / 62.5e6 + 2, rel=0.01)
    assert usual["seconds"] < 0.2 * slow["seconds"]
    assert slow["guessed"] == ["a"]


LINKS = {host: {"bandwidth_mib_s": 22.8} for host in ("h1", "h2", "h3")}


def test_a_plan_with_measurements_says_how_each_guest_is_moved_and_what_that_costs():
    sets = [working_set(domain(name)) for name in ("web1", "web2")]
    plan = run(goal="drain", hosts=["h1"], snapshots=hosts(), connect=LINKS, working_sets=sets)["plan"]
    for step in plan["steps"]:
        assert step["forecast"]["schema"] == "kvmops.choice/1"
        assert step["strategy"] == step["forecast"]["method"]
        assert step["forecast"]["measured_at"] == "2026-11-24T01:59:50Z"
    assert plan["expected"]["seconds"] == pytest.approx(
        sum(step["forecast"]["total_s"]["value"] for step in plan["steps"]), abs=0.2
    )
    assert plan["hosts"]["h2"]["bandwidth_mib_s"] == 22.8


def test_without_measurements_and_lessons_nothing_is_forecast():
    result = run(goal="drain", hosts=["h1"], snapshots=hosts(), connect=LINKS)
    assert [(step["strategy"], step["forecast"]) for step in result["plan"]["steps"]] == [(None, None)] * 2
    assert result["plan"]["expected"]["guessed"] == ["web1", "web2"]
    assert result["plan"]["expected"]["bytes"] is None
    assert result["table"][2].endswith("WHY")
    assert not any(line.startswith("Expected") for line in result["table"])


def test_what_was_asked_for_and_not_found_is_said():
    result = run(goal="drain", hosts=["h1"], snapshots=hosts(), connect=LINKS, working_sets=[], calibration={})
    assert all(step["forecast"]["measured_at"] is None for step in result["plan"]["steps"])
    assert any(line.startswith("Not measured: web1 and web2.") for line in result["table"])


def test_a_guest_whose_intent_cannot_be_kept_is_blocked():
    sets = [working_set(domain("web1")), working_set(domain("web2"), hot_bytes=100 * MIB)]
    arguments = {"goal": "drain", "hosts": ["h1"], "snapshots": hosts(), "connect": LINKS, "working_sets": sets}
    result = run(**arguments, intent={"max_downtime_ms": 100})
    [blocked] = result["blocked"]
    assert blocked["guest"]["name"] == "web2"
    assert [one["code"] for one in blocked["refusals"]] == ["cannot_keep_intent"]
    assert run(**arguments, intent={"max_downtime_ms": 100, "allow_postcopy": True})["blocked"] == []


def test_a_broken_path_is_not_used():
    checks = [{"check": "ports", "ok": False, "code": "ports_filtered", "reason": "no answer", "remedy": "open them"}]
    result = run(goal="drain", hosts=["h1"], snapshots=hosts(), paths=[path("h1", "h2", ok=False, checks=checks)])
    assert [step["destination"] for step in result["plan"]["steps"]] == ["h3", "h3"]


def test_the_reserve():
    seen = [snapshot("h1", domain(memory_bytes=GIB)), snapshot("h2", free_bytes=int(1.2 * GIB))]
    assert run(goal="drain", hosts=["h1"], snapshots=seen)["plan"]["steps"] == []
    assert len(run(goal="drain", hosts=["h1"], snapshots=seen, reserve_mib=0)["plan"]["steps"]) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "msg"),
    [
        (
            {"hosts": ["h9"]},
            "unknown_host",
            (
                "there is no snapshot of h9, only of h1, h2, h3: "
                "check the name against the inventory, and that host_info ran there"
            ),
        ),
        (
            {"intent": {"max_downtime_ms": 0}},
            "intent",
            (
                "intent: max_downtime_ms must be a whole number from 1 to 2000000 (milliseconds), not 0: "
                "correct it; docs/contracts.md lists the words and their values"
            ),
        ),
        ({"reserve_mib": -1}, "reserve", "reserve_mib is -1: give 0 or more"),
        ({"vcpu_ratio": 0}, "vcpu_ratio", "vcpu_ratio is 0.0: give a number above 0"),
        ({"vcpu_ratio": float("inf")}, "vcpu_ratio", "vcpu_ratio is inf: give a number above 0"),
        ({"window_s": float("inf")}, "window_s", "window_s is inf: give a number of seconds above 0"),
        ({"window_s": -5}, "window_s", "window_s is -5.0: give a number of seconds above 0"),
        ({"at_once": 0}, "at_once", "at_once is 0: give 1 or more"),
        (
            {"rules": {"most_move": 1}},
            "rules",
            "rules: unknown word 'most_move': did you mean most_moves?",
        ),
        (
            {"rules": {"most_moves": 1.5}},
            "rules",
            "rules: most_moves must be a whole number of 0 or more, not 1.5: correct it",
        ),
        (
            {"weights": {"ram": 1}},
            "weights",
            "weights: unknown word 'ram': the words are memory, cpu, count, pressure",
        ),
        ({"weights": {"cpu": "much"}}, "weights", "weights: cpu must be a number of 0 or more, not 'much': correct it"),
        (
            {"slots": {"source": 0}},
            "slots",
            "slots: a number is below 1, so no guest could move: give 1 or more",
        ),
        (
            {"connect": {"h1": {"bandwidth_mib_s": "fast"}}},
            "connect",
            (
                "connect of h1 is odd: its bandwidth_mib_s is 'fast': "
                "give connect_uri, migration_address and bandwidth_mib_s (MiB per second, above 0) of each host"
            ),
        ),
        ({"hosts": []}, "no_host", "no host is named: name at least one host"),
        (
            {"working_sets": [snapshot("h1")]},
            "not_a_working_set",
            (
                "working_sets[0] is not a working set: its schema is kvmops.snapshot/1, not kvmops.working_set/1: give "
                "what working_set_info returned as working_sets, of the same release of kvmops.cluster"
            ),
        ),
        (
            {"calibration": {"h1": "?"}},
            "not_a_calibration",
            (
                "calibration of h1 is not a mapping: "
                "give what working_set_info returned as calibration on each source, by host"
            ),
        ),
        (
            {"snapshots": "h1"},
            "not_a_snapshot",
            (
                "snapshots must be a list of snapshots, or a mapping of hosts to snapshots: "
                "give what host_info returned as snapshot on each host"
            ),
        ),
        (
            {"snapshots": snapshot("h1")},
            "not_a_snapshot",
            (
                "snapshots must be a list of snapshots, or a mapping of hosts to snapshots: "
                "give what host_info returned as snapshot on each host"
            ),
        ),
        (
            {"snapshots": [snapshot("h1", domain()), snapshot("h2", maintenance=record("cordoned"))]},
            "no_destination",
            (
                "no host is open to the guests of h1: h2 is cordoned: "
                "open one of them again (host_maintenance with state: active), or add a host to the inventory"
            ),
        ),
    ],
)
def test_failures_have_a_text_and_a_refusal(arguments, code, msg):
    result = run(**{"goal": "drain", "hosts": ["h1"], "snapshots": hosts(), **arguments})
    assert result["failed"] is True
    assert result["msg"] == msg
    assert result["refusal"]["code"] == code
    assert "plan" not in result


@pytest.mark.parametrize("arguments", [{"goal": "destroy"}, {"spare": "on"}, {"snapshot": []}, {"reserve_mib": "many"}])
def test_arguments_are_checked(arguments):
    with pytest.raises(AnsibleError):
        run(**{"goal": "drain", "hosts": ["h1"], "snapshots": hosts(), **arguments})


def test_an_unknown_guest_is_not_passed_over():
    with pytest.raises(AnsibleError, match="exclude: there is no guest called 'web9' on h1, h2, h3"):
        run(goal="drain", hosts=["h1"], snapshots=hosts(), exclude=["web9"])


def test_the_plan_goes_into_a_file(tmp_path):
    dest = tmp_path / "größe plan.json"
    result = run(diff=True, goal="drain", hosts=["h1"], snapshots=hosts(), dest=str(dest))
    assert (result["changed"], result["dest"]) == (True, str(dest))
    assert read_plan(dest.read_text("utf-8")) == result["plan"]
    assert [(one["before"], one["after"]) for one in result["diff"]] == [("", dest.read_text("utf-8"))]
    assert [file.name for file in tmp_path.iterdir()] == [dest.name], "nothing is left beside it"


def test_check_mode_writes_nothing(tmp_path):
    dest = tmp_path / "plan.json"
    dest.write_text("old\n")
    result = run(check_mode=True, diff=True, goal="drain", hosts=["h1"], snapshots=hosts(), dest=str(dest))
    assert result["changed"] is True
    assert result["diff"][0]["before"] == "old\n"
    assert dest.read_text() == "old\n"
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]


@pytest.mark.parametrize("check_mode", [False, True])
def test_a_place_where_no_file_can_be(tmp_path, check_mode):
    for dest, text in [
        (tmp_path / "none" / "p.json", f"dest: the directory {tmp_path}/none does not exist on the controller"),
        (tmp_path, f"dest: {tmp_path} is a directory: give the name of a file"),
    ]:
        with pytest.raises(AnsibleError, match=text):
            run(check_mode=check_mode, goal="drain", hosts=["h1"], snapshots=hosts(), dest=str(dest))


def test_two_plans_for_the_same_snapshots_differ_in_name_and_time_only(tmp_path):
    sets = [working_set(domain(name)) for name in ("web1", "web2")]
    for dest in ("a.json", "b.json"):
        run(goal="drain", hosts=["h1"], snapshots=hosts(), connect=LINKS, working_sets=sets, dest=str(tmp_path / dest))
    first, second = ((tmp_path / dest).read_text().splitlines() for dest in ("a.json", "b.json"))
    changed = {one.strip().split(":")[0] for one, other in zip(first, second, strict=True) if one != other}
    assert changed <= {'"id"', '"created_at"'}


def test_a_cluster_is_saved_and_planned_elsewhere(tmp_path):
    file = tmp_path / "misbehaved.json"
    sets = [working_set(domain(name)) for name in ("web1", "web2")]
    arguments = {"snapshots": cluster(*hosts()), "connect": LINKS, "working_sets": sets, "calibration": {}}
    saved = run(goal="drain", hosts=["h1"], intent={"deadline_s": 60}, cluster_dest=str(file), **arguments)
    assert (saved["changed"], saved["cluster_dest"]) == (True, str(file))
    document = json.loads(file.read_text("utf-8"))
    assert document["schema"] == "kvmops.cluster/1"
    assert document["asked"]["intent"] == {"deadline_s": 60}
    assert "cluster_dest" not in document["asked"]
    again = run(goal="drain", hosts=["h1"], intent={"deadline_s": 60}, cluster=str(file))
    assert {**again["plan"], "id": 0, "created_at": 0} == {**saved["plan"], "id": 0, "created_at": 0}


def test_a_cluster_for_which_there_is_no_plan_is_saved_all_the_same(tmp_path):
    file = tmp_path / "misbehaved.json"
    seen = [snapshot("h1", domain("web1")), snapshot("h2", domain("web1"))]
    failed = run(goal="drain", hosts=["h1"], snapshots=seen, cluster_dest=str(file))
    assert failed["refusal"]["code"] == "duplicate_uuid"
    assert run(goal="drain", hosts=["h1"], cluster=str(file))["refusal"] == failed["refusal"]
    assert run(check_mode=True, goal="drain", hosts=["h1"], snapshots=seen, cluster_dest=str(tmp_path / "x"))["changed"]
    assert [one.name for one in tmp_path.iterdir()] == ["misbehaved.json"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (None, "it cannot be read: No such file or directory"),
        ("snapshots:", "it is not JSON (Expecting value (line 1, column 1))"),
        ("[]", "its schema is missing, not kvmops.cluster/1"),
        ('{"schema": "kvmops.plan/1"}', "its schema is kvmops.plan/1, not kvmops.cluster/1"),
        ('{"schema": "kvmops.cluster/1", "snapshots": 5}', "its snapshots is missing or damaged"),
    ],
)
def test_what_is_no_saved_cluster(tmp_path, text, why):
    file = tmp_path / "c.json"
    if text is not None:
        file.write_text(text)
    failed = run(goal="drain", hosts=["h1"], cluster=str(file))
    assert failed["msg"] == f"cluster: {file}: {why}: give a file that cluster_dest wrote, unedited"


@pytest.mark.parametrize("given", [{}, {"snapshots": [], "cluster": "c.json"}])
def test_either_snapshots_or_a_saved_cluster(given):
    with pytest.raises(AnsibleError, match="snapshots"):
        run(goal="drain", hosts=["h1"], **given)
