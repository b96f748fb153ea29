# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the roles share to keep two runs apart."""

from __future__ import annotations

import pytest
import yaml

from ansible_collections.kvmops.cluster.plugins.module_utils.core.hooks import MOST_TOGETHER_OF_GUEST_S
from harness.ansible import CHECKOUT

from .conftest import part

RELEASE = part("run", "release")


def take(*hosts):
    """Tasks that take hosts as the roles do."""
    return part("run", "lease", __run_lease_hosts=list(hosts))


def run(hosts, *tasks, owner="alice"):
    """Do these tasks, and give the hosts back if one fails."""
    who = {"__run_lease_owner": owner, "__run_lease_run": f"of-{owner}"}
    stop = {"name": "Stop", "ansible.builtin.fail": {"msg": "over"}}
    return hosts.play({"name": "Work", "block": list(tasks), "rescue": [RELEASE, stop]}, hosts="all", **who)


def holders(hosts):
    """Who has which host, as far as a host was ever taken."""
    return {host: lease["owner"] for host, lease in hosts.kept("lease.json").items()}


def test_a_run_that_is_refused_one_more_host_keeps_none_of_those_it_had_before(hosts):
    assert run(hosts, take("b"), owner="bob").status == 0

    outcome = run(hosts, take("c"), take("a", "b"))

    assert outcome.status == 2, outcome.text
    assert "b could not be taken for this run, so it took none of a, b. b is taken by bob" in outcome.words
    assert holders(hosts) == {"a": None, "b": "bob", "c": None}


def test_a_host_that_does_not_answer_is_told_with_the_reason_and_none_is_kept(hosts):
    outcome = run(hosts, take("a", "gone"))

    assert outcome.status == 2, outcome.text
    told = "gone could not be taken for this run, so it took none of a, gone. Failed to connect to the host via ssh"
    assert told in outcome.words, outcome.text
    assert holders(hosts) == {"a": None}


def test_all_that_was_taken_in_turns_is_given_back_in_one(hosts):
    assert run(hosts, take("c"), take("a"), RELEASE).status == 0

    assert holders(hosts) == {"a": None, "c": None}


def test_what_a_killed_run_had_taken_is_given_back_by_the_next_one_of_its_name(hosts):
    assert run(hosts, take("a", "b", "c")).status == 0
    assert holders(hosts) == dict.fromkeys("abc", "alice")

    assert run(hosts, take("a"), RELEASE).status == 0

    assert holders(hosts) == dict.fromkeys("abc")


def test_what_somebody_else_has_meanwhile_is_left_alone(hosts):
    assert run(hosts, take("a", "b", "c")).status == 0
    assert run(hosts, part("run", "lease", __run_lease_hosts=["b"], __run_lease_force=True), owner="bob").status == 0

    assert run(hosts, take("a"), RELEASE).status == 0

    assert holders(hosts) == {"a": None, "b": "bob", "c": None}


HOOK = {"command": ["/usr/bin/true"], "timeout_s": 600, "seconds": 60}


@pytest.mark.parametrize(
    ("seconds", "guessed", "hooks", "lasts_s"),
    [
        (0, [], [], 1800),
        (600, [], [], 1800 + 1200),
        (600, [], [HOOK, {"command": ["/usr/bin/true"]}], 1800 + 1200 + 2 * (660 + 30)),
        # 480 GiB that nobody measured, over 1 Gbit/s: about 4400 s.
        (860, ["web1"], [], 1800 + 43000),
        (10000, ["web1"], [], 1800 + 100000),
    ],
    ids=["nothing to do", "forecast", "with hooks", "guessed", "guessed to be long"],
)
def test_hosts_are_taken_for_longer_than_a_plan_may_take(hosts, seconds, guessed, hooks, lasts_s):
    plan = {"steps": [{"id": "s001"}, {"id": "s002"}], "expected": {"seconds": seconds, "guessed": guessed}}
    asked = {"__run_lease_hosts": ["a"], "__run_lease_ttl_s": "{{ __run_plan_ttl_s }}"}

    outcome = run(hosts, part("run", "lease", **asked, __run_plan=plan, __run_hooks=hooks))

    assert outcome.status == 0, outcome.text
    assert hosts.kept("lease.json")["a"]["ttl_s"] == lasts_s


def test_hosts_are_taken_for_as_long_as_hooks_of_guests_may_take(hosts):
    plan = {"steps": [{"id": "s001"}, {"id": "s002"}], "expected": {"seconds": 0, "guessed": []}}
    asked = {"__run_lease_hosts": ["a"], "__run_lease_ttl_s": "{{ __run_plan_ttl_s }}"}

    outcome = run(hosts, part("run", "lease", **asked, __run_plan=plan, __run_hooks=[], __run_guest_hooks=True))

    assert outcome.status == 0, outcome.text
    assert hosts.kept("lease.json")["a"]["ttl_s"] == 1800 + 2 * MOST_TOGETHER_OF_GUEST_S


def test_what_another_run_had_meanwhile_is_not_taken_anew(hosts):
    name = {"name": "c", "owner": "bob", "run": "of-bob", "state_dir": str(hosts.folder / "c")}
    theirs = [
        {
            "name": f"Bob, {state}",
            "run_once": True,
            "kvmops.cluster.host_lease": {**name, "state": state, "force": True},
        }
        for state in ("held", "absent")
    ]

    outcome = run(hosts, take("c"), *theirs, take("c"))

    assert outcome.status == 2, outcome.text
    assert "c could not be taken for this run. the lease with fencing number" in outcome.words, outcome.text
    assert "c was taken over by another run, which has ended" in outcome.words, outcome.text


def of_moves(tasks):
    """What the tasks say that move guests away from a host, with those of blocks."""
    for task in tasks:
        for part_of_block in ("block", "rescue", "always"):
            yield from of_moves(task.get(part_of_block) or ())
        for module in ("plan_apply", "domain_migrate"):
            arguments = task.get(f"kvmops.cluster.{module}")
            if arguments and not arguments.get("attach_only"):
                yield module, arguments


def test_whatever_moves_guests_does_so_under_the_lease_of_its_run():
    files = sorted((CHECKOUT / "roles").glob("*/tasks/**/*.yml"))
    found = [move for file in files for move in of_moves(yaml.safe_load(file.read_text("utf-8")) or ())]
    assert {module for module, _arguments in found} == {"plan_apply", "domain_migrate"}
    for _module, arguments in found:
        assert "__run_fences" in arguments["fence"]
        assert "__run_lease_owner" in arguments["owner"]
        for option in ("keep_runs", "keep_days"):
            assert f"kvmops_cluster_{option} | default(omit)" in arguments[option]
