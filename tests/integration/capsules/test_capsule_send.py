# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Capsules that are sent: what comes is right, whatever happens to the link and to both ends, and the text says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.ansible import Outcome, Running
from harness.operator import Operator
from lab import Lab, agent_protocol

SCENARIO = Path(__file__).with_name("sends.yml")
STORE = "/var/lib/libvirt/capsules"
READY_S = 180.0
#: A line with a rate: the far end has begun to take an image.
UNDER_WAY = r"plain -> h2 \| send .*bit/s"
#: The receiver of a capsule, by the lock that it holds.
KILL_RECEIVER = f"""python3 -c 'import glob, json, os
print(os.kill(json.load(open(glob.glob("{STORE}/runs/receive-*.lock")[0]))["pid"], 9))'"""
LEFT = f"grep -c kvmops-capsule /root/.ssh/authorized_keys; ls /run/kvmops/receive {STORE}/receiving"
CONTENT = f"cd {STORE} && for f in images/*; do qemu-img convert -O raw $f /dev/stdout | sha256sum; done | sort"
#: One bit in the middle of each image, without the time of its content.
DAMAGE = f"""for f in {STORE}/images/*; do t=$(stat -c %y $f); chmod u+w $f
python3 -c 'import sys; f = open(sys.argv[1], "r+b"); f.seek(-5000, 2); b = f.read(1); f.seek(-1, 1)
f.write(bytes([b[0] ^ 1]))' $f; touch -d "$t" $f; done"""


@pytest.fixture(scope="module")
def trio(lab_with: Callable[[Path], Lab]) -> Lab:
    """Three hosts, and a guest on h1 that is ready."""
    lab = lab_with(SCENARIO)
    agent_protocol.wait_ready(lab.guest("plain").address, READY_S)
    return lab


@pytest.fixture
def operator(trio: Lab, tmp_path: Path) -> Iterator[Operator]:
    alice = Operator(trio, tmp_path)
    yield alice
    alice.leave()


@pytest.fixture
def saved(trio: Lab, operator: Operator) -> int:
    """Number of a capsule on h1. Nobody else has anything of it."""
    for host in ("h2", "h3"):
        trio.host(host).ssh(f"rm -rf {STORE} /run/kvmops", check=True)
    done = operator.run_module("h1", "capsule_save", guest="plain")
    assert done.status == 0, done.text
    return int(re.findall(r'"number": (\d+)', done.text)[-1])


def order(number: int, *to: str, **more: Any) -> dict[str, Any]:
    """What `capsule_send` is given."""
    return {"guest": "plain", "number": number, "to": list(to or ("h2",)), **more}


def send(operator: Operator, number: int, *to: str, **more: Any) -> Outcome:
    return operator.run_module("h1", "capsule_send", **order(number, *to, **more))


def begin(operator: Operator, number: int, **more: Any) -> Running:
    """Begin a slow send, and return when blocks are on their way."""
    running = operator.start_module("h1", "capsule_send", **order(number, rate="20mbit", **more))
    running.await_text(UNDER_WAY)
    return running


def rows(outcome: Outcome) -> list[dict[str, Any]]:
    """What the result says of each host."""
    text = outcome.text[outcome.text.rindex(" => ") + 4 :]
    found: list[dict[str, Any]] = json.JSONDecoder().raw_decode(text)[0]["hosts"]
    return found


def check_there(lab: Lab, host: str = "h2") -> None:
    """See that a host has the very images of h1, and that nothing of the send is left."""
    there = lab.host(host).ssh(CONTENT, check=True).stdout.split("\n")
    here = lab.host("h1").ssh(CONTENT_OF_NEWEST, check=True).stdout.split("\n")
    assert set(filter(None, here)) <= set(filter(None, there))
    left = lab.host(host).ssh(LEFT)
    assert left.stdout.split() == ["0", "/run/kvmops/receive:", f"{STORE}/receiving:"]


CONTENT_OF_NEWEST = f"""python3 - <<'END'
import glob, json, os, subprocess
newest = max(glob.glob("{STORE}/guests/*/*/capsule.json"), key=lambda path: int(path.split("/")[-2]))
capsule = json.load(open(newest))
names = [disk["image"] for disk in capsule["disks"]] + ([capsule["memory"]["image"]] if capsule["memory"] else [])
for name in names:
    record = json.load(open("{STORE}/index/" + name[7:] + ".json"))
    command = "qemu-img convert -U -f %s -O raw %s /dev/stdout | sha256sum" % (record["format"], record["path"])
    print(subprocess.check_output(command, shell=True, text=True).strip())
END"""


@pytest.mark.soak
def test_a_send_goes_on_after_its_receiver_was_killed(trio: Lab, operator: Operator, saved: int) -> None:
    running = begin(operator, saved)
    trio.host("h2").ssh(KILL_RECEIVER, check=True)
    done = running.finish()
    assert done.status == 0, done.text
    (row,) = rows(done)
    assert (row["host"], row["outcome"], row["interruptions"], row["refusal"]) == ("h2", "sent", 1, None)
    assert "interrupted" in done.words
    assert row["bytes_out"] < 1.3 * row["sent"]
    check_there(trio)
    again = send(operator, saved)
    assert again.status == 0, again.text
    (row,) = rows(again)
    assert (row["outcome"], row["bytes_out"], '"changed": false' in again.text) == ("there", 0, True)


@pytest.mark.soak
def test_a_cut_that_nobody_says_is_noticed_and_lasts_as_long_as_it_lasts(
    trio: Lab, operator: Operator, saved: int
) -> None:
    running = begin(operator, saved)
    trio.fault.cut_link("h2")
    try:
        running.await_text(r"plain -> h2 \| send .*interrupted")
    finally:
        trio.fault.mend("h2")
    done = running.finish()
    assert done.status == 0, done.text
    assert [row["outcome"] for row in rows(done)] == ["sent"]
    check_there(trio)


