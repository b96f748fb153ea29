# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import fcntl
import json

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.page_sampling import Reading
from ansible_collections.kvmops.cluster.plugins.module_utils.run import history
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import working_sets
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.observe import observe_program, textfile
from ansible_collections.kvmops.cluster.plugins.modules import host_lease, host_maintenance, host_metrics
from ansible_collections.kvmops.cluster.tests.unit import builders

#: Of the resident memory of web1, what is not QEMU's own.
TOUCHED = "127270912"
PATH = {
    "schema": "kvmops.calibration/1",
    "kind": "path",
    "learned": {"bandwidth_bytes_per_s": {"mean": 100e6, "deviation": 4e6, "seen": 7}},
}


@pytest.fixture
def written(run_module, cluster, tmp_path):
    """Runs the module on h1; returns its result and the lines of the file."""
    cluster.add_host("h1").add_guest("web1", rss_kib=500 << 10)
    (tmp_path / "prom").mkdir()
    path = tmp_path / "prom/kvmops.prom"

    def run(**arguments):
        given = {"name": "h1", "state_dir": str(tmp_path / "state"), "path": str(path), **arguments}
        result = run_module(host_metrics, **given)
        return result, path.read_text().splitlines() if path.is_file() else []

    return run


@pytest.fixture
def measuring(monkeypatch):
    """Measures guests that dirty 24 MiB/s, and counts how often."""
    asked = []

    def measure_all(connection, domains, **rest):
        asked.append([domain.name() for domain in domains])
        readings = [Reading(window_s, 24, 512) for window_s in (1, 1, 2)]
        return [working_sets.GuestMeasurement(domain, readings=readings) for domain in domains]

    monkeypatch.setattr(working_sets, "measure_all", measure_all)
    return asked


def of(metric, lines):
    return [line.rpartition(" ")[2] for line in lines if line.startswith((f"{metric} ", f"{metric}{{"))]


def test_what_is_known_is_written(written, measuring, tmp_path):
    history.keep_calibration(str(tmp_path / "state"), "path", "h2", PATH)
    result, lines = written(measure_s=5, window_s=600, intent={"encryption": "off"})

    assert (result["changed"], result["measured"], result["refusals"]) == (True, ["web1"], [])
    assert of("kvmops_guest_touched_bytes", lines) == [TOUCHED]
    assert 1 < float(of("kvmops_guest_forecast_duration_seconds", lines)[0]) < 20
    assert of("kvmops_host_drain_window_seconds", lines) == ["600"]
    assert (tmp_path / "prom/kvmops.prom").stat().st_mode & 0o777 == 0o644
    assert [one.name for one in (tmp_path / "prom").iterdir()] == ["kvmops.prom"]


def test_the_file_is_fresh_each_time_and_changed_only_if_more_than_the_time_is(written, measuring, tmp_path):
    written(measure_s=5)
    before = (tmp_path / "prom/kvmops.prom").stat().st_ino
    result, lines = written()

    assert result["changed"] is False
    assert result["measured"] == []
    assert of("kvmops_guest_touched_bytes", lines) == [TOUCHED]
    assert (tmp_path / "prom/kvmops.prom").stat().st_ino != before


def test_a_check_measures_and_writes_nothing(written, measuring, tmp_path):
    result, lines = written(measure_s=5, check=True, plan=plan())

    assert (result["changed"], lines, measuring) == (True, [], [])
    assert "kvmops_host_guests 1" in result["diff"]["after"]
    assert 'kvmops_plan_info{plan="drain-h1-' in result["diff"]["after"]
    assert not (tmp_path / "state").exists()


def test_nothing_is_measured_while_a_run_moves_guests_away(written, measuring, tmp_path):
    (tmp_path / "state").mkdir()
    with (tmp_path / "state/apply.lease").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result, lines = written(measure_s=5)

    assert (result["measured"], measuring) == ([], [])
    assert of("kvmops_host_run_at_work", lines) == ["1"]


def test_only_measuring_asks_for_more_than_a_read_only_connection(written, measuring, cluster):
    written()
    assert {read_only for _uri, read_only in cluster.opened} == {True}
    written(measure_s=5)
    assert {read_only for _uri, read_only in cluster.opened} == {True, False}


def test_who_has_the_host(written, run_module, tmp_path):
    state = str(tmp_path / "state")
    run_module(host_lease, name="h1", state_dir=state, owner="alice", run="drain-h1", ttl_s=900)
    run_module(host_maintenance, name="h1", state_dir=state, owner="alice", state="cordoned", reason="RAM")
    _result, lines = written()

    assert of("kvmops_host_lease_held", lines) == ["1"]
    assert 'kvmops_host_lease_info{owner="alice",run="drain-h1"} 1' in lines
    assert 'kvmops_host_maintenance_state{state="cordoned"} 1' in lines
    (tmp_path / "state/lease.json").write_text("{")
    _result, lines = written()
    assert of("kvmops_host_lease_held", lines) == ["1"]


def plan():
    return builders.plan_document(
        builders.cluster(builders.snapshot("h1", builders.domain("web1")), builders.snapshot("h2"))
    )


