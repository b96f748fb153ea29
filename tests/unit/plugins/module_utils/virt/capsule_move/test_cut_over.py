# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A move through real pipes and the real receiver; what libvirt does at both ends is told by the test."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
import types
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move import cut_over
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_move.cut_over import Move, MoveRequest
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_save import save_record
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket import ticket as tickets
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ssh_client import FarEnd
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import permit
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.capsule_transfer.stores import (
    UUID,
    Pair,
    content,
    keep,
)

RUNS = frames.Started("running", 800, 1300, "agent and disk", ("its clock was set",), None)
LACKS = refusal("machine_type", "h2 does not know the machine type pc-q35-10.0 of db1", "upgrade QEMU on h2")
OFF = frames.Started("off", None, None, "", (), LACKS)
UNCLEAR = frames.Started("unclear", None, None, "", (), refusal("start_unclear", "libvirtd is gone", "look there"))
#: The receiver of the far end, whose libvirt does what the test says.
RECEIVER = """
import sys
sys.path.insert(0, {code!r})
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import receive_command

def started(arrival, word):
    with open({asked!r}, "a") as file:
        file.write(f"{{word.host}} {{word.at}} {{arrival.capsule['number']}}\\n")
    if {dies!r}:
        sys.exit(9)
    return frames.Started{answer!r}

sys.exit(receive_command.main({folder!r}, lambda ticket, store: started))
"""


@dataclasses.dataclass
class Hosts:
    """What is done at the source."""

    pair: Pair
    done: list[str]
    goes_on: Exception | None = None

    def far_end(self, answer: frames.Started, *, dies=False, **changes):
        """The command that starts the receiver there."""
        ticket = Ticket("t", "", "h1", "id-h1", "h2", self.pair.far_end.directory, (), False, {"host": "h2"}, 2**40)
        folder = tickets.write(ticket._replace(**{"guest": UUID, "start": {}, **changes}), self.pair.run_dir)
        code = str(Path(folder, tickets.CODE))
        permit._copy_code(code)
        script = Path(folder, "receiver.py")
        told = {"code": code, "folder": folder, "asked": str(Path(folder, "asked"))}
        script.write_text(RECEIVER.format(**told, dies=dies, answer=tuple(answer)), encoding="utf-8")
        return [sys.executable, "-I", str(script)]

    def asked(self):
        """What the far end was told, each time."""
        return Path(tickets.folder_of("t", self.pair.run_dir), "asked").read_text(encoding="utf-8").splitlines()

    def move(self, command, retry_s=0, there="h2", lines=None):
        """Move db1 there."""
        request = MoveRequest("db1", "h1", True, None, "default", "/nowhere", None, retry_s, 120, None)
        key = types.SimpleNamespace(command=lambda far_end: command)
        far_end = FarEnd(there, "192.0.2.2", 22, "root", (), "t")
        return Move(None, self.pair.source, request, far_end, key, Progress(lines), lambda: False).run()


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    found = Hosts(Pair(tmp_path), [])

    def save(connection, store, request):
        found.done.append(f"saved, then {request.then}")
        stored = keep(store, 1, content(1))
        now = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() - 5))
        stopped = {"guest": stored.document["guest"], "host": "h1", "at": now, "still_since": now}
        details = {"consistency": "memory", "memory_format": "sparse", "then": "stop", "persistent": "<domain/>"}
        disk = {"target": "vda", "path": "/images/db1.img", "form": "raw", "overlay": "/images/db1", "size_bytes": 4096}
        record = save_record.read(store, UUID) or save_record.new(
            store, stored.document["guest"], **details, trust_domain="default", made_on="h1", number=1, disks=[disk]
        )
        record.write(stage=save_record.STOPPED)
        named = {"guest": stored.document["guest"], "number": 1, "digest": stored.digest, "notes": []}
        return {**named, "stopped": {**stopped, "number": 1, "digest": stored.digest}}

    def start(connection, store, request):
        found.done.append(f"started on {request.host}")
        if found.goes_on:
            raise found.goes_on

    def release(connection, store, request):
        found.done.append(f"released as {request.started['host']} runs it")

    def find(connection, guest):
        # It runs until it is saved.
        off = save_record.read(found.pair.source, UUID) is not None
        return types.SimpleNamespace(isActive=lambda: not off, UUIDString=lambda: UUID)

    monkeypatch.setattr(cut_over.guest_look, "find", find)
    for function in (save, start, release):
        monkeypatch.setattr(cut_over, function.__name__, function)
    return found