@pytest.mark.soak
def test_what_a_stopped_send_has_sent_is_not_sent_again(trio: Lab, operator: Operator, saved: int) -> None:
    running = begin(operator, saved)
    running.press_ctrl_c()
    assert "Run the same playbook again: it goes on from what has come" in running.finish().words
    done = send(operator, saved)
    assert done.status == 0, done.text
    (row,) = rows(done)
    assert row["outcome"] == "sent"
    assert row["resumed_bytes"] > 0
    check_there(trio)


@pytest.mark.soak
def test_a_far_end_that_has_started_anew_is_asked_again(trio: Lab, operator: Operator, saved: int) -> None:
    running = begin(operator, saved)
    # What a restart leaves of it, without the minute that a restart takes.
    trio.host("h2").ssh(f"rm -rf /run/kvmops/receive; {KILL_RECEIVER}", check=True)
    done = running.finish()
    assert done.status == 0, done.text
    assert "h2 has forgotten the permission to send. Asking for it again." in done.words
    assert [row["outcome"] for row in rows(done)] == ["sent"]
    check_there(trio)


@pytest.mark.soak
def test_a_second_send_of_the_same_capsule_is_told_who_sends(trio: Lab, operator: Operator, saved: int) -> None:
    running = begin(operator, saved)
    second = send(operator, saved)
    assert second.status != 0
    assert f"this host sends capsule {saved} of plain to h2 already (process " in second.words
    assert "wait until that has ended; capsule_send then sends what is still missing" in second.words
    assert running.finish().status == 0
    check_there(trio)


@pytest.mark.soak
def test_a_far_end_without_room_says_how_much_is_missing_and_nothing_is_sent(
    trio: Lab, operator: Operator, saved: int
) -> None:
    h2 = trio.host("h2")
    h2.ssh(f"mkdir -p {STORE} && mount -t tmpfs -o size=20m,mode=0711 tmpfs {STORE}", check=True)
    try:
        checked = operator.run_module("h1", "capsule_send", "--check", **order(saved))
        done = send(operator, saved)
        assert h2.ssh(f"ls {STORE}/images {STORE}/guests/*/", check=True).stdout.count("\n") < 8
    finally:
        h2.ssh(f"umount {STORE}", check=True)
    wanted = r"needs .* MiB in .* on h2, and .* MiB are free there"
    for outcome in (checked, done):
        assert outcome.status != 0
        assert re.search(wanted, outcome.words)
        assert "capsule_prune removes old capsules" in outcome.words
    assert rows(done)[0]["bytes_out"] < 1_000_000


@pytest.mark.soak
def test_an_image_that_was_damaged_is_not_built_upon(trio: Lab, operator: Operator, saved: int) -> None:
    assert send(operator, saved).status == 0
    again = operator.run_module("h1", "capsule_save", guest="plain")
    assert again.status == 0, again.text
    trio.host("h2").ssh(f"touch {STORE}/images/*.raw", check=True)
    refused = send(operator, saved)
    assert refused.status != 0
    assert "is not known to be right any more" in refused.words
    assert "was written to after it was sealed; what stands on it would be silently corrupt" in refused.words


@pytest.mark.soak
def test_a_bit_that_has_changed_at_the_source_is_not_sent(trio: Lab, operator: Operator, saved: int) -> None:
    trio.host("h1").ssh(DAMAGE, check=True)
    refused = send(operator, saved)
    assert refused.status != 0
    assert "is not as it was when the capsule was made: its digest is another one" in refused.words
    assert "nothing wrong was sent" in refused.words


@pytest.mark.soak
def test_an_older_capsule_and_one_without_signature_are_refused(trio: Lab, operator: Operator, saved: int) -> None:
    key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPoSMIeW6GKXJz90HuTD+mIdwjxEEesFIizW36zvKpw operator"
    unsigned = send(operator, saved, keys=[key])
    assert unsigned.status != 0
    assert f"capsule {saved} of plain is not signed, and keys that may sign are named" in unsigned.words
    assert operator.run_module("h1", "capsule_save", guest="plain").status == 0
    assert send(operator, saved + 1).status == 0
    older = send(operator, saved)
    assert older.status != 0
    assert f"capsule {saved} of plain is older than {saved + 1}, which this host has seen" in older.words
    assert send(operator, saved, allow_older=True).status == 0


@pytest.mark.soak
def test_through_another_host_it_leaves_the_source_once(trio: Lab, operator: Operator, saved: int) -> None:
    done = send(operator, saved, "h2", "h3", via="h2")
    assert done.status == 0, done.text
    assert [(row["host"], row["source"], row["outcome"]) for row in rows(done)] == [
        ("h2", "h1", "sent"),
        ("h3", "h2", "sent"),
    ]
    check_there(trio, "h2")
    check_there(trio, "h3")


@pytest.mark.soak
def test_a_disk_that_was_carried_there_is_not_sent(trio: Lab, operator: Operator, saved: int) -> None:
    assert send(operator, saved, "h3").status == 0
    # The disk with the store of h3 is carried to h2.
    packed = trio.host("h3").ssh(f"tar -C {STORE} -cf - images | base64 -w0", check=True).stdout
    trio.host("h2").ssh_with("mkdir -p /srv/carried && base64 -d | tar -C /srv/carried -xf -", packed)
    done = send(operator, saved, seed_from="/srv/carried")
    assert done.status == 0, done.text
    (row,) = rows(done)
    assert (row["sent"], len(row["seeded"])) == (0, 2)
    assert row["bytes_out"] < 100_000
    check_there(trio)
