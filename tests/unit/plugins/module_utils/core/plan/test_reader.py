# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.reader import read_plan
from ansible_collections.kvmops.cluster.tests.unit.builders import uuid_of
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.plan.sample_plan import made


def test_a_plan_from_before_bandwidths_were_stated_is_read():
    document = made()
    for host in document["hosts"].values():
        del host["bandwidth_mib_s"]
    assert read_plan(json.dumps(document)) == document


@pytest.mark.parametrize("stated", [0, -1, True, "112", [112], float("inf")])
def test_a_bandwidth_that_cannot_be_is_found_in_a_plan(stated):
    document = made()
    document["hosts"]["h2"]["bandwidth_mib_s"] = stated
    with pytest.raises(PlanError, match=r"hosts.h2.bandwidth_mib_s must be a number above 0 \(MiB/s\), or null"):
        read_plan(document)


def test_a_plan_is_plain_json_and_reads_back_the_same():
    document = made()
    assert read_plan(json.dumps(document)) == document
    assert read_plan(json.dumps(document).encode()) == document
    assert read_plan(document) == document
    assert document["id"] == "drain-h1-20261124T020000Z-3f9a"
    assert document["intent"] == {"max_downtime_ms": 200}
    assert document["hosts"]["h1"] == {
        "host_uuid": uuid_of("host h1"),
        "connect_uri": "qemu+ssh://root@h1/system",
        "migration_address": "198.18.0.11",
        "bandwidth_mib_s": 113.9,
        "qemu": "10.0.13",
    }
    assert document["hosts"]["h2"] == {
        "host_uuid": uuid_of("host h2"), "connect_uri": None, "migration_address": None, "bandwidth_mib_s": None,
        "qemu": "10.0.13",
    }  # fmt: skip
    assert document["off"] == [{"guest": {"name": "o", "uuid": uuid_of("o")}, "host": "h1"}]
    assert [stay["guest"]["name"] for stay in document["stays"]] == ["gpu1"]


def test_a_plan_without_off_is_read_too():
    document = made()
    del document["off"]
    assert read_plan(document)["off"] == []


def edited(edit):
    document = json.loads(json.dumps(made()))
    edit(document)
    return document


TEXT = json.dumps(made(), indent=2)


