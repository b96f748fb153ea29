# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import guest_limits
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition.guest_limits import Limits


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("", Limits()),
        ("<memtune><hard_limit unit='KiB'>9437184</hard_limit></memtune>", Limits(memory_bytes=9 << 30)),
        ("<memtune><soft_limit unit='KiB'>1024</soft_limit></memtune>", Limits()),
        ("<memtune><hard_limit unit='KiB'>9007199254740988</hard_limit></memtune>", Limits()),
        (
            "<cputune><global_period>100000</global_period><global_quota>50000</global_quota></cputune>",
            Limits(cpus=0.5),
        ),
        ("<cputune><global_quota>150000</global_quota></cputune>", Limits(cpus=1.5)),
        ("<cputune><global_period>100000</global_period><global_quota>-1</global_quota></cputune>", Limits()),
        ("<cputune><quota>17592186044415</quota><period>100000</period></cputune>", Limits()),
        (
            (
                "<cputune><emulator_period>50000</emulator_period><emulator_quota>100000</emulator_quota>"
                "<period>100000</period><quota>30000</quota></cputune>"
            ),
            Limits(emulator_cpus=2.0, vcpu_cpus=0.3),
        ),
    ],
)
def test_limits_of_a_definition(inner, expected):
    assert guest_limits.defined(ET.fromstring(f"<domain>{inner}</domain>")) == expected


def test_the_lower_of_two_limits_counts():
    one, other = Limits(memory_bytes=4, cpus=2.0), Limits(memory_bytes=8, cpus=0.5, vcpu_cpus=1.0)
    assert one.tightened(other) == Limits(memory_bytes=4, cpus=0.5, vcpu_cpus=1.0)
    assert one.tightened(Limits()) == one


def test_a_snapshot_without_limits():
    assert guest_limits.from_document(None) == Limits()
    assert guest_limits.from_document({"cpus": 0.5, "later": 1}) == Limits(cpus=0.5)
