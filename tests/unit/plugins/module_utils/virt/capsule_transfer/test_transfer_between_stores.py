# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A capsule that goes through real pipes, from store to store. Its only image is memory, so nothing needs QEMU."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import frames
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import run_records
from ansible_collections.kvmops.cluster.plugins.module_utils.run.progress import Progress
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import LiveLines
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.verification import Verifier
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket import ticket as tickets
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ssh_client import FarEnd
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import send, send_run
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.outgoing import outgoing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_watch import SendWatch
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.virt.capsule_transfer.stores import (
    MIB,
    SIZE,
    UUID,
    Clock,
    Pair,
    content,
    keep,
)


@pytest.fixture
def pair(tmp_path):
    return Pair(tmp_path)


def refusal_of(pair, stored, **changes):
    with pytest.raises(CapsuleError) as error:
        pair.send(stored, **changes)
    return error.value.refusal


def test_a_capsule_comes_as_it_is_and_is_not_sent_twice(pair):
    stored = keep(pair.source, 1, content(1))
    sent, watch = pair.send(stored)
    assert (sent, pair.arrived(stored) == content(1)) == (True, True)
    assert watch.traffic.out > SIZE
    assert pair.far_end.known(UUID) == Known(1, stored.digest, False)
    assert pair.far_end.receivings() == []
    again, watch = pair.send(stored)
    assert (again, watch.traffic.out < 2000) == (False, True)


def test_of_the_next_one_only_what_has_changed_is_sent(pair):
    first = keep(pair.source, 1, content(1))
    pair.send(first)
    changed = range(0, 1024, 50)
    stored = keep(pair.source, 2, content(2, changed))
    dummy, watch = pair.send(stored)
    (image,) = watch.images.values()
    assert image.table["send_bytes"] == len(changed) * 4096
    assert image.table["full_because"] is None
    assert sum(watch.traffic) < 1.05 * len(changed) * 4096 + 4000
    assert pair.arrived(stored) == content(2, changed)
    assert pair.arrived(first) == content(1)


def test_it_goes_on_after_each_interruption_and_little_is_sent_twice(pair):
    stored = keep(pair.source, 1, content(1))
    dummy, watch = pair.send(stored, cut_after=[100, 5000, 1_500_000, 2_000_000])
    assert pair.arrived(stored) == content(1)
    assert watch.interruptions == 4
    assert watch.resumed_bytes >= MIB
    assert watch.traffic.out < 2 * SIZE


def test_what_is_on_disk_of_a_receiver_that_was_killed_counts_only_as_far_as_it_was_written_down(pair):
    stored = keep(pair.source, 1, content(1))
    pair.far_end.receiving(stored.document["memory"]["image"]).prepare()
    state = {
        "schema": "kvmops.receive_state/1",
        "image": stored.document["memory"]["image"],
        "ground": None,
        "size_bytes": SIZE,
        "verified": [[0, 3]],
        "begun": [],
    }
    # The state survives and the data does not: all of it is sent.
    pair.far_end.receiving(stored.document["memory"]["image"]).write_state(state)
    dummy, watch = pair.send(stored)
    assert watch.resumed_bytes == 0
    assert pair.arrived(stored) == content(1)


def test_data_that_is_not_as_it_was_written_down_is_found_and_sent_again(pair):
    stored = keep(pair.source, 1, content(1))
    receiving = pair.far_end.receiving(stored.document["memory"]["image"])
    receiving.prepare()
    with Path(receiving.data_path("raw")).open("wb") as file:
        file.truncate(SIZE)
    name = stored.document["memory"]["image"]
    state = {"schema": "kvmops.receive_state/1", "image": name, "ground": None, "size_bytes": SIZE}
    receiving.write_state({**state, "verified": [[1, 2]], "begun": []})
    dummy, watch = pair.send(stored)
    assert pair.arrived(stored) == content(1)
    assert watch.interruptions == 1
    assert any("2 of its segments differ, the first is 1" in line for line in pair.lines)


def test_another_capsule_than_the_permitted_one_is_refused(pair):
    stored = keep(pair.source, 1, content(1))
    found = refusal_of(pair, stored, capsule="sha256:" + "0" * 64)
    assert found["code"] == "capsule_other"
    assert found["reason"].startswith(f"h2 says: h1 sends capsule {stored.digest} of db1, and may send sha256:000")
    assert pair.arrived(stored) is None