def test_it_runs_there_and_is_forgotten_here(hosts):
    result = hosts.move(hosts.far_end(RUNS))
    assert hosts.done == ["saved, then stop", "released as h2 runs it"]
    assert (result["state"], result["refusal"], result["useful_by"]) == ("moved", None, "agent and disk")
    assert result["notes"] == ["its clock was set"]
    assert result["useful_after_s"] >= 5
    # It was of use half a second after it ran.
    assert result["useful_after_s"] - result["down_s"] == pytest.approx(0.5, abs=0.011)
    assert hosts.pair.arrived(hosts.pair.source.capsule(UUID, 1)) == content(1)
    ((host, dummy, number),) = [line.split() for line in hosts.asked()]
    assert (host, number) == ("h1", "1")


def test_its_operator_sees_for_how_long_it_stands_still(hosts, tmp_path):
    hosts.move(hosts.far_end(RUNS), lines=str(tmp_path / "lines"))
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text(encoding="utf-8").splitlines()]
    assert {line["guest"] for line in lines} == {"db1"}
    first, *middle, last = [line["message"] for line in lines]
    assert first == "h2 answers; the guest is saved and stops"
    for message in middle:
        assert re.search(r"; it has stood still for \d+(\.\d+)? s$", message), message
    assert re.fullmatch(r"runs there, stood still for \d+(\.\d+)? s, [0-9.]+ [KM]iB sent", last)


def test_what_does_not_run_there_goes_on_here(hosts):
    result = hosts.move(hosts.far_end(OFF))
    assert hosts.done == ["saved, then stop", "started on h1"]
    assert result["state"] == "back"
    assert result["refusal"] == {
        "code": "machine_type",
        "reason": "h2 does not know the machine type pc-q35-10.0 of db1; db1 runs on h1 again",
        "remedy": "upgrade QEMU on h2",
    }


def test_what_cannot_go_on_here_either_is_said_with_its_capsule(hosts):
    hosts.goes_on = CapsuleError("image_changed", "/images/db1.qcow2 has changed", "capsule_verify")
    result = hosts.move(hosts.far_end(OFF))
    assert result["state"] == "stopped"
    assert result["refusal"] == {
        "code": "not_moved",
        "reason": "h2 does not know the machine type pc-q35-10.0 of db1; and on h1 it could not go on:"
        " /images/db1.qcow2 has changed",
        "remedy": "capsule_verify; its capsule 1 is whole: start it with capsule_start on h1",
    }


def test_what_ran_there_and_is_off_again_does_not_go_on_here(hosts):
    why = refusal("ran_there", "db1 was started on h2 and is off there now", "start it there: virsh start db1")
    result = hosts.move(hosts.far_end(frames.Started("unclear", None, None, "", (), why)))
    assert hosts.done == ["saved, then stop"]
    assert (result["state"], result["refusal"]) == ("stopped", why)


def test_a_guest_that_somebody_starts_here_meanwhile_is_not_started_there(hosts, monkeypatch):
    command = hosts.far_end(RUNS)
    monkeypatch.setattr(
        cut_over.guest_look,
        "find",
        lambda *_all: types.SimpleNamespace(
            isActive=lambda: "saved, then stop" in hosts.done, name=lambda: "db1", UUIDString=lambda: UUID
        ),
    )
    result = hosts.move(command)
    assert hosts.done == ["saved, then stop"]
    assert (result["state"], result["refusal"]["code"]) == ("back", "runs_here_again")
    assert result["refusal"]["reason"] == (
        "somebody has started db1 on h1 while it was sent, so it is not started on h2"
    )
    assert not Path(tickets.folder_of("t", hosts.pair.run_dir), "asked").exists()


@pytest.mark.parametrize(("answer", "dies"), [(UNCLEAR, False), (RUNS, True)], ids=["it says so", "it dies"])
def test_where_nobody_knows_whether_it_runs_there_it_is_not_started_here(hosts, answer, dies):
    result = hosts.move(hosts.far_end(answer, dies=dies))
    assert hosts.done == ["saved, then stop"]
    assert result["state"] == "unclear"
    why = result["refusal"]
    assert why["code"] == "start_unclear"
    assert why["reason"].startswith("h2 was asked to start db1, and it is not known whether it did (")
    assert why["reason"].endswith("); so it stays off on h1")
    assert why["remedy"].startswith("run capsule_move again: it asks h2; or look there (virsh domstate --reason ")


