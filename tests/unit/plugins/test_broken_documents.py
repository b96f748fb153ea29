# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whatever a file holds that should hold a document: each reader says so, or leaves it out, and none dies."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.lookup import left_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.core import lease as core_lease
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.lease_clock import Moment
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.home_claims import claims
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result import upgrade_record as core_upgrade_record
from ansible_collections.kvmops.cluster.plugins.module_utils.run import (
    history,
    journal,
    leases,
    maintenance,
    past_runs,
    run_lock,
    runner,
    upgrade_record,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.guest_records import (
    begun_copies,
    kept_settings,
    left_copies,
    taken_memory,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move import needed, running_move
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket import ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import receive_lock
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.fill import export_program, forward_program
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.measure import dirty_rate
from ansible_collections.kvmops.cluster.plugins.plugin_utils.files import saved_cluster, saved_snapshots
from ansible_collections.kvmops.cluster.plugins.plugin_utils.inventory.hypervisor_query import (
    HypervisorQuery,
    QueryError,
)
from ansible_collections.kvmops.cluster.plugins.plugin_utils.terminal import progress_lines
from ansible_collections.kvmops.cluster.tests.unit import builders, hostile

UUID = "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"
GUEST = {"name": "web1", "uuid": UUID}
NOON = Moment(datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC), "boot-1", 5000.0)
STEP = {"id": "s1", "guest": GUEST, "source": "h1", "destination": "h2"}


class Reader(t.NamedTuple):
    """Something that reads a file.

    Attributes:
        path: of the file, in a folder of its own.
        document: that it takes.
        read: is given the folder.
        nothing: what it gives where there is nothing that can be used.
        error: or what it raises.
    """

    path: str
    document: dict[str, t.Any]
    read: t.Callable[[Path], t.Any]
    nothing: t.Any = None
    error: tuple[type[BaseException], ...] = ()


def _report() -> dict[str, t.Any]:
    row = {"uuid": UUID, "source": "h1", "destination": "h2", "outcome": "moved"}
    goal = {"kind": "drain", "hosts": ["h1"]}
    return {
        "schema": "kvmops.report/1",
        "plan": "p1",
        "goal": goal,
        "started_at": None,
        "guests": [row],
        "stays": [{"guest": GUEST}],
    }


def _read_reports(folder: Path) -> list[t.Any]:
    found = left_guests.read_reports(folder)
    claims(found)
    return found


def _claims_of_runs(folder: Path) -> list[t.Any]:
    runs = past_runs.list_runs(str(folder))
    left_guests.left_rows("h1", left_guests.without_reported(runs, []))
    return runs


def _measured(folder: Path) -> list[t.Any]:
    return history.measurements(str(folder), UUID)


def _asked(folder: Path) -> t.Any:
    (folder / "answer.py").write_text("import sys; sys.stdout.write(open(sys.argv[1]).read())")
    return HypervisorQuery()._probed(["/bin/cat", str(folder / "answer.json")], "qemu:///system")


def _history_path(room: str) -> str:
    return str(history._path("", room, UUID))


def _durable(folder: Path) -> t.Any:
    found = durable_files.read_json(str(folder / "x.json"))
    if not isinstance(found, dict):
        raise CapsuleError("", "", "")
    return found


HOLDER = {"plan": "p1", "owner": "alice", "since": "2026-11-24T12:00:00Z", "pid": 4711}
RECORD = {"schema": maintenance.SCHEMA, "state": "cordoned", "owner": "alice", "reason": "x", "since": "2026"}
UPGRADE = {**core_upgrade_record.NONE, "guests": [GUEST], "stopped": [GUEST], "broken_ways": [["h1", "h2"]]}
LEASE = core_lease.take(core_lease.FREE, core_lease.Claim("h1", "alice", "r1"), NOON)
LINE = {"seq": 1, "at": "2026", "event": "step.verified", "step": "s1", "uuid": UUID, "data": {"verdict": "moved"}}
TAKEN = {"schema": taken_memory.SCHEMA, **GUEST, "before_kib": 2048, "target_kib": 1024}
DELTA = {
    **dict.fromkeys(("pool", "volume", "base", "base_format", "format"), "x"),
    "size_bytes": 1,
    "layers": ["a"],
    "overlays": ["b"],
}
BEGUN = {
    "schema": begun_copies.SCHEMA,
    "guest": GUEST,
    "destination": "h2",
    "disks": [{"target": "vda", "source": "/a", "path": "/b", "format": None, "delta": DELTA}],
    "others": [{"destination": "h3", "disks": [{"target": "vda", "source": "/a", "path": "/b"}]}],
}
KEPT = {
    "schema": kept_settings.SCHEMA,
    **GUEST,
    "source": "h1",
    "destination": "h2",
    "autostart": True,
    "checkpoints": ["<x/>"],
}
PLAN = {"id": "p1", "goal": {"kind": "drain", "hosts": ["h1"]}, "steps": [STEP]}
RESULT = {
    "schema": runner.RESULT_SCHEMA,
    "results": [{"step": "s1", "guest": GUEST, "outcome": "moved", "refusals": []}],
    "run": {"plan": "p1"},
}
TOLD = {"pid": 4711, "at": "2026", "to": "h2", "progress": "", "result": None}
TICKET = {
    "schema": ticket.SCHEMA,
    **ticket.Ticket("t1", "", "h1", "m1", "h2", "/srv", ("k",), False, {}, 4)._asdict(),
}
FILL = {"ticket": "fill-1", "address": "h1", "user": "root", "sockets": "/s", "port": 22, "slots": 4, "owner": 7}
EXPORT = {
    "guest": GUEST,
    "ended": False,
    "details": {
        "ticket": "fill-1",
        "disks": [{"slot": 0, "target": "vda", "path": "/x", "size_bytes": 1, "format": "raw", "facts": {}}],
    },
}
SNAPSHOT = builders.snapshot("h1", builders.domain("web1"))
CLUSTER = {
    "schema": saved_cluster.CLUSTER,
    "snapshots": {"h1": SNAPSHOT},
    "paths": [builders.path("h1", "h2")],
    "connect": {"h1": {}},
    "working_sets": [builders.working_set(builders.domain("web1"))],
    "calibration": {},
}
ANSWER = {"hostname": "h1", "capabilities": "<x/>", "record": None, "guests": [{"xml": "<x/>", "state": "running"}]}

READERS = {
    "run lock": Reader("apply.lease", HOLDER, lambda path: run_lock.run_lock_holder(str(path)), {}),
    "journal": Reader("journal.jsonl", LINE, lambda path: journal.read(str(path / "journal.jsonl")), []),
    "maintenance": Reader("maintenance.json", RECORD, maintenance.load, error=(maintenance.RecordError,)),
    "upgrade": Reader("upgrade.json", UPGRADE, upgrade_record.load, error=(upgrade_record.UpgradeRecordError,)),
    "lease": Reader("lease.json", LEASE, lambda path: leases.load(str(path), "h1"), error=(leases.LeaseError,)),
    "taken memory": Reader(f"taken_memory/{UUID}.json", TAKEN, lambda path: taken_memory.read(str(path), UUID)),
    "begun copies": Reader(f"begun_copies/{UUID}.json", BEGUN, lambda path: begun_copies.read_all(str(path), UUID), []),
    "kept settings": Reader(f"kept_settings/{UUID}.json", KEPT, lambda path: kept_settings.read(str(path), UUID)),
    "left copies": Reader(
        f"left_copies/{UUID}.json",
        {"schema": "kvmops.left_copies/1", "guest": GUEST, "host": "h1", "disks": [{"path": "/a", "size_bytes": 1}]},
        lambda path: left_copies.load(str(path), UUID),
    ),
    "measurements": Reader(
        _history_path("working_sets"),
        {"key": UUID, "documents": [builders.working_set(builders.domain("web1"))]},
        _measured,
        [],
    ),
    "calibration": Reader(
        _history_path("calibration-guest"),
        {"key": UUID, "state": {"learned": {}}},
        lambda path: history.calibration(str(path), "guest", UUID),
    ),
    "past runs": Reader("runs/p1/plan.json", PLAN, _claims_of_runs, []),
    "run result": Reader("runs/unknown/result.json", RESULT, lambda path: runner.join_run(str(path), None)),
    "move of a capsule": Reader("move", TOLD, lambda path: running_move.read(str(path / "move"))),
    "capsule ticket": Reader("ticket.json", TICKET, lambda path: ticket.read(str(path)), error=(CapsuleError,)),
    "forwarder": Reader("ticket.json", FILL, lambda path: forward_program.ticket_in(str(path)), error=(SystemExit,)),
    "exporter": Reader(
        "export-1.json",
        EXPORT,
        lambda path: export_program.records_of(str(path), "fill-1"),
        error=(export_program.ExportError,),
    ),
    "store": Reader("x.json", {"a": 1}, _durable, error=(CapsuleError,)),
    "snapshots": Reader("s.json", SNAPSHOT, saved_snapshots.read, error=(saved_snapshots.SavedError,)),
    "cluster": Reader("c.json", CLUSTER, lambda path: saved_cluster.read(path / "c.json"), error=(PlanError,)),
    "reports": Reader("r.json", _report(), _read_reports, []),
    "progress": Reader(
        "p.jsonl",
        {"guest": "web1", "phase": "pre-copy", "message": "x", "level": 0},
        lambda path: progress_lines.FollowedFile().feed((path / "p.jsonl").read_bytes().decode("utf-8", "replace")),
        [],
    ),
    "hypervisor": Reader("answer.json", ANSWER, _asked, error=(QueryError,)),
}
#: They run alone, with Python's own reader: a key twice, and what they do not read, is nothing to them.
ALONE = ("forwarder", "exporter")
KNOWS_ALL_KEYS = ("capsule ticket", "hypervisor")


def put(folder: Path, reader: Reader, data: bytes) -> None:
    path = folder / reader.path.lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data + (b"\n" if path.suffix == ".jsonl" else b""))


