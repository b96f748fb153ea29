# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""CPUs and enlightenments that depend on the host."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from ansible_collections.kvmops.cluster.plugins.module_utils.core.blockers.rule import Facts, Refusals
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal

_SET_FREQUENCY = "set one in <clock> (<timer name='tsc' frequency='…'/>)"


def cpu(root: ET.Element, dummy: Facts) -> Refusals:
    """What ``<cpu>`` says."""
    element = root.find("cpu")
    if element is None:
        return
    wanted = [f for f in element.findall("feature") if f.get("policy", "require") in ("require", "force")]
    if any(f.get("name") == "invtsc" for f in wanted) and not _has_frequency(root):
        yield refusal(
            "invtsc",
            "the guest has the CPU feature invtsc, but no TSC frequency is set",
            f"{_SET_FREQUENCY}, or take the feature away; both need a restart of the guest",
        )
    if element.get("migratable") == "off":
        yield refusal(
            "cpu_not_migratable",
            "the guest's CPU is declared not migratable (migratable='off')",
            "take migratable='off' out of its <cpu> and restart it",
        )


def hyperv(root: ET.Element, dummy: Facts) -> Refusals:
    """Enlightenments of Hyper-V that QEMU blocks (target/i386/kvm) or refuses on arrival (target/i386/machine.c)."""
    element = root.find("features/hyperv")
    if element is None:
        return
    if element.get("mode") == "passthrough":
        yield refusal(
            "hyperv_passthrough",
            "the guest has all Hyper-V enlightenments of this host (hyperv mode='passthrough'), which QEMU cannot "
            "migrate",
            "list them by name (<hyperv mode='custom'>), or use mode='host-model' (libvirt 11.9 or later); both need a "
            "restart of the guest",
        )
    elif element.find("reenlightenment[@state='on']") is not None and not _has_frequency(root):
        yield refusal(
            "hyperv_reenlightenment",
            "the guest has the Hyper-V enlightenment reenlightenment, but no TSC frequency is set, so a destination "
            "refuses it at the end of the migration",
            f"{_SET_FREQUENCY}, or take the enlightenment away; both need a restart of the guest",
        )


def _has_frequency(root: ET.Element) -> bool:
    return any(timer.get("frequency") for timer in root.findall("clock/timer[@name='tsc']"))