@pytest.mark.parametrize(
    ("document", "code", "text"),
    [
        ("", "plan_truncated", "the plan is empty: copy the whole file again, or make a new plan"),
        (
            TEXT[: len(TEXT) // 2].rstrip(),
            "plan_truncated",
            (
                r"the plan is cut short: it ends in the middle (line \d+, column \d+): "
                "copy the whole file again, or make a new plan"
            ),
        ),
        (
            '{"schema": "kvmops.pl',
            "plan_truncated",
            (
                r"the plan is cut short: it ends in the middle (line \d+, column \d+): "
                "copy the whole file again, or make a new plan"
            ),
        ),
        (
            "steps: []",
            "not_json",
            (
                "the plan is not JSON: Expecting value (line 1, column 1): "
                "give the file that migration_plan wrote, unedited or edited with care"
            ),
        ),
        (
            '{"schema": "kvmops.plan/1",, }',
            "not_json",
            (
                r"the plan is not JSON: .* (line 1, column \d+): "
                "give the file that migration_plan wrote, unedited or edited with care"
            ),
        ),
        (
            b"\xff\xfe\x00",
            "not_json",
            "the plan cannot be read: it is not a text in UTF-8: give the file that migration_plan wrote",
        ),
        (
            TEXT.replace('"steps": [', '"steps": [], "steps": [', 1),
            "not_json",
            "the plan cannot be read: it has the key 'steps' twice: give the file that migration_plan wrote",
        ),
        (
            re.sub(r'"memory_bytes": \d+', '"memory_bytes": ' + "9" * 5000, TEXT, count=1),
            "not_json",
            (
                "the plan cannot be read: it has a number of 5000 digits (" + "9" * 37 + "...): "
                "give the file that migration_plan wrote"
            ),
        ),
        (
            TEXT.replace("113.9", "1e999"),
            "not_json",
            (
                "the plan cannot be read: it has the number 1e999, which is too large: "
                "give the file that migration_plan wrote"
            ),
        ),
        (
            TEXT.replace("113.9", "NaN"),
            "not_json",
            "the plan cannot be read: it has NaN, which is no number: give the file that migration_plan wrote",
        ),
        (
            "[" * 100_000,
            "not_json",
            (
                "the plan cannot be read: its parts are nested more than 60 deep: "
                "give the file that migration_plan wrote"
            ),
        ),
        (
            "[]",
            "not_a_plan",
            "this is not a plan: it has no schema kvmops.plan/1: give the file that migration_plan wrote",
        ),
        (
            "{}",
            "not_a_plan",
            "this is not a plan: it has no schema kvmops.plan/1: give the file that migration_plan wrote",
        ),
        (
            {"schema": "kvmops.report/1"},
            "not_a_plan",
            "this is not a plan but a kvmops.report/1: give the file that migration_plan wrote",
        ),
        (
            {"schema": "kvmops.plan/2"},
            "plan_version",
            (
                "the plan has version 2, and this release of kvmops.cluster reads version 1: "
                "make the plan with the release that carries it out"
            ),
        ),
        (
            edited(lambda p: p.pop("steps")),
            "plan_invalid",
            "the plan is damaged: steps is missing: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p.update(steps={})),
            "plan_invalid",
            "the plan is damaged: steps must be a list, not a mapping: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["steps"].append("s009")),
            "plan_invalid",
            r"the plan is damaged: steps[2] must be a mapping, not a text: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["steps"][1]["guest"].pop("uuid")),
            "plan_invalid",
            "the plan is damaged: steps[1].guest.uuid is missing: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["steps"][0].update(memory_bytes=True)),
            "plan_invalid",
            (
                "the plan is damaged: steps[0].memory_bytes must be a whole number, not true: "
                "correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["steps"][0].update(memory_bytes=-1)),
            "plan_invalid",
            (
                "the plan is damaged: steps[0].memory_bytes must be 0 or more, not -1: "
                "correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["steps"][0].update(destination="h1")),
            "plan_invalid",
            ("the plan is damaged: step s001 goes from h1 to the same host: correct it there, or make a new plan"),
        ),
        (
            edited(lambda p: p["steps"][1].update(guest=p["steps"][0]["guest"])),
            "plan_invalid",
            (
                "the plan is damaged: step s002 takes web1 away from h1 a second time: "
                "correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["steps"][0]["guest"].update(uuid="web1")),
            "plan_invalid",
            "the plan is damaged: steps[0].guest.uuid must be a UUID: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["steps"][0].update(shell="id")),
            "plan_invalid",
            "the plan is damaged: steps[0].shell is unknown: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["steps"][0]["intent"].update(max_downtime_ms="soon")),
            "plan_invalid",
            (
                "the plan is damaged: steps[0].intent makes no sense: max_downtime_ms must be a whole number from 1 to "
                "2000000 (milliseconds), not 'soon': correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["hosts"]["h1"].update(connect_uri="qemu+ext:///system?command=/tmp/x")),
            "plan_invalid",
            (
                "the plan is damaged: hosts.h1.connect_uri is refused: the connect URI of a host has the scheme "
                "'qemu+ext', which is none of qemu+ssh, qemu+tls, qemu+tcp, qemu+libssh2, qemu+libssh, qemu, "
                "qemu+unix: correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["hosts"]["h1"].update(connect_uri="qemu+ssh://root@h1/system?netcat=/tmp/x")),
            "plan_invalid",
            (
                "the plan is damaged: hosts.h1.connect_uri is refused: the connect URI of a host has the query "
                "parameter 'netcat', which is none of keyfile, known_hosts, known_hosts_verify, mode, no_tty, "
                "no_verify, pkipath, sshauth, tls_priority: "
                "correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["steps"][0].update(destination=None)),
            "plan_invalid",
            "the plan is damaged: steps[0].destination must be a text, not null: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["hosts"].update(h2="h2")),
            "plan_invalid",
            "the plan is damaged: hosts.h2 must be a mapping, not a text: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p["goal"].update(kind="destroy")),
            "plan_invalid",
            (
                "the plan is damaged: goal.kind must be one of drain, evacuate, rebalance, restore, upgrade, migrate, "
                "not 'destroy': correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p.update(id="../../etc/cron.d")),
            "plan_invalid",
            (
                "the plan is damaged: id must be letters, digits, '.', '_' and '-' only, as it names a directory: "
                "correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["stays"][0].pop("refusals")),
            "plan_invalid",
            "the plan is damaged: stays[0].refusals is missing: correct it there, or make a new plan",
        ),
        (
            edited(lambda p: p.pop("expected")),
            "plan_invalid",
            "the plan is damaged: expected is missing: correct it there, or make a new plan",
        ),
        *(
            (
                edited(lambda p, key=key: p["steps"][0].pop(key)),
                "plan_invalid",
                f"the plan is damaged: steps[0].{key} is missing: correct it there, or make a new plan",
            )
            for key in ("reason", "strategy", "forecast")
        ),
        (
            edited(lambda p: p["steps"][1].update(id="s001")),
            "plan_invalid",
            "the plan has two steps called s001: give each step an id of its own",
        ),
        (
            edited(lambda p: p["steps"][1].update(after=["s007"])),
            "plan_invalid",
            (
                "the plan is damaged: step s002 waits for step s007, which is not in the plan: "
                "correct it there, or make a new plan"
            ),
        ),
        (
            edited(lambda p: p["steps"][0].update(destination="h9")),
            "unknown_host",
            (
                "step s001 has the destination h9, which is not among the hosts of the plan (h1, h2, h3): "
                "correct the step, or make a new plan"
            ),
        ),
    ],
)
def test_plans_that_cannot_be_read(document, code, text):
    with pytest.raises(PlanError) as caught:
        read_plan(document)
    literal = re.escape(text).replace(re.escape(r"\d+"), r"\d+").replace(re.escape(".*"), ".*")
    assert re.fullmatch(literal, str(caught.value))
    assert caught.value.refusal["code"] == code
    assert str(caught.value) == f"{caught.value.refusal['reason']}: {caught.value.refusal['remedy']}"


SHORT = json.dumps({"schema": "kvmops.plan/1", "guest": 'größe "x"', "list": [True, False, None, -1.5], "n": {}})


@pytest.mark.parametrize("text", [TEXT[:3000], SHORT])
def test_a_plan_cut_anywhere_is_known_as_cut(text):
    for cut in range(1, len(text)):
        with pytest.raises(PlanError) as caught:
            read_plan(text[:cut])
        assert caught.value.refusal["code"] == "plan_truncated", text[:cut][-30:]