def test_an_older_one_and_another_one_of_the_same_number_are_refused(pair):
    older, newer = keep(pair.source, 1, content(1)), keep(pair.source, 2, content(2, [1]))
    pair.send(newer)
    assert refusal_of(pair, older)["code"] == "capsule_older"
    pair.send(older, allow_older=True)
    assert pair.arrived(older) == content(1)
    pair.source.remove_capsule(newer)
    assert refusal_of(pair, keep(pair.source, 2, content(3, [2])))["code"] == "capsule_forked"


def test_one_without_a_signature_is_refused_where_keys_are_named(pair):
    stored = keep(pair.source, 1, content(1))
    found = refusal_of(pair, stored, keys=("ssh-ed25519 " + "A" * 68,))
    assert found["code"] == "signature_missing"
    assert (
        found["remedy"] == "sign it where it is made: sign_with of the module (move_capsule_sign_with of a role) names"
        " the file of a key"
    )


def test_a_host_with_an_older_qemu_is_sent_nothing(pair):
    stored = keep(pair.source, 1, content(1))
    old = {"host": "h2", "versions": {"libvirt": "9.0.0", "qemu": "7.2.0"}}
    found = refusal_of(pair, stored, host=old)
    assert found["code"] == "qemu_older"
    assert list(Path(pair.far_end.directory, "images").iterdir()) == []


def test_memory_does_not_come_where_it_would_be_in_the_clear(pair):
    stored = keep(pair.source, 1, content(1))
    found = refusal_of(pair, stored, require_encrypted=True)
    # Which of the two, the file system of the tests decides.
    assert found["code"] in ("not_encrypted", "encryption_unknown")
    assert found["reason"].startswith("h2 says: the memory of db1 has its secrets, and ")
    assert found["reason"].endswith(" (require_encrypted)")
    assert list(Path(pair.far_end.directory, "images").iterdir()) == pair.far_end.receivings() == []


def test_an_image_that_has_changed_at_the_far_end_is_not_built_upon(pair):
    first = keep(pair.source, 1, content(1))
    pair.send(first)
    os.utime(pair.far_end.image(first.document["memory"]["image"])["path"], (1, 1))
    keep(pair.source, 2, content(2, [1]))
    found = refusal_of(pair, first)
    assert found["code"] == "base_changed"
    assert "was written to after it was sealed" in found["reason"]


def flip(path, at=100):
    """Change one bit, and leave the time of the content as it was."""
    before = path.stat()
    path.chmod(0o600)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def faults_of(store):
    """What capsule_verify says first of a store; None: all is right."""
    found = [one.why for one in (*store.damaged_records(), *store.unreadable())]
    verifier = Verifier(store, LiveLines(Progress(None)), dry=False)
    for one in store.capsules():
        found += verifier.capsule(one, ())["faults"]
    return found


@pytest.mark.parametrize(
    "part",
    [
        "images/{image}.raw",
        "manifests/{image}",
        "index/{image}.json",
        f"guests/{UUID}/1/definition.xml",
        f"guests/{UUID}/1/capsule.json",
        f"guests/{UUID}/known.json",
    ],
)
def test_one_bit_of_anything_at_rest_is_found_and_what_is_told_to_do_helps(pair, part, tmp_path):
    """A machine does what the remedy says: it moves or removes the file that is named, and sends again."""
    stored = keep(pair.source, 1, content(1))
    pair.send(stored)
    file = Path(pair.far_end.directory, part.format(image=stored.document["memory"]["image"].partition(":")[2]))
    # Where it is a number that has changed, the document of a capsule can still be read, and a record is renewed.
    flip(file, 0 if part.startswith("index/") else 100)
    refusals = faults_of(pair.far_end)
    assert refusals
    remedy = refusals[0]["remedy"]
    moved = re.search(r"mv (\S+) /root/", remedy)
    removed = re.search(r"remove (/\S+?),? ", f"{remedy} ")
    if moved:
        Path(moved.group(1)).rename(tmp_path / "moved")
    elif removed:
        Path(removed.group(1)).unlink()
    else:
        assert "send" in remedy
    pair.send(stored)
    assert faults_of(pair.far_end) == []
    assert pair.arrived(stored) == content(1)


