# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers import blockers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts


def found(inner):
    root = ET.fromstring(f"<domain type='kvm'><name>win1</name>{inner}</domain>")
    return [(one["code"], one["reason"]) for one in blockers.blockers(root, Facts())]


PASSTHROUGH = (
    "hyperv_passthrough",
    "the guest has all Hyper-V enlightenments of this host (hyperv mode='passthrough'), which QEMU cannot migrate",
)
REENLIGHTENMENT = (
    "hyperv_reenlightenment",
    (
        "the guest has the Hyper-V enlightenment reenlightenment, but no TSC frequency is set, so a destination "
        "refuses it at the end of the migration"
    ),
)


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ("<features><acpi/><hyperv mode='passthrough'/></features>", [PASSTHROUGH]),
        (
            "<features><hyperv mode='custom'><relaxed state='on'/><reenlightenment state='on'/></hyperv></features>",
            [REENLIGHTENMENT],
        ),
        ("<features><hyperv><reenlightenment state='on'/></hyperv></features>", [REENLIGHTENMENT]),
        ("<features><hyperv><reenlightenment state='off'/></hyperv></features>", []),
        (
            (
                "<features><hyperv><reenlightenment state='on'/></hyperv></features>"
                "<clock offset='utc'><timer name='hpet'/><timer name='tsc' frequency='2500000000'/></clock>"
            ),
            [],
        ),
        (
            (
                "<features><hyperv><reenlightenment state='on'/></hyperv></features>"
                "<clock offset='utc'><timer name='tsc' mode='native'/></clock>"
            ),
            [REENLIGHTENMENT],
        ),
        ("<features><hyperv mode='custom'><relaxed state='on'/><vapic state='on'/></hyperv></features>", []),
        ("<features><hyperv mode='host-model'><relaxed state='on'/></hyperv></features>", []),
        ("<features><acpi/></features>", []),
    ],
)
def test_enlightenments_of_hyper_v(inner, expected):
    assert found(inner) == expected
