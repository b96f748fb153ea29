# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import re
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import (
    capsule_document,
    receive_state,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_mode import (
    mode_choice,
    moved_guest,
    thin_path,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.forecast import calibration, forecast
from ansible_collections.kvmops.cluster.plugins.module_utils.core.metrics import foreseen
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan_shape, single_move
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import Window
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import plan_forecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.forecast_planning import make_with_forecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Request
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import report, upgrade_record
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import run_records
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import saved_cluster
from ansible_collections.kvmops.cluster.tests.unit.builders import (
    AWKWARD_NAMES,
    MIB,
    choice,
    cluster,
    domain,
    path,
    plan_document,
    record,
    snapshot,
    step_result,
    uuid_of,
    working_set,
)

jsonschema = pytest.importorskip("jsonschema")
referencing = pytest.importorskip("referencing")

DOCS = Path(__file__).parents[3] / "docs"
SCHEMAS = {file.name.split(".")[0]: json.loads(file.read_text("utf-8")) for file in DOCS.glob("schemas/*.schema.json")}
REGISTRY = referencing.Registry().with_resources(
    [(schema["$id"], referencing.Resource.from_contents(schema)) for schema in SCHEMAS.values()]
)


def check(name, document):
    validator = jsonschema.Draft202012Validator(SCHEMAS[name], registry=REGISTRY)
    errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]
    assert errors == []


def wrong(name, document):
    validator = jsonschema.Draft202012Validator(SCHEMAS[name], registry=REGISTRY)
    return sorted({error.json_path for error in validator.iter_errors(document)})


def examples():
    """The examples of contracts.md, with what they leave out filled in."""
    text = (DOCS / "contracts.md").read_text("utf-8")
    for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL):
        timed = re.sub(r'"((?:\w+_)?at)": "…"', r'"\1": "2026-11-24T02:00:00Z"', block)
        document = timed.replace("sha256:…", "sha256:" + "0" * 64)
        document = json.loads(document.replace("blocks:…", "blocks:" + "0" * 64).replace(', "…": "…"', ""))
        for step in document["steps"] if schema_of(document) == "plan" else ():
            step["intent"] = {**intent.DEFAULTS, **step["intent"]}
        yield schema_of(document), document


def schema_of(document):
    if "schema" in document:
        return document["schema"].split("/")[0].split(".")[1]
    return "step-result" if "outcome" in document else "refusal"


def test_every_schema_is_a_schema():
    assert set(SCHEMAS) == {
        "begun_copies", "calibration", "capsule", "capsule_choice", "capsule_image", "capsule_run",
        "choice", "cluster", "common", "forecast", "foreseen", "guest_runs", "journal", "kept_settings", "lease",
        "left_copies", "maintenance", "path", "plan", "progress", "receive_state", "report", "run_progress", "snapshot",
        "split_guests", "step-result", "taken_memory", "upgrade", "working_set",
    }  # fmt: skip
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize(("name", "document"), [pytest.param(*example, id=example[0]) for example in examples()])
def test_the_examples_in_the_contracts(name, document):
    if name == "refusal":
        assert set(document) == {"code", "reason", "remedy"}
    else:
        check(name, document)


def test_every_document_has_an_example():
    assert {name for name, _document in examples()} >= set(SCHEMAS) - {"common"}


def busy_cluster():
    guests = [domain(name) for name in AWKWARD_NAMES]
    stuck = domain("stuck", blockers=[{"code": "hostdev", "reason": "a GPU", "remedy": "detach it"}])
    return cluster(
        snapshot("h1", *guests, stuck, domain("off", state="shutoff")),
        snapshot("h2", maintenance=record("cordoned", owner="alice", since="2026-11-24T02:00:00Z")),
        snapshot("h3"),
    )


def test_what_the_builders_of_unit_tests_make():
    for made in busy_cluster().values():
        check("snapshot", made)
        check("maintenance", made["maintenance"])
    check("path", path("h1", "h2"))


@pytest.mark.parametrize("kind", plan_shape.GOALS)
def test_what_the_planner_makes(kind):
    check("plan", plan_document(busy_cluster(), kind=kind))


def test_what_a_host_keeps_of_a_plan():
    check("foreseen", foreseen.foreseen(plan_document(busy_cluster()), "h1"))


def test_what_a_single_move_has_on_record():
    move = single_move.step_of({"name": "web1", "uuid": uuid_of("web1")}, "h1", "h2", 1 << 29, intent.DEFAULTS)
    hosts = {
        name: {"host_uuid": uuid_of(name), "connect_uri": None, "migration_address": None} for name in ("h1", "h2")
    }
    check("plan", single_move.plan_of(move, hosts, "2026-11-24T02:00:00Z", "3f9a"))


def test_what_forecasting_makes_of_a_plan():
    hosts, quiet, hot = busy_cluster(), domain("quiet"), domain("hot")
    hosts["h1"]["domains"] += [quiet, hot]
    sets = [working_set(quiet), working_set(hot, hot_bytes=100 * MIB)]
    for connect in ({}, {"h1": {"bandwidth_mib_s": 22.8}}):
        seen = plan_forecasts.PlanForecasts(hosts, connect, sets)
        wanted = Request("drain", ["h1"])
        planned, off, _waves = make_with_forecasts(wanted, Constraints(hosts), seen, window=Window(window_s=1))
        placement = planned.placement
        assert len(placement.steps) >= len(AWKWARD_NAMES)
        made = {**plan_document(hosts), "steps": placement.steps, "stays": placement.stays, "off": off}
        check("plan", {**made, "expected": planned.expected})
        guests = {guest["uuid"]: guest for guest in hosts["h1"]["domains"]}
        for step in placement.steps:
            check("choice", step["forecast"])
            refused = seen.choice(guests[step["guest"]["uuid"]], "h1", "h3", {**intent.DEFAULTS, "deadline_s": 1})
            check("choice", refused)
    check("choice", choice())
    for document in sets:
        check("working_set", document)


