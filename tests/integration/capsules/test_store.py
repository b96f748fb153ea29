# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host keeps of capsules is right, is named where it is not, and goes when nobody needs it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.ansible import Outcome
from harness.module_steps import Step
from harness.module_steps import run as run_steps
from harness.operator import Operator
from lab import Lab

SCENARIO = Path(__file__).with_name("store.yml")
STORE, IMAGES = "/var/lib/libvirt/capsules", "/var/lib/libvirt/images"
LAYERS = f"ls {IMAGES}/kept.*"
#: One bit, at a byte of a file, with the time of its content as it was.
FLIP = """python3 -c '
import os
before = os.stat("{path}")
os.chmod("{path}", 0o600)
with open("{path}", "r+b") as file:
    file.seek({at})
    byte = file.read(1)[0]
    file.seek({at})
    file.write(bytes([byte ^ 1]))
os.utime("{path}", ns=(before.st_atime_ns, before.st_mtime_ns))
os.chmod("{path}", before.st_mode)'"""
#: The first range with content: where it is in what the guest sees, and in the file.
FIRST = """
import json, sys
row = next(row for row in json.load(sys.stdin) if row["data"] and not row["zero"])
print(row["start"], row["offset"])
"""
#: A raw image with a hole, and what may be made of it.
BASES = """mkdir -p /srv/bases && cd /srv/bases && head -c 3M /dev/urandom > plain.raw && truncate -s 40M plain.raw
yes compressible | head -c 8M > text.raw
qemu-img convert -c -O qcow2 text.raw packed.qcow2
qemu-img create -q -f qcow2 -b text.raw -F raw foreign.qcow2
qemu-img create -q -u -f qcow2 -b nbd://127.0.0.1/x -F raw hostile.qcow2 8M"""


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
    text = outcome.text[outcome.text.rindex(" => ") + 4 :]
    found: dict[str, Any] = json.JSONDecoder().raw_decode(text)[0]
    return found


def run(operator: Operator, module: str, **arguments: Any) -> dict[str, Any]:
    """Run a module that must succeed."""
    done = operator.run_module("h1", module, **{"capsule_dir": STORE, **arguments})
    assert done.status == 0, done.text
    return result(done)


def test_what_nobody_needs_goes_and_a_bit_that_changes_is_named(site: Lab, operator: Operator) -> None:
    """Of two capsules the last one is kept: the other one goes, and their layers become one as the guest runs."""
    h1 = site.host("h1")
    prune = {"keep_last": 1, "delay_s": 0}
    saves = [Step(one, "h1", "capsule_save", {"guest": "kept", "consistency": one}) for one in ("memory", "crash")]
    prunes = [Step(one, "h1", "capsule_prune", prune) for one in ("marked", "pruned")]
    found = run_steps(operator, "prune", [*saves, *prunes])
    last, pruned = found["crash"], found["pruned"]
    assert found["marked"]["merged"] or pruned["merged"]
    assert [row["what"] for row in pruned["removed"]] == ["capsule 1 of kept", "memory"], pruned
    assert pruned["kept"][last["digest"]] == "it is the last"
    assert pruned["faults"] == []
    # The guest's own layer, and the image below it, which shows what the last capsule has.
    assert h1.ssh(LAYERS, check=True).stdout.split() == [f"{IMAGES}/kept.kvmops-2.qcow2", f"{IMAGES}/kept.qcow2"]
    assert h1.ssh(f"ls -A {STORE}/images", check=True).stdout.split() == []
    assert site.verify("kept")["disk_ok"]

    # One bit of an image, by its place in what the guest sees. Everything else of the capsule is right.
    path = f"{IMAGES}/kept.qcow2"
    start, offset = h1.ssh(f"qemu-img map -U --output=json {path} | python3 -c '{FIRST}'", check=True).stdout.split()
    h1.ssh(FLIP.format(path=path, at=int(offset) + 10), check=True)
    damaged = operator.run_module("h1", "capsule_verify", guest="kept")
    assert damaged.status != 0
    place = f"{start} to {int(start) + 4095}"
    assert f"disk vda of capsule 2 of kept is damaged: kept.qcow2 differs in bytes {place} ({path})" in damaged.text
    assert "send it again from a host that has it (capsule_send)" in damaged.text
    assert len(result(damaged)["capsules"][0]["faults"]) == 1
    h1.ssh(FLIP.format(path=path, at=int(offset) + 10), check=True)


@pytest.mark.soak
def test_what_is_here_is_listed_and_is_right(operator: Operator) -> None:
    for consistency in ("crash", "memory"):
        run(operator, "capsule_save", guest="kept", consistency=consistency)
    seen = run(operator, "capsule_info", guest="kept")
    assert all(one["missing"] == [] for one in seen["capsules"])
    assert seen["capsules"][-1]["lineage"][0]["here"]
    verified = run(operator, "capsule_verify")
    assert {one["status"] for one in (*verified["capsules"], *verified["images"])} == {"good"}
    assert len(verified["images"]) == len(seen["images"])


@pytest.mark.soak
def test_a_base_stays_where_it_is_unless_that_would_be_wrong(site: Lab, operator: Operator) -> None:
    h1 = site.host("h1")
    h1.ssh(BASES, check=True)
    there = run(operator, "capsule_base", path="/srv/bases/plain.raw")
    assert (there["changed"], there["copied_because"], there["read_bytes"]) == (True, None, 3 * 1024**2)
    assert there["base"]["path"] == "/srv/bases/plain.raw"
    assert h1.ssh("stat -c %a /srv/bases/plain.raw", check=True).stdout.strip() == "444"
    again = run(operator, "capsule_base", path="/srv/bases/plain.raw")
    assert (again["changed"], again["read_bytes"]) == (False, 0)

    packed = run(operator, "capsule_base", path="/srv/bases/packed.qcow2")
    assert packed["copied_because"] == "it is compressed, and guests would unpack each block that they read"
    assert packed["base"]["path"].startswith(f"{STORE}/images/")
    # The same content: it is there already.
    foreign = run(operator, "capsule_base", path="/srv/bases/foreign.qcow2", format="qcow2")
    assert (foreign["changed"], foreign["base"]["image"]) == (False, packed["base"]["image"])

    hostile = operator.run_module("h1", "capsule_base", path="/srv/bases/hostile.qcow2", format="qcow2")
    assert "it stands on 'nbd://127.0.0.1/x', which is no file" in hostile.text
    own = h1.ssh("virsh domblklist kept | grep -o /.*", check=True).stdout.strip()
    written = operator.run_module("h1", "capsule_base", path=own, format="qcow2")
    assert "is a disk that kept can write to, and a base never changes" in written.text

    run(operator, "capsule_base", image=packed["base"]["image"], state="absent")
    assert packed["base"]["image"] not in [one["image"] for one in run(operator, "capsule_info")["images"]]