def outcome(folder: Path, reader: Reader) -> t.Any:
    """What is read; an error that is one of the reader's own is told in words, and counts as nothing."""
    told = None
    try:
        return reader.read(folder)
    except reader.error as error:
        told = str(error)
    assert told
    assert len(told) < 1000
    return reader.nothing


@pytest.mark.parametrize("name", list(READERS))
def test_what_is_whole_is_read(tmp_path, name):
    reader = READERS[name]
    put(tmp_path, reader, json.dumps(reader.document).encode())
    assert outcome(tmp_path, reader) != reader.nothing


@pytest.mark.parametrize(
    ("name", "kind"),
    # Text that is shown is repaired before.
    [one for one in itertools.product(READERS, hostile.NO_DOCUMENTS) if one != ("progress", "no text")],
)
def test_what_is_no_document_is_none(tmp_path, name, kind):
    reader = READERS[name]
    put(tmp_path, reader, hostile.NO_DOCUMENTS[kind])
    assert outcome(tmp_path, reader) == reader.nothing


def _is_refused_for_it(name: str, kind: str) -> bool:
    """Whether a reader refuses a document for what is spoilt in it."""
    # They know all their keys: one more is refused whatever is in it.
    if name in KNOWS_ALL_KEYS and kind in ("infinity", "no number", "a long number", "deep", "no UTF-8"):
        return False
    if name == "progress":
        return kind != "no UTF-8"
    return name not in ALONE or kind not in ("a key twice", "infinity", "no number")


