# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move import running_move

GUEST = {"name": "db1", "uuid": "0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10"}
STEP = {"id": "h2", "guest": GUEST, "destination": "h2"}


@pytest.fixture
def store(tmp_path):
    found = CapsuleStore(str(tmp_path / "capsules"))
    found.prepare()
    return found


def test_no_move_is_under_way(store):
    assert running_move.running(store, GUEST["uuid"]) is None


def test_a_move_that_is_under_way_is_told(store):
    with running_move.only_one(store, GUEST, "h1", "h2", "/run/lines"):
        now = running_move.running(store, GUEST["uuid"])
        assert (now.pid, now.to, now.progress, now.result) == (os.getpid(), "h2", "/run/lines", None)
    assert running_move.running(store, GUEST["uuid"]) is None


def test_a_guest_is_moved_by_one_run_at_a_time(store):
    with (
        running_move.only_one(store, GUEST, "h1", "h2", None),
        pytest.raises(CapsuleError) as error,
        running_move.only_one(store, GUEST, "h1", "h3", None),
    ):
        pass
    why, pid = error.value.refusal, os.getpid()
    assert why["code"] == "guest_busy"
    assert why["reason"].startswith("db1 is being moved from h1 to h2 since ")
    assert why["reason"].endswith(f" (process {pid})")
    assert why["remedy"] == (
        f"wait for its end, or stop it on h1 (kill -TERM {pid}): if db1 does not get there, it goes on on h1"
    )


def test_whoever_waits_sees_the_lines_and_has_the_result(store, tmp_path):
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    begun, may_end = threading.Event(), threading.Event()

    def move():
        lines = Progress(str(theirs))
        with running_move.only_one(store, GUEST, "h1", "h2", str(theirs)) as ended:
            lines.begin(4711)
            lines.write("send", "memory: 40 %", step=STEP)
            begun.set()
            may_end.wait()
            lines.write("done", "runs there", step=STEP)
            lines.end()
            ended({"state": "moved"})

    other = threading.Thread(target=move)
    other.start()
    begun.wait()
    progress = Progress(str(mine))

    def stopping():
        # Asked at each look: by the first one the waiting has begun.
        may_end.set()
        return False

    assert running_move.followed(store, GUEST["uuid"], progress, stopping) == {"state": "moved"}
    other.join()
    shown = [json.loads(line) for line in mine.read_text(encoding="utf-8").splitlines()]
    assert [(line["phase"], line["message"]) for line in shown] == [("send", "memory: 40 %"), ("done", "runs there")]


def test_a_move_that_died_has_no_result(store):
    with running_move.only_one(store, GUEST, "h1", "h2", None) as ended:
        ended({"state": "moved"})
    with running_move.only_one(store, GUEST, "h1", "h2", None):
        # The result of the one before is not that of this one.
        pass
    assert running_move.followed(store, GUEST["uuid"], Progress(None), lambda: False) is None


def test_whoever_is_stopped_while_it_waits_stops_nothing_else(store):
    with running_move.only_one(store, GUEST, "h1", "h2", None):
        with pytest.raises(CapsuleError) as error:
            running_move.followed(store, GUEST["uuid"], Progress(None), lambda: True)
        assert running_move.running(store, GUEST["uuid"]) is not None
    assert error.value.refusal["reason"] == ("this run was stopped; the earlier one, which moves the guest, goes on")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "x"}', b"\xff"])
def test_a_record_that_cannot_be_read_is_none(store, content):
    path = Path(store.move_lock_path(GUEST["uuid"]))
    path.write_bytes(content)
    assert running_move.read(str(path)) is None


def ended(store, result, to="h2"):
    with running_move.only_one(store, GUEST, "h1", to, None) as keep:
        if result is not None:
            keep(result)


def test_what_an_earlier_run_has_moved_is_known(store):
    ended(store, {"state": "moved", "changed": True, "notes": ["its sound goes nowhere"]})
    found = running_move.moved_before(store, GUEST["uuid"], "h2")
    assert (found["state"], found["changed"], found["notes"][0]) == ("moved", False, "its sound goes nowhere")
    assert found["notes"][1].startswith("an earlier run of capsule_move, begun 20")
    assert running_move.moved_before(store, GUEST["uuid"], "h3") is None
    assert running_move.moved_before(store, GUEST["name"], "h2") is None
    assert running_move.moved_before(store, "../" + GUEST["uuid"], "h2") is None


@pytest.mark.parametrize("result", [None, {"state": "back"}, {"state": "unclear"}, {}])
def test_what_an_earlier_run_has_not_moved_is_not_said_to_be_there(store, result):
    ended(store, result)
    assert running_move.moved_before(store, GUEST["uuid"], "h2") is None


def test_of_a_guest_that_was_never_moved_nothing_is_known(store):
    assert running_move.moved_before(store, GUEST["uuid"], "h2") is None
