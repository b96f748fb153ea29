# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is proven fit, or told what it lacks."""

from __future__ import annotations

import pytest

from harness.operator import Operator
from lab import Lab


def test_a_sound_cluster_passes(lab: Lab, operator: Operator) -> None:
    proof = operator.run("preflight")
    assert proof.status == 0, proof.text
    matrix = [line.split() for line in proof.text.splitlines() if line.startswith(("FROM", "h1 ", "h2 ", "h3 "))][:4]
    assert matrix == [
        ["FROM", "\\", "TO", "h1", "h2", "h3"],
        ["h1", "-", "ok", "ok"],
        ["h2", "ok", "-", "ok"],
        ["h3", "ok", "ok", "-"],
    ]
    assert proof.total("changed") == 0


def test_filtered_ports_are_found_and_the_remedy_named(lab: Lab, operator: Operator) -> None:
    lab.fault.cut_migration("h2", silent=True)
    proof = operator.run("preflight")
    assert proof.status == 2, proof.text
    for pair in ("h1 -> h2", "h3 -> h2"):
        assert pair in proof.text
    assert f"ports: no answer from {lab.host('h2').migration_address} port 49" in proof.words
    assert f"-> open TCP 49152-49215 from h1 to {lab.host('h2').migration_address}" in proof.words
    assert "Guests cannot be moved everywhere yet: " in proof.words


@pytest.mark.soak
def test_a_pulled_cable_is_found_at_both_ends(lab: Lab, operator: Operator) -> None:
    lab.fault.cut_link("h3", "migration")
    proof = operator.run("preflight", preflight_timeout_s=4)
    assert proof.status == 2, proof.text
    for pair in ("h1 -> h3", "h2 -> h3", "h3 -> h1", "h3 -> h2"):
        assert pair in proof.text
    assert "connect: qemu+ssh://root@h3/system does not answer within 4 s" in proof.words or (
        "connect: no connection to qemu+ssh://root@h3/system" in proof.words
    )
    assert "virsh -c qemu+ssh://root@h3/system version" in proof.words


@pytest.mark.soak
def test_a_stopped_daemon_is_found(lab: Lab, operator: Operator) -> None:
    lab.host("h2").ssh("systemctl stop 'libvirtd*.socket' libvirtd.service", check=True)
    proof = operator.run("preflight")
    assert proof.status == 2, proof.text
    assert "h2: no connection to qemu:///system" in proof.words
    assert "systemctl start libvirtd.socket" in proof.words
    assert "h1 ok" not in proof.text
