# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest is saved as a capsule, goes on where it was or on another host, and never runs twice."""

from __future__ import annotations

import json
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.ansible import Outcome
from harness.module_steps import Step, run
from harness.operator import Operator
from lab import Lab

SCENARIO = Path(__file__).with_name("save-start.yml")
#: The kernel of the lab's guests is on the hosts, and so is the log of their consoles.
FILES = {"allow_files": ["/usr/share/kvmops-lab/*", "/var/log/kvmops-lab/*"]}
RUNS = "/var/lib/libvirt/capsules/runs"
#: Kills a module as soon as its record has a stage.
KILL_AT = """
import glob, json, os, signal, time
end = time.time() + 60
while time.time() < end:
    for path in glob.glob("{runs}/save-*.json"):
        try:
            stage = json.load(open(path))["details"]["stage"]
        except (OSError, ValueError):
            continue
        if stage == "{stage}":
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    words = open(f"/proc/{{pid}}/cmdline").read()
                    if "AnsiballZ_capsule_save" in words and "python" in words.partition(chr(0))[0]:
                        os.kill(int(pid), signal.SIGKILL)
                except OSError:
                    pass
            raise SystemExit
    time.sleep(0.001)
raise SystemExit("it never came to {stage}")
"""


@pytest.fixture(scope="module")
def site(lab_with: Callable[[Path], Lab]) -> Lab:
    return lab_with(SCENARIO)


