# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import json
import os
import re
import threading

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.run import journal as journals
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import Journal, read

STEP = {"id": "s001", "guest": {"name": "größe 🐧\n", "uuid": "u-1"}}


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "journal.jsonl")


def written(path, *events):
    journal = Journal(path, "plan-1")
    for event in events:
        journal.write(event)
    journal.close()
    return journal


def sequence(path):
    return [(entry["seq"], entry["event"]) for entry in read(path)]


def test_a_line_says_all_that_the_contract_wants(path):
    journal = Journal(path, "plan-1")
    journal.write("migration.started", step=STEP, destination="h2", downtime_ms=60)
    journal.write("run.finished")
    journal.close()
    first, second = read(path)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("at"))
    assert first == {
        "schema": "kvmops.journal/1",
        "seq": 1,
        "plan": "plan-1",
        "step": "s001",
        "guest": "größe 🐧\n",
        "uuid": "u-1",
        "event": "migration.started",
        "data": {"destination": "h2", "downtime_ms": 60},
    }
    assert (second["seq"], second["step"], second["guest"], second["uuid"]) == (2, None, None, None)


def test_a_journal_that_is_there_goes_on(path):
    written(path, "a", "b")
    written(path, "c")
    assert sequence(path) == [(1, "a"), (2, "b"), (3, "c")]


@pytest.mark.parametrize("cut", [1, 2, 20, -1])
def test_a_line_that_a_crash_cut_off_is_left_out_and_swallows_nothing(path, cut, tmp_path):
    written(path, "a", "b")
    whole = (tmp_path / "journal.jsonl").read_bytes()
    second = whole.index(b"\n") + 1
    kept = whole[:-1] if cut == -1 else whole[: second + cut]
    (tmp_path / "journal.jsonl").write_bytes(kept)
    # Only the newline is missing: then the line is whole, and counts.
    before = [(1, "a"), (2, "b")] if cut == -1 else [(1, "a")]
    assert sequence(path) == before
    written(path, "c")
    assert sequence(path) == [*before, (len(before) + 1, "c")]


@pytest.mark.parametrize("garbage", [b"", b"\n\n", b"[]\n", b"17\n", b'{"seq": "x"}\n', b"\xff\xfe\x00\n", b"null\n"])
def test_what_is_no_event_is_left_out(path, tmp_path, garbage):
    (tmp_path / "journal.jsonl").write_bytes(garbage)
    assert read(path) == []
    written(path, "a")
    assert sequence(path) == [(1, "a")]


def test_a_journal_that_is_missing_is_empty(path):
    assert read(path) == []


def test_what_is_written_is_on_disk_before_the_call_returns(path, monkeypatch):
    journal = Journal(path, "plan-1")
    synced = []
    monkeypatch.setattr(journals.os, "fsync", lambda _descriptor: synced.append(len(read(path))))
    journal.write("step.started", step=STEP)
    journal.write("migration.iteration", step=STEP, durable=False)
    journal.write("step.finished", step=STEP)
    # Each sync came after its line, and the line of little importance had none of its own.
    assert synced == [1, 3]
    journal.close()


def test_many_writers_keep_one_sequence(path):
    journal = Journal(path, "plan-1")
    threads = [
        threading.Thread(target=lambda: [journal.write("x", durable=False) for _n in range(50)]) for _t in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    assert [entry["seq"] for entry in read(path)] == list(range(1, 201))


class NearlyFull:
    """A file on a disk that takes a part of a line once, and then all again."""

    def __init__(self, file):
        self._file = file
        self._full = True

    def write(self, line):
        part = line[:10] if self._full else line
        self._full = False
        return self._file.write(part)

    def fileno(self):
        return self._file.fileno()

    def close(self):
        self._file.close()


def test_a_line_that_a_full_disk_cut_off_is_an_error_and_swallows_nothing(path):
    journal = Journal(path, "plan-1")
    journal.write("a")
    journal._file = NearlyFull(journal._file)
    with pytest.raises(OSError, match="No space left") as why:
        journal.write("b")
    assert why.value.errno == errno.ENOSPC
    journal.write("c")
    journal.close()
    assert [entry["event"] for entry in read(path)] == ["a", "c"]


def test_closing_on_a_disk_that_fails_is_no_error(path, monkeypatch):
    journal = Journal(path, "plan-1")

    def fail(_descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(journals.os, "fsync", fail)
    journal.close()
    assert journal._file.closed


def test_every_line_is_plain_json_in_ascii(path, tmp_path):
    journal = Journal(path, "plan-1")
    journal.write("a", step=STEP, text="ü\u2028\r\n")
    journal.close()
    raw = (tmp_path / "journal.jsonl").read_bytes()
    assert raw.isascii()
    assert raw.count(b"\n") == 1
    assert json.loads(raw)["data"] == {"text": "ü\u2028\r\n"}


# --- the index of guests ----------------------------------------------------------------------------------------------


def test_a_guest_is_noted_once_before_the_first_line_that_says_where_it_goes(path):
    noted = []
    journal = Journal(path, "plan-1", lambda uuid: noted.append((uuid, len(read(path)))))
    for event in ("step.started", "migration.started", "migration.iteration", "step.verified", "step.finished"):
        journal.write(event, step=STEP)
    journal.write("run.finished")
    journal.close()
    assert noted == [("u-1", 1)]


def test_nothing_begins_that_could_not_be_noted_and_what_became_of_a_guest_is_told(path):
    def full(_uuid):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = Journal(path, "plan-1", full)
    with pytest.raises(OSError, match="No space"):
        journal.write("migration.started", step=STEP)
    journal.write("step.finished", step=STEP)
    journal.close()
    assert sequence(path) == [(1, "step.finished")]
