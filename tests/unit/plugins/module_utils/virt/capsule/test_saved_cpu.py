# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.saved_cpu import cpu_refusal, described
from ansible_collections.kvmops.cluster.tests.unit import fake_libvirt

RUNNING = """<domain type='kvm'><os><type arch='x86_64' machine='pc-q35-10.0'>hvm</type></os>
<cpu mode='custom' match='exact' check='full'><model fallback='forbid'>{model}</model>
<feature policy='require' name='x'/></cpu></domain>"""


@pytest.fixture
def connection(cluster):
    host = cluster.add_host("h2")
    host.incompatible_cpus["Icelake-Server"] = "missing feature avx512f"
    return fake_libvirt.open("qemu:///system")


def cpu(model):
    return described(ET.fromstring(RUNNING.format(model=model)))


def test_memory_that_knows_a_cpu_that_is_not_here_is_refused(connection):
    found = cpu_refusal(connection, cpu("Icelake-Server"), "db1", "h2")
    assert found["code"] == "cpu"
    assert found["reason"].startswith("the memory of db1 was saved with a CPU that h2 does not have: ")
    assert "avx512f" in found["reason"]
    assert found["remedy"] == (
        "choose a host with that CPU, or save db1 without its memory (consistency: frozen); for the next time, restart"
        " it with a CPU model that all hosts can be (virsh hypervisor-cpu-baseline)"
    )


def test_memory_goes_on_where_its_cpu_is(connection):
    assert cpu_refusal(connection, cpu("Haswell"), "db1", "h2") is None


@pytest.mark.parametrize(
    "told",
    [
        described(ET.fromstring("<domain type='kvm'><os><type arch='x86_64'>hvm</type></os></domain>")),
        described(ET.fromstring("<domain><cpu mode='host-passthrough'/></domain>")),
        {"xml": "<cpu><model>Icelake-Server", "mode": "custom"},
        {"xml": None, "mode": 7},
        {},
    ],
)
def test_what_cannot_be_asked_refuses_nothing(connection, told):
    assert cpu_refusal(connection, told, "db1", "h2") is None


def test_a_description_without_end_is_not_passed_on():
    long = f"<domain><cpu mode='custom'><model>{'x' * 300_000}</model></cpu></domain>"
    assert described(ET.fromstring(long))["xml"] == ""