def test_an_image_that_has_changed_at_the_source_is_not_sent(pair):
    stored = keep(pair.source, 1, content(1))
    path = Path(pair.source.image(stored.document["memory"]["image"])["path"])
    facts = path.stat()
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"damaged")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    found = refusal_of(pair, stored)
    assert found["code"] == "source_changed"
    assert pair.arrived(stored) is None


def test_a_permission_that_has_ended_says_so(pair):
    stored = keep(pair.source, 1, content(1))
    command = pair.ticket(stored)
    Path(tickets.folder_of("ticket-1", pair.run_dir), tickets.FILE).unlink()
    found = refusal_of(pair, stored, command=command)
    assert (found["code"], found["remedy"]) == ("ticket_gone", "run capsule_send again: it goes on from there")


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ("echo 'Host key verification failed.' >&2; exit 255", "host_key_differs"),
        ("echo 'root@h2: Permission denied (publickey).' >&2; exit 255", "ticket_gone"),
        ("echo \"can't open file '/run/kvmops/code.zip'\" >&2; exit 2", "ticket_gone"),
        ("echo Welcome; cat > /dev/null", "transfer_no_protocol"),
    ],
)
def test_what_another_try_would_not_cure_is_said_at_once(pair, script, code):
    stored = keep(pair.source, 1, content(1))
    assert refusal_of(pair, stored, command=["sh", "-c", script])["code"] == code


def test_a_far_end_that_cannot_be_reached_is_given_up_in_the_end(pair):
    stored = keep(pair.source, 1, content(1))
    whole, clock = outgoing(pair.source, stored), Clock()
    watch = SendWatch({}, whole.base_of, lambda line, **figures: pair.lines.append(line))
    command = ["sh", "-c", "echo 'ssh: connect to host h2 port 22: No route to host' >&2; exit 255"]
    how = send.Sending(lambda: command, None, None, retry_s=86400, stopping=lambda: False)
    end = FarEnd("h2", "h2", 22, "root", (), "ticket-1")
    with pytest.raises(CapsuleError, match=r"^h2 could not be reached for .*No route to host; see whether the link"):
        send.send(end, whole, how, watch, clock=clock, pause=clock.pause)
    assert watch.interruptions > 1
    assert send.FIRST_S <= clock.now < 2 * send.FIRST_S


def test_a_receiver_that_always_ends_with_the_same_error_is_not_started_for_ever(pair):
    stored = keep(pair.source, 1, content(1))
    whole, clock = outgoing(pair.source, stored), Clock()
    watch = SendWatch({}, whole.base_of, lambda line, **figures: pair.lines.append(line))
    program = (
        f"import sys; sys.stdout.buffer.write({frames.START!r}); sys.stdout.flush();"
        " sys.exit('Traceback ' + 2000 * 'x' + ' AttributeError: no close')"
    )
    how = send.Sending(lambda: [sys.executable, "-c", program], None, None, retry_s=86400, stopping=lambda: False)
    end = FarEnd("h2", "h2", 22, "root", (), "ticket-1")
    with pytest.raises(CapsuleError, match=r"^the receiver on h2 has ended 5 times .*AttributeError: no close\)"):
        send.send(end, whole, how, watch, clock=clock, pause=clock.pause)
    assert watch.interruptions == send.CRASHES - 1


def request(pair, host="h1"):
    return send_run.SendRequest("db1", None, None, None, 60, None, host, pair.source.directory, ("h2",))


def test_a_guest_whose_disks_have_not_all_come_is_not_sent(pair):
    keep(pair.source, 1, content(1))
    record = run_records.record_of("fill", {"name": "db1", "uuid": UUID}, (), at="2026-11-24T02:00:00Z")
    pair.source.write_run("fill-db1", record)
    with pytest.raises(CapsuleError) as error:
        send_run.offered(pair.source, request(pair))
    assert error.value.refusal == {
        "code": "fill_unfinished",
        "reason": "the disks of db1 have not come to this host as a whole (since 2026-11-24T02:00:00Z)",
        "remedy": "finish that first: capsule_fill with guest: db1",
    }
    # What the remedy does in the end.
    pair.source.write_run("fill-db1", {**record, "ended": True})
    assert send_run.offered(pair.source, request(pair)).named()["number"] == 1
