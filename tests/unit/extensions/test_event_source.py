# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event source for Event-Driven Ansible, by the documented interface of such plugins: main(queue, args)."""

from __future__ import annotations

import asyncio
import json
import runpy
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvmops.cluster.tests.unit.builders import GIB, domain, record, snapshot

ROOT = Path(__file__).parents[3]
FILE = ROOT / "extensions/eda/plugins/event_source/hosts.py"
#: As ansible-rulebook loads it.
SOURCE = runpy.run_path(str(FILE))
RULEBOOK = yaml.safe_load((ROOT / "extensions/eda/rulebooks/hosts.yml").read_text(encoding="utf-8"))
BLOCKED = {"code": "hostdev", "reason": "a device is passed through", "remedy": "detach it"}
PRESSURE = {"cpu": 0.01, "memory": 0.0, "io": 0.9}


def seen(*domains, host="h1", **changes):
    return {host: {"snapshot": snapshot(host, *domains, **changes)}}


def events(before, now):
    return list(SOURCE["events"](before, now, 0.9, 0.25))


def test_a_quiet_cluster_has_no_events():
    now = seen(domain("web1"), pressure=PRESSURE)

    assert events(None, now) == events(now, now) == []


@pytest.mark.parametrize(
    ("changes", "share", "waiting"),
    [
        ({"free_bytes": 4 * GIB}, 0.938, 0.0),
        ({"pressure": {"cpu": 0.4, "memory": None, "io": 0.0}}, 0.5, 0.4),
        ({"pressure": {"cpu": None, "memory": 0.3, "io": 0.0}}, 0.5, 0.3),
    ],
    ids=["memory", "waits for CPU", "waits for memory"],
)
def test_pressure_is_told_at_each_look(changes, share, waiting):
    now = seen(**changes)
    told = {"kind": "host_pressure", "host": "h1", "memory_share": share, "waiting": waiting}

    assert events(None, now) == events(now, now) == [told]


def test_a_guest_that_becomes_stuck_is_told_once():
    free, stuck = seen(domain("web1")), seen(domain("web1", blockers=[BLOCKED]))
    [told] = events(free, stuck)

    assert (told["kind"], told["guest"], told["reasons"]) == ("guest_not_movable", "web1", [BLOCKED["reason"]])
    assert events(stuck, stuck) == []
    # It was so before anybody looked, or it came from another host.
    assert events(None, stuck) == events(seen(), stuck) == []


def test_a_host_that_is_cordoned_with_guests_on_it_is_told_once():
    closed = record("cordoned", owner="bob", reason="new fans")
    cordoned = seen(domain("web1"), domain("web2", state="shutoff"), maintenance=closed)
    told = {"kind": "maintenance_asked", "host": "h1", "owner": "bob", "reason": "new fans", "guests": ["web1"]}

    assert events(seen(domain("web1")), cordoned) == events(None, cordoned) == [told]
    assert events(cordoned, cordoned) == []
    assert events(None, seen(domain("web2", state="shutoff"), maintenance=closed)) == []


def test_a_host_that_does_not_answer_any_more_is_told_once():
    silent = {"h1": {"msg": "no route to host", "unreachable": True}}
    told = {"kind": "host_silent", "host": "h1", "reason": "no route to host"}

    assert events(seen(), silent) == [told]
    assert events(silent, silent) == events(None, silent) == []


class FullQueueError(Exception):
    """As many events as were wanted have come."""


class Queue:
    """What ansible-rulebook gives to a source."""

    def __init__(self, most):
        self.events, self._most = [], most

    async def put(self, event):
        self.events.append(event)
        if len(self.events) == self._most:
            raise FullQueueError


