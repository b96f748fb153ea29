# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: whether a destination can run guests with the CPUs of the guests here.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.paths.check import Destination, SourceHost, passed


def check_guest_cpus(
    source: SourceHost, destination: Destination, connection: t.Any, *, read_only: bool
) -> dict[str, t.Any]:
    """Whether a destination can run each guest here: C(check), and C(guests) with those that it cannot run.

    Args:
        source: what is known of this host.
        destination: the other host.
        connection: to its libvirtd.
        read_only: whether the connection can only read.
    """
    guests = [guest for guest in source.guests if guest["cpu"] and "<model" in guest["cpu"]]
    name = destination.name
    if not guests:
        return {"check": passed("cpu", "nothing_to_ask", "no guest here has a CPU that must be compared")}
    if read_only:
        return {"check": passed("cpu", "not_asked", "libvirt does not compare CPUs over read-only connections")}
    verdicts: dict[tuple[str, ...], Refusal | None] = {}
    refused = []
    for guest in guests:
        key = tuple(str(guest[part]) for part in ("arch", "machine", "type", "cpu"))
        if key not in verdicts:
            verdicts[key] = _compare(connection, name, *key)
        why = verdicts[key]
        if why:
            refused.append({"name": guest["name"], "uuid": guest["uuid"], "refusals": [why]})
    asked = len(verdicts)
    if not refused:
        them = "the guest here" if len(guests) == 1 else f"all {len(guests)} guests here ({asked} asked)"
        return {"check": passed("cpu", "fits", f"{name} can provide the CPU of {them}")}
    names = listed([guest["name"] for guest in refused])
    # The other guests can go there.
    return {
        "check": passed("cpu", "some_refused", f"{name} cannot run {names}: {refused[0]['refusals'][0]['reason']}"),
        "guests": refused,
    }


def _compare(connection: t.Any, name: str, arch: str, machine: str, kind: str, cpu: str) -> Refusal | None:
    """Why the host of this name cannot run a guest with such a CPU, or None."""
    lib = virt.libvirt
    text = "it is incompatible with the host's CPU"
    try:
        # The emulator is the destination's own: its path may differ there.
        answer = connection.compareHypervisorCPU(
            None, arch, machine, kind, cpu, lib.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
        )
        if answer != lib.VIR_CPU_COMPARE_INCOMPATIBLE:
            return None
    except lib.libvirtError as error:
        code, text = error.get_error_code(), str(error)
        if code == lib.VIR_ERR_NO_SUPPORT:
            return None
        if code in (lib.VIR_ERR_RPC, lib.VIR_ERR_SYSTEM_ERROR) or not connection.isAlive():
            raise
        if code != lib.VIR_ERR_CPU_INCOMPATIBLE and "machine" in text.lower():
            return refusal(
                "machine_type",
                f"{name} does not know the machine type {machine}: {text}",
                f"upgrade QEMU on {name}, or choose another host",
            )
    return refusal(
        "cpu",
        f"{name} cannot provide the CPU of this guest: {text}",
        "choose a host with such a CPU, or restart the guest with a CPU model that all hosts can provide (virsh "
        "hypervisor-cpu-baseline)",
    )