@pytest.fixture(scope="module")
def operator(site: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    alice = Operator(site, tmp_path_factory.mktemp("alice"))
    yield alice
    alice.leave()


def result(outcome: Outcome) -> dict[str, Any]:
    """What a module returned."""
    assert outcome.status == 0, outcome.text
    found = json.loads(outcome.text[outcome.text.index("=> ") + 3 :])
    assert isinstance(found, dict)
    return found


def save(operator: Operator, host: str, guest: str, *words: str, **options: Any) -> Outcome:
    return operator.run_module(host, "capsule_save", *words, guest=guest, name=host, balloon=False, **options)


def start(operator: Operator, host: str, guest: str, *words: str, **options: Any) -> Outcome:
    return operator.run_module(host, "capsule_start", *words, guest=guest, name=host, **FILES, **options)


def disk_of(lab: Lab, host: str, guest: str, *words: str) -> str:
    return lab.host(host).ssh(f"virsh -q domblklist {guest} {' '.join(words)}", check=True).stdout.split()[1]


def is_sound(lab: Lab, guest: str) -> bool:
    """Whether all of its memory and of its disk are as it has written them."""
    seen = lab.verify(guest)
    return bool(seen["memory_ok"] and seen["disk_ok"])


def test_a_guest_goes_on_where_it_was(site: Lab, operator: Operator) -> None:
    before = site.verify("writer")
    site.host("h1").ssh("virsh -q autostart writer", check=True)
    saved = result(save(operator, "h1", "writer"))
    after = site.verify("writer")
    assert after["memory_ok"]
    assert after["disk_ok"]
    assert after["boot_id"] == before["boot_id"]
    assert after["pages_written"] >= before["pages_written"]
    assert (saved["state"], saved["number"], saved["consistency"]) == ("running", 1, "memory")
    assert 0 < saved["down_s"] < 60
    # It is what it was, on a layer of its own, and so it is after its next start.
    overlay = "/var/lib/libvirt/images/writer.kvmops-1.qcow2"
    assert disk_of(site, "h1", "writer") == disk_of(site, "h1", "writer", "--inactive") == overlay
    info = site.host("h1").ssh("virsh dominfo writer; virsh dumpxml --inactive writer", check=True).stdout
    assert "Autostart:      enable" in info
    assert 'home="h1"' in info.replace("'", '"')


def test_a_capsule_is_started_once_and_where_it_may_be(site: Lab, operator: Operator) -> None:
    """The guest with UEFI and a TPM goes to the other host; its old host forgets it when it provably runs there."""
    boot = site.verify("safe")["boot_id"]
    safe = {"guest": "safe"}
    stop = {**safe, "balloon": False, "then": "stop"}
    word = {**safe, "stopped": "{{ stopped.stopped }}"}
    steps = [
        Step("stopped", "h1", "capsule_save", stop),
        Step("again", "h1", "capsule_save", stop),
        Step("sent", "h1", "capsule_send", {**safe, "to": ["h2"]}),
        Step("unproven", "h2", "capsule_start", {**safe, **FILES}, may_fail=True),
        Step("unpermitted", "h2", "capsule_start", word, may_fail=True),
        Step("too_early", "h1", "capsule_release", safe, may_fail=True),
        Step("started", "h2", "capsule_start", {**word, **FILES}),
        Step("twice", "h2", "capsule_start", {**word, **FILES}),
        Step("released", "h1", "capsule_release", {**safe, "started": "{{ started }}"}),
    ]
    found = run(operator, "start", steps)
    assert (found["again"]["changed"], found["again"]["digest"]) == (False, found["stopped"]["digest"])
    for step, told in (
        ("unproven", "nothing says that safe is off on h1, where capsule 1 was made"),
        ("unpermitted", "the file /usr/share/kvmops-lab/vmlinuz of its old host as its kernel"),
        ("too_early", "nothing proves that safe runs on another host now, so h1 keeps it"),
    ):
        assert found[step]["failed"]
        assert told in found[step]["msg"]
    assert found["started"]["useful_after_s"] >= found["started"]["running_after_s"] > 0
    assert [found[step]["changed"] for step in ("twice", "released")] == [False, True]
    assert site.where("safe") == ["h2"]
    assert is_sound(site, "safe")
    assert site.verify("safe")["boot_id"] == boot
    assert "safe" not in site.host("h1").ssh("virsh -q list --all --name", check=True).stdout.split()


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["begun", "saving", "saved", "frozen"])
def test_a_save_that_was_killed_is_ended_by_the_next_one(site: Lab, tmp_path: Path, stage: str) -> None:
    # What is killed is found by its file, which a module has on the host without pipelining only.
    operator = Operator(site, tmp_path, ANSIBLE_PIPELINING="False")
    program = textwrap.dedent(KILL_AT.format(runs=RUNS, stage=stage))
    host = site.host("h1")
    host.ssh(f"cat > /root/kill_at.py <<'END'\n{program}\nEND", check=True)
    killed: list[int] = []
    killer = threading.Thread(target=lambda: killed.append(host.ssh("python3 /root/kill_at.py").returncode))
    killer.start()
    assert save(operator, "h1", "writer").status != 0
    killer.join()
    assert killed == [0]
    healed = result(save(operator, "h1", "writer"))
    assert healed["state"] == "running"
    assert is_sound(site, "writer")
    left = host.ssh(f"ls {RUNS}", check=True).stdout.split()
    assert not [name for name in left if name.startswith("save-") and "writer" in name]
    assert disk_of(site, "h1", "writer") == disk_of(site, "h1", "writer", "--inactive")


@pytest.mark.soak
def test_disks_alone_make_a_second_guest(site: Lab, operator: Operator) -> None:
    saved = result(save(operator, "h1", "writer", consistency="crash"))
    assert saved["memory"] is None
    copied = result(start(operator, "h1", "writer", as_new="copy", wait_s=60))
    host = site.host("h1")
    uuids = {host.ssh(f"virsh -q domuuid {name}", check=True).stdout.strip() for name in ("writer", "copy")}
    assert len(uuids) == 2
    assert copied["guest"]["uuid"] in uuids
    host.ssh("virsh destroy copy; virsh undefine copy --nvram --tpm", check=True)
    assert is_sound(site, "writer")


@pytest.mark.soak
def test_a_start_that_fails_leaves_nothing(site: Lab, operator: Operator) -> None:
    result(save(operator, "h1", "writer", consistency="crash"))
    images = site.host("h1").ssh("ls /var/lib/libvirt/images", check=True).stdout
    failed = operator.run_module(
        "h1", "capsule_start", guest="writer", name="h1", as_new="bad", allow_files=["/nowhere/*"]
    )
    assert "of its old host as its kernel" in failed.words
    assert site.host("h1").ssh("ls /var/lib/libvirt/images", check=True).stdout == images
    assert site.host("h1").ssh("virsh dominfo bad").returncode != 0