def program(folder, *looks):
    """A program in the place of ansible, that leaves what one look after the other found."""
    for number, look in enumerate(looks):
        for host, result in look.items():
            path = folder / "looks" / str(number) / host
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(result if isinstance(result, str) else json.dumps(result), encoding="utf-8")
    script = folder / "ansible"
    script.write_text(
        f"""#!/bin/sh
printf '%s\\n' "$@" > {folder}/words
cp {folder}/looks/$(ls {folder}/done 2>/dev/null | wc -l)/* "$ANSIBLE_CALLBACK_TREE_DIR"
mkdir -p {folder}/done && mktemp {folder}/done/XXXXXX > {folder}/last
[ ! -e {folder}/hangs ] || exec sleep 600
""",
        encoding="utf-8",
    )
    script.chmod(0o755)
    return {"ansible": str(script), "inventory": "hosts.yml", "interval_s": 0}


def work(most, arguments):
    queue = Queue(most)
    with pytest.raises(FullQueueError):
        asyncio.run(asyncio.wait_for(SOURCE["main"](queue, arguments), 60))
    return queue.events


def test_main_puts_what_happens_between_looks_into_the_queue(tmp_path):
    free, stuck = domain("web1"), domain("web1", blockers=[BLOCKED])
    looks = (seen(free), seen(stuck), seen(stuck, free_bytes=GIB))

    told = work(2, program(tmp_path, *looks))

    assert [event["kvmops"]["kind"] for event in told] == ["guest_not_movable", "host_pressure"]
    words = (tmp_path / "words").read_text(encoding="utf-8").splitlines()
    assert words[:4] == ["-i", "hosts.yml", "-m", "kvmops.cluster.host_info"]
    assert json.loads(words[5]) == {"name": "{{ inventory_hostname }}"}
    assert words[6:] == ["--", "all"]


def test_an_answer_that_cannot_be_read_is_none(tmp_path):
    [told] = work(1, program(tmp_path, seen(), {"h1": "{ half of"}))

    assert told == {"kvmops": {"kind": "host_silent", "host": "h1", "reason": "it gave no snapshot"}}


def test_a_look_that_hangs_is_ended(tmp_path):
    arguments = program(tmp_path, seen(free_bytes=GIB))
    (tmp_path / "hangs").touch()

    assert asyncio.run(SOURCE["look"]({**SOURCE["DEFAULTS"], **arguments, "timeout_s": 0.5})) is None


def test_without_an_inventory_it_says_what_is_missing():
    with pytest.raises(ValueError, match="set inventory to the inventory of the hosts"):
        asyncio.run(SOURCE["main"](Queue(1), {}))


def test_the_documentation_has_each_option_with_its_default():
    options = yaml.safe_load(SOURCE["DOCUMENTATION"])["options"]

    assert {name: option["default"] for name, option in options.items() if "default" in option} == {
        **SOURCE["DEFAULTS"],
        "ansible": "ansible",
    }
    assert [name for name, option in options.items() if option.get("required")] == ["inventory"]


def test_the_rulebook_starts_playbooks_with_variables_that_their_roles_have():
    [book] = RULEBOOK
    started = [rule["action"]["run_playbook"] for rule in book["rules"] if "run_playbook" in rule["action"]]

    assert [one["name"] for one in started] == ["kvmops.cluster.drain_host", "kvmops.cluster.rebalance"]
    for one in started:
        role = one["name"].rpartition(".")[2]
        text = (ROOT / f"roles/{role}/meta/argument_specs.yml").read_text(encoding="utf-8")
        assert set(one["extra_vars"]) <= set(yaml.safe_load(text)["argument_specs"]["main"]["options"])
        assert (ROOT / f"playbooks/{role}.yml").is_file()


def test_whatever_the_rulebook_starts_has_a_cooldown():
    [book] = RULEBOOK
    starting = [rule for rule in book["rules"] if "run_playbook" in rule["action"]]

    assert [rule["throttle"]["once_within"] for rule in starting] == ["4 hours", "60 minutes"]


def test_the_rulebook_asks_for_kinds_that_there_are():
    [book] = RULEBOOK
    text = FILE.read_text(encoding="utf-8")
    asked = [rule["condition"].split('"')[1] for rule in book["rules"]]

    assert asked[0] == "hardware_alert"
    assert all(f'"kind": "{kind}"' in text for kind in asked[1:])