@pytest.mark.parametrize(
    ("name", "kind"),
    [one for one in itertools.product(READERS, hostile.spoilt({"a": 1})) if _is_refused_for_it(*one)],
)
def test_one_thing_that_no_document_has_spoils_it(tmp_path, name, kind):
    reader = READERS[name]
    put(tmp_path, reader, hostile.spoilt(reader.document)[kind])
    assert outcome(tmp_path, reader) == reader.nothing


@pytest.mark.parametrize("name", list(READERS))
def test_a_part_of_another_kind_is_told_or_left_out(tmp_path, name):
    reader = READERS[name]
    # Of the large ones each ninth is enough here; fuzz tests go on from there.
    step = 9 if name in ("cluster", "snapshots") else 1
    for what, document in itertools.islice(hostile.mutated(reader.document), 0, None, step):
        put(tmp_path, reader, json.dumps(document).encode())
        try:
            found = outcome(tmp_path, reader)
        except Exception as error:
            raise AssertionError(what) from error
        for line in found if name == "progress" else ():
            progress_lines.phrase("h1", line)
            progress_lines.color_of(line)
            assert line.get("level", 0) < 2**64


@pytest.mark.parametrize("data", list(hostile.NO_DOCUMENTS.values()))
def test_what_is_told_over_a_line_is_read_with_the_same_care(data):
    with pytest.raises(CapsuleError, match="what the guest needs is not told"):
        needed.parsed(data)
    if data.isascii() and data not in (b"",):
        with pytest.raises(dirty_rate.MonitorError, match="QEMU's answer cannot be read"):
            dirty_rate._returned(data.decode())


def test_bytes_that_are_no_text_count_as_bytes():
    file = progress_lines.FollowedFile()
    assert file.feed(b'{"message": "\xff"}\n'.decode("utf-8", "surrogateescape")) == [{"message": "\udcff"}]
    assert file.offset == 17


def test_a_progress_line_names_no_process_that_every_host_has():
    for pid in (-1, 0, 1, True, 2.5):
        assert progress_lines.FollowedFile().feed(json.dumps({"phase": "job", "pid": pid}) + "\n") == []


@pytest.mark.parametrize("held", [*hostile.NO_DOCUMENTS.values(), b'{"pid": 1}', b'{"pid": "7"}', b'{"sender": []}'])
def test_who_receives_a_capsule_is_not_known_from_a_broken_lock(tmp_path, held):
    lock = receive_lock.ReceiveLock(str(tmp_path / "lock"), "c1", "h1", "m1")
    (tmp_path / "lock").write_bytes(held)
    lock._descriptor = os.open(tmp_path / "lock", os.O_RDWR)
    assert lock._holder() == {}
    lock.release()


def test_a_folder_in_the_place_of_a_file_is_no_document(tmp_path):
    for name in ("run lock", "taken memory", "left copies", "begun copies", "past runs"):
        reader = READERS[name]
        (tmp_path / name / reader.path).mkdir(parents=True)
        assert outcome(tmp_path / name, reader) == reader.nothing