def test_a_plan_is_told_until_the_next_one(written):
    written(plan=plan())
    _result, lines = written()

    assert f'kvmops_plan_info{{plan="{plan()["id"]}",goal="drain"}} 1' in lines


def test_what_is_no_plan_is_refused(written):
    result, lines = written(plan={"schema": "kvmops.report/1"})

    assert result["failed"]
    assert result["refusal"]["code"] == "other_schema" or "plan" in result["msg"]
    assert lines == []


@pytest.mark.parametrize("spoilt", [b"", b"[]", b'{"schema": "kvmops.foreseen/1", "guests": 5}', b"\xff"])
def test_a_damaged_record_of_a_plan_is_passed_over(written, tmp_path, spoilt):
    (tmp_path / "state").mkdir()
    (tmp_path / "state/foreseen.json").write_bytes(spoilt)
    result, lines = written()

    assert not result.get("failed")
    assert of("kvmops_plan_info", lines) == []


@pytest.mark.parametrize(
    ("arguments", "msg"),
    [
        ({"path": "/nowhere/kvmops.prom"}, "there is no folder /nowhere: make it, or name another path"),
        ({"path": "/tmp/kvmops.txt"}, "path is /tmp/kvmops.txt, and the exporter reads only *.prom: name it so"),
        ({"uri": "qemu+ssh://h2/system"}, "leads to another host than the one the module runs on"),
        ({"intent": {"max_downtime": 5}}, "unknown intent 'max_downtime': did you mean max_downtime_ms?"),
    ],
)
def test_what_an_operator_sees(written, arguments, msg):
    result, _lines = written(**arguments)

    assert result["failed"]
    assert msg in result["msg"]


def test_a_link_in_the_folder_is_replaced_and_not_followed(written, tmp_path):
    victim = tmp_path / "shadow"
    victim.write_text("secret")
    (tmp_path / "prom/kvmops.prom").symlink_to(victim)
    result, lines = written()

    assert result["changed"] is True
    assert "secret" not in result["diff"]["before"]
    assert victim.read_text() == "secret"
    assert lines
    assert not (tmp_path / "prom/kvmops.prom").is_symlink()


def test_a_folder_that_is_a_link_is_refused(written, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "etc")
    result, _lines = written(path=str(tmp_path / "linked/kvmops.prom"))

    assert result["refusal"]["code"] == "no_textfile_folder"
    assert f"{tmp_path}/linked is no folder, or a link" in result["msg"]
    assert list((tmp_path / "etc").iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(written, tmp_path, monkeypatch):
    written()
    before = (tmp_path / "prom/kvmops.prom").read_text()

    def full(*_arguments, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(textfile.os, "rename", full)
    result, _lines = written()

    assert result["refusal"]["code"] == "textfile_not_written"
    assert "No space left on device" in result["msg"]
    assert (tmp_path / "prom/kvmops.prom").read_text() == before
    assert [one.name for one in (tmp_path / "prom").iterdir()] == ["kvmops.prom"]


@pytest.fixture
def program(cluster, monkeypatch, tmp_path, capsys):
    """Runs the program of the timer with these settings."""
    cluster.add_host("h1").add_guest("web1", rss_kib=500 << 10)
    (tmp_path / "prom").mkdir()

    def run(**settings):
        given = {
            "uri": "qemu:///system",
            "name": "h1",
            "state_dir": str(tmp_path / "state"),
            "path": str(tmp_path / "prom/kvmops.prom"),
            "measure_s": 5.0,
            **settings,
        }
        (tmp_path / "observe.json").write_text(json.dumps(given))
        monkeypatch.setattr(observe_program.sys, "argv", ["observe.pyz", str(tmp_path / "observe.json")])
        status = observe_program.main(str(tmp_path))
        return status, capsys.readouterr()

    return run


def test_the_program_of_the_timer_does_the_same(program, measuring, tmp_path):
    status, said = program(window_s=600, intent={"max_downtime_ms": 200, "encryption": "off"}, bandwidth_mib_s=100)

    assert (status, said.err) == (0, "")
    assert said.out == f"measured 1 guests, wrote {tmp_path}/prom/kvmops.prom\n"
    lines = (tmp_path / "prom/kvmops.prom").read_text().splitlines()
    assert of("kvmops_guest_accepted_downtime_seconds", lines) == ["0.2"]
    assert of("kvmops_guest_forecast_duration_seconds", lines)


@pytest.mark.parametrize(
    ("settings", "status", "said"),
    [
        ({"path": "/nowhere/kvmops.prom"}, 1, "there is no folder /nowhere: make it, or name"),
        ({"colour": 5}, 2, "cannot be used: colour is unknown; run the playbook kvmops.cluster.observe"),
        ({"measure_s": "long"}, 2, "cannot be used: measure_s must be a number, not a text; run the playbook"),
    ],
)
def test_what_the_journal_says(program, measuring, settings, status, said):
    found, printed = program(**settings)

    assert found == status
    assert said in printed.err
