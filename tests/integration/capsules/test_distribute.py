# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The playbook `distribute`: signed, to one host first, then to all others; who cannot have it is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import traffic
from harness.ansible import Outcome
from harness.operator import Operator
from lab import Lab, agent_protocol

# The playbook has thirty tasks on three hosts: a quarter of a minute for each run of it.
pytestmark = pytest.mark.soak

SCENARIO = Path(__file__).with_name("sends.yml")
STORE = "/var/lib/libvirt/capsules"
READY_S = 180.0
KEY = "/root/capsule_key"
MAKE_KEY = f"rm -f {KEY}*; ssh-keygen -q -t ed25519 -N '' -C operator -f {KEY} && cat {KEY}.pub"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPoSMIeW6GKXJz90HuTD+mIdwjxEEesFIizW36zvKpw somebody"
#: What each row of a table says of its host in the end.
NOW = r"^(h[23]) +(h[12]) .* (sent|has it already|would be sent|refused)$"


@pytest.fixture(scope="module")
def trio(lab_with: Callable[[Path], Lab]) -> Lab:
    """Three hosts, and a guest on h1 that is ready."""
    lab = lab_with(SCENARIO)
    agent_protocol.wait_ready(lab.guest("plain").address, READY_S)
    return lab


@pytest.fixture
def operator(trio: Lab, tmp_path: Path) -> Iterator[Operator]:
    """Alice, whose hosts take what her key has signed."""
    for host in trio.hosts.values():
        host.ssh(f"rm -rf {STORE} /run/kvmops", check=True)
    public = trio.host("h1").ssh(MAKE_KEY, check=True).stdout.strip()
    alice = Operator(trio, tmp_path, variables={"kvmops_cluster_capsule_signers": [public]})
    yield alice
    alice.leave()


def distribute(operator: Operator, *words: str) -> Outcome:
    return operator.run(
        "distribute",
        *words,
        distribute_guest="plain",
        distribute_source="h1",
        distribute_destinations=["h2", "h3"],
        distribute_save=True,
        distribute_consistency="crash",
        distribute_sign_with=KEY,
    )


def table(outcome: Outcome) -> list[tuple[str, ...]]:
    """Host, sender and end of each row that was shown."""
    return [match.groups() for match in re.finditer(NOW, outcome.text, re.MULTILINE)]


def test_a_host_that_trusts_another_key_is_named_and_the_others_have_it(trio: Lab, operator: Operator) -> None:
    operator.set_host("h3", kvmops_cluster_capsule_signers=[OTHER])
    done = distribute(operator)
    assert done.status != 0
    assert table(done) == [("h2", "h1", "sent"), ("h2", "h1", "has it already"), ("h3", "h2", "refused")]
    assert (
        "It is not right on 1 of 2 hosts; all others have it. Run the same again when this is mended: h3: "
        in done.words
    )
    assert "the signature of capsule 1 of plain is not right (" in done.words
    assert trio.host("h2").ssh(f"ls {STORE}/guests/*/1/capsule.json.sig").returncode == 0
    assert trio.host("h3").ssh(f"ls {STORE}/guests").stdout == ""


def test_an_update_leaves_its_source_once_and_a_changed_base_is_not_built_upon(trio: Lab, operator: Operator) -> None:
    checked = distribute(operator, "--check")
    assert "plain would be saved first, as capsule 1." in checked.words
    assert "There is no capsule of it yet, so there is no table." in checked.words
    first = distribute(operator)
    assert first.status == 0, first.text
    assert table(first) == [("h2", "h1", "sent"), ("h2", "h1", "has it already"), ("h3", "h2", "sent")]
    counted = trio.line().bytes[0]
    into = traffic.into(trio, ["h3"])
    again = distribute(operator)
    assert again.status == 0, again.text
    assert trio.line().bytes[0] - counted < 1.2 * (traffic.into(trio, ["h3"]) - into)
    checked = distribute(operator, "--check")
    assert table(checked) == [
        ("h2", "h1", "has it already"),
        ("h2", "h1", "has it already"),
        ("h3", "h2", "has it already"),
    ]
    trio.host("h3").ssh(f"touch {STORE}/images/*", check=True)
    refused = distribute(operator)
    assert refused.status != 0
    assert table(refused)[-1] == ("h3", "h2", "refused")
    assert "was written to after it was sealed" in refused.words
    assert "It is not right on 1 of 2 hosts; all others have it." in refused.words
