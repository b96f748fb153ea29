# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: libvirt's numbers for states as words.

from __future__ import annotations

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt

_STATES = {
    "VIR_DOMAIN_NOSTATE": "unknown",
    "VIR_DOMAIN_RUNNING": "running",
    "VIR_DOMAIN_BLOCKED": "running",
    "VIR_DOMAIN_PAUSED": "paused",
    "VIR_DOMAIN_SHUTDOWN": "shutdown",
    "VIR_DOMAIN_SHUTOFF": "shutoff",
    "VIR_DOMAIN_CRASHED": "crashed",
    "VIR_DOMAIN_PMSUSPENDED": "pmsuspended",
}

_REASON_PREFIXES = {
    "running": "VIR_DOMAIN_RUNNING_",
    "paused": "VIR_DOMAIN_PAUSED_",
    "shutdown": "VIR_DOMAIN_SHUTDOWN_",
    "shutoff": "VIR_DOMAIN_SHUTOFF_",
    "crashed": "VIR_DOMAIN_CRASHED_",
}


def state_word(state: int) -> str:
    """libvirt's domain state as a word: C(running), C(paused), C(shutoff), C(crashed), ..."""
    for name, word in _STATES.items():
        if getattr(virt.libvirt, name, None) == state:
            return word
    return f"state_{state}"


def reason_word(state: int, reason: int) -> str:
    """libvirt's reason for a state as a word, such as C(booted), C(migrated) or C(postcopy_failed).

    Read off the binding's own constants, so that a reason that only a newer libvirt knows has its name there too.
    """
    prefix = _REASON_PREFIXES.get(state_word(state))
    if prefix:
        for name in dir(virt.libvirt):
            if name.startswith(prefix) and name != prefix + "LAST" and getattr(virt.libvirt, name) == reason:
                return name[len(prefix) :].lower()
    return f"reason_{reason}"