def test_a_saved_cluster():
    seen = busy_cluster()
    asked = {"goal": "drain", "hosts": ["h1"]}
    made = {"snapshots": seen, "paths": [path("h1", "h2")], "connect": {"h1": {"link": "rack1"}}}
    made.update(working_sets=[working_set(domain())], calibration={"h1": {"paths": {}, "guests": {}}})
    check("cluster", saved_cluster.document({**made, **asked, "dest": "x"}, "2026-11-24T02:00:00Z"))
    made.update(snapshots=list(seen.values()), working_sets=None, calibration=None)
    check("cluster", saved_cluster.document({**made, **asked}, "2026-11-24T02:00:00Z"))


def test_what_the_report_makes():
    made = plan_document(busy_cluster())
    results = [step_result(step) for step in made["steps"][:-1]]
    for result in results:
        check("step-result", result)
    at = {"started_at": "2026-11-24T02:00:01.000Z", "finished_at": "2026-11-24T02:00:42.200Z"}
    check("report", report.join(made, {"h1": results}, **at))
    made["steps"][0]["forecast"] = choice()
    check("report", report.join(made, {"h1": results}, **at))


def test_the_report_of_which_the_documentation_has_pictures():
    from docsite import pictures

    check("report", json.loads(pictures.RECORDED.read_text(encoding="utf-8")))


def test_what_measuring_forecasting_and_learning_make():
    from bench.benches import recorded

    found = recorded.records()
    link = recorded.link(found)
    for name in found["guests"]:
        working_set = recorded.document(found, name)
        disks = [{"target": "vda", "copy_bytes": 10**9}]
        made = forecast.forecast(working_set, link, cap_ms=500, disks=disks if name == "idle" else ())
        check("working_set", working_set)
        check("forecast", made)
    outcome = made["outcomes"]["post-copy"]
    actual = {"bytes_per_s": 2.2e7, "first_byte_s": 0.2, "downtime_ms": 90, "last_bytes": 0, "bytes": 9e7}
    for state in calibration.learn(None, None, outcome, link, actual):
        check("calibration", state)
    check("calibration", calibration.new_guest())


def test_the_examples_of_capsules_are_read_by_those_who_read_capsules():
    found = dict(examples())
    capsule_document.check(found["capsule"])
    state = receive_state.from_document(found["receive_state"], "vda of db1")
    assert state.document() == found["receive_state"]
    image_record.check(found["capsule_image"])
    run_records.check(found["capsule_run"])


def test_how_a_guest_gets_to_the_far_end():
    measured = working_set(domain())
    guest = moved_guest.Guest(measured, (moved_guest.Disk("vda", 10**9),))
    path = thin_path.thin_path(48_000, 0.04, carry_s=7200)
    for wanted in ({}, {"allow_suspend": True, "allow_storage_copy": True, "max_downtime_ms": 2000}):
        check("capsule_choice", mode_choice.choose(guest, path, wanted))


@pytest.mark.parametrize(
    ("edit", "places"),
    [
        (lambda p: p.update(schema="kvmops.plan/2"), ["$.schema"]),
        (lambda p: p.update(id="../x"), ["$.id"]),
        (lambda p: p.pop("steps"), ["$"]),
        (lambda p: p.update(created_at="yesterday"), ["$.created_at"]),
        (lambda p: p["steps"][0].update(memory_bytes="512"), ["$.steps[0].memory_bytes"]),
        (lambda p: p["steps"][0]["intent"].update(max_downtime_ms=0), ["$.steps[0].intent.max_downtime_ms"]),
        (lambda p: p["steps"][0]["intent"].pop("encryption"), ["$.steps[0].intent"]),
        (lambda p: p["steps"][0].update(destintion="h2"), ["$.steps[0]"]),
        (lambda p: p["stays"][0].update(refusals=[]), ["$.stays[0].refusals"]),
        (lambda p: p["snapshots"].update(h1="md5:0"), ["$.snapshots.h1"]),
    ],
)
def test_a_schema_finds_what_is_wrong(edit, places):
    document = copy.deepcopy(plan_document(busy_cluster()))
    edit(document)
    assert wrong("plan", document) == places


def test_upgrade_records_that_are_kept():
    check("upgrade", upgrade_record.NONE)
    guests = [{"name": "web1", "uuid": "0d4c1a52-3c43-4a53-9d5e-0b6f6d9d8c11", "source": "h1"}]
    ways = [["h1", "h9"]]
    begun = upgrade_record.RecordUpdate(
        "r1", "begun", "alice", "10.0.13", guests=guests, stopped=guests, broken_ways=ways
    )
    check("upgrade", upgrade_record.advanced(upgrade_record.NONE, begun, "2026-11-24T02:00:00Z"))
    assert wrong("upgrade", {**upgrade_record.NONE, "phase": "paused"}) == ["$.phase"]