def test_a_lost_answer_is_asked_for_again(hosts):
    dying, living = hosts.far_end(RUNS, dies=True), None
    asked = Path(dying[-1]).with_name("asked")
    text = Path(dying[-1]).read_text(encoding="utf-8")
    living = f"len(open({str(asked)!r}).readlines()) == 1"
    Path(dying[-1]).write_text(text.replace("if True:", f"if {living}:"), encoding="utf-8")
    result = hosts.move(dying, retry_s=60)
    assert (result["state"], result["interruptions"]) == ("moved", 1)
    assert len(hosts.asked()) == 2


def test_a_later_run_does_not_forget_that_an_earlier_one_has_asked(hosts):
    """The earlier run had no answer; this one gets as far as the far end, and no further."""
    assert hosts.move(hosts.far_end(RUNS, dies=True))["state"] == "unclear"
    hosts.done.clear()
    result = hosts.move(hosts.far_end(RUNS, guest="0b7fd2f5-0000-5b62-9ce9-7e4d2b1c9a10"))
    assert (hosts.done, result["state"]) == (["saved, then stop"], "unclear")
    assert "h2 was asked to start db1, and it is not known whether it did" in result["refusal"]["reason"]
    assert hosts.move(hosts.far_end(RUNS))["state"] == "moved"


def test_a_guest_that_may_run_on_one_host_is_not_moved_to_another(hosts):
    assert hosts.move(hosts.far_end(RUNS, dies=True))["state"] == "unclear"
    hosts.done.clear()
    with pytest.raises(CapsuleError) as error:
        hosts.move(["false"], there="h3")
    assert hosts.done == []
    assert error.value.refusal == {
        "code": "start_unclear",
        "reason": "an earlier run asked h2 to start db1, and it is not known whether it did; it stays off on h1",
        "remedy": "move it to h2, which asks h2 again; or look there (virsh domstate --reason"
        f" {UUID}), and only if it is off there let it go on here: capsule_start on h1 with snapshots of h2"
        " (host_info)",
    }


def test_a_far_end_that_has_said_that_it_is_off_there_is_asked_no_more(hosts):
    hosts.goes_on = CapsuleError("image_changed", "/images/db1.qcow2 has changed", "capsule_verify")
    assert hosts.move(hosts.far_end(OFF))["state"] == "stopped"
    assert save_record.read(hosts.pair.source, UUID).asked == []
    with pytest.raises(CapsuleError) as error:
        hosts.move(["sh", "-c", "echo no route to host >&2; exit 255"], there="h3")
    assert error.value.refusal["reason"] == (
        "h3 cannot be reached over the link for capsules (no route to host); the guest is off on h1, where an earlier"
        " run has stopped it"
    )


def test_a_guest_is_not_stopped_for_a_far_end_that_refuses_at_once(hosts):
    command = hosts.far_end(RUNS)
    Path(tickets.folder_of("t", hosts.pair.run_dir), tickets.FILE).unlink()
    with pytest.raises(CapsuleError) as error:
        hosts.move(command)
    assert error.value.refusal["code"] == "ticket_gone"
    assert hosts.done == []


def test_a_guest_is_not_stopped_for_a_far_end_that_does_not_answer(hosts):
    with pytest.raises(CapsuleError) as error:
        hosts.move(["sh", "-c", "echo no route to host >&2; exit 255"])
    assert error.value.refusal == {
        "code": "far_end_silent",
        "reason": "h2 cannot be reached over the link for capsules (no route to host); the guest runs as before",
        "remedy": "see whether h1 reaches 192.0.2.2, port 22",
    }
    assert hosts.done == []


def test_a_capsule_of_another_guest_is_refused_and_the_guest_goes_on_here(hosts):
    result = hosts.move(hosts.far_end(RUNS, guest="0b7fd2f5-0000-5b62-9ce9-7e4d2b1c9a10"))
    assert hosts.done == ["saved, then stop", "started on h1"]
    assert (result["state"], result["refusal"]["code"]) == ("back", "capsule_other")
    assert "may send the next one of guest 0b7fd2f5-0000-5b62-9ce9-7e4d2b1c9a10 only" in result["refusal"]["reason"]
