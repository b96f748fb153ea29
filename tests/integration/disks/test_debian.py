# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian that was installed in the ordinary way, with a database at work: nothing of it is lost by a move."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import actual_state, traffic
from harness.operator import Operator
from harness.session import lab_beside
from lab import Lab, database, debian

pytestmark = pytest.mark.soak

SCENARIO = Path(__file__).with_name("debian.yml")
#: TPM2_PCR_Extend of PCR 16, which nothing else uses: header, handle, an empty password, one SHA-256 digest.
EXTEND = (
    "80020000004100000182"  # tag with sessions, 65 bytes, TPM_CC_PCR_Extend
    "00000010"  # PCR 16
    "00000009400000090000000000"  # TPM_RS_PW
    "00000001000b" + "5a" * 32  # one digest, SHA-256
)
PCR = "cat /sys/class/tpm/tpm0/pcr-sha256/16"
#: The answer is read as well: until then the device takes no other command.
BYTES = "".join(rf"\x{EXTEND[n : n + 2]}" for n in range(0, len(EXTEND), 2))
TELL_TPM = f"exec 3<>/dev/tpm0; printf '{BYTES}' >&3; head -c 10 <&3 | od -An -tx1"


@pytest.fixture(scope="module")
def pair() -> Iterator[Lab]:
    with lab_beside(SCENARIO) as lab:
        yield lab


@pytest.fixture
def operator(pair: Lab, tmp_path: Path) -> Iterator[Operator]:
    alice = Operator(pair, tmp_path)
    yield alice
    alice.leave()


def test_a_database_loses_no_row_and_the_tpm_keeps_its_registers(pair: Lab, operator: Operator) -> None:
    guest = pair.guest("books")
    boots, counted = actual_state.boot_ids(pair), traffic.into(pair, ["h2"])
    said = debian.shell(pair.settings, guest.address, TELL_TPM).split()
    assert said[-4:] == ["00", "00", "00", "00"], said
    register = debian.shell(pair.settings, guest.address, PCR)
    assert set(register.strip()) != {"0"}
    with database.Client(guest.address) as client:
        drain = operator.run("drain_host", drain_host_name="h1", drain_host_intent={"allow_storage_copy": True})
    assert drain.status == 0, drain.text
    assert pair.where("books") == ["h2"]
    [report] = operator.reports()
    assert report["bytes"] == pytest.approx(traffic.into(pair, ["h2"]) - counted, rel=0.03)
    assert client.errors == []
    assert len(client.commits) > 100
    assert database.lost_rows(guest.address, client) == []
    assert debian.shell(pair.settings, guest.address, PCR) == register
    assert debian.shell(pair.settings, guest.address, "systemctl is-active qemu-guest-agent pgbench").split() == [
        "active",
        "active",
    ]
    assert actual_state.boot_ids(pair) == boots
    verified = pair.verify("books")
    assert verified["memory_ok"]
    debian.check_database(pair.settings, guest.address)
