# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what is the same for all moves of a run.

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import (
    CAPSULE_DIR,
    CAPSULE_DIR_ARGUMENT,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.retention import RETENTION_ARGUMENTS
from ansible_collections.kvmops.cluster.plugins.module_utils.run.this_boot import boot_id
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.module import (
    SHARED_DEVICES_ARGUMENT,
    shared_devices,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint

MIB = 1024 * 1024

# Must be kept in sync with plugins/doc_fragments/intent.py.
INTENT_ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "max_downtime_ms": {"type": "int", "default": 500},
    "max_slowdown_pct": {"type": "int"},
    "deadline_s": {"type": "int"},
    "allow_postcopy": {"type": "raw", "default": False},
    "allow_suspend": {"type": "bool", "default": False},
    "allow_shutdown": {"type": "bool", "default": False},
    "allow_storage_copy": {"type": "bool", "default": False},
    "allow_managed": {"type": "bool", "default": False},
    "bandwidth_mib_s": {"type": "int"},
    "bandwidth_floor_mib_s": {"type": "int"},
    "encryption": {"type": "str", "choices": ["required", "off"], "default": "required"},
    "disks": {"type": "str", "choices": ["copy", "lazy", "delta"], "default": "copy"},
}

# Must be kept in sync with plugins/doc_fragments/move.py, capsule_dir.py and shared_devices.py.
MOVE_ARGUMENTS: dict[str, dict[str, t.Any]] = {
    "reserve_mib": {"type": "int", "default": 0},
    "incoming_limit": {"type": "int", "default": 1},
    "tune_network": {"type": "bool", "default": False},
    "guest_hooks": {"type": "bool", "default": False},
    "progress_path": {"type": "path"},
    "tickets": {"type": "dict", "default": {}},
    **RETENTION_ARGUMENTS,
    **CAPSULE_DIR_ARGUMENT,
    **SHARED_DEVICES_ARGUMENT,
}


#: The least that a number may be.
LEAST = {"reserve_mib": 0, "incoming_limit": 1, "window": 1, "keep_runs": 0, "keep_days": 0}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all moves of a run.

    Attributes:
        source: this host.
        state_dir: where this host keeps its records.
        destinations: by host name, C(connect_uri) and C(migration_address), and perhaps C(ports): first and last.
        reserve_bytes: memory that must stay free at a destination.
        incoming_limit: guests that may come in at a destination at the same time.
        tune_network: whether the operator lets connections of QEMU be tuned.
        ranks: by destination, how many other sources come first when several want to send there.
        boot_id: names this boot of this host; None when it is not known.
        at_once: guests that this host may be sending at the same time.
        shared_devices: patterns of paths of block devices that all hosts see.
        capsule_dir: where this host keeps capsules, and the records of exports.
        witnesses: by host name, as C(destinations): hosts that are asked only whether they have a guest.
        tickets: of the far ends that may read disks from here, by the names of hosts.
    """

    source: Endpoint
    state_dir: str
    destinations: t.Mapping[str, t.Mapping[str, t.Any]]
    reserve_bytes: int
    incoming_limit: int
    tune_network: bool = False
    ranks: t.Mapping[str, int] = dataclasses.field(default_factory=dict)
    boot_id: str | None = None
    at_once: int = 1
    shared_devices: t.Sequence[str] = ()
    capsule_dir: str = CAPSULE_DIR
    witnesses: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    tickets: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)


def settings_of(
    parameters: t.Mapping[str, t.Any],
    name: str,
    hosts: t.Mapping[str, t.Mapping[str, t.Any]],
    ranks: t.Mapping[str, int] | None = None,
    *,
    steps: t.Sequence[Step] = (),
) -> Settings:
    """What all moves of a run share, from a module's parameters.

    Args:
        parameters: the module's, with C(uri), C(state_dir), C(reserve_mib), C(incoming_limit) and C(tune_network), and
            C(window) where there may be several moves.
        name: this host's name.
        hosts: by name, how to reach each destination.
        ranks: by destination, how many other sources come first; None: there are no others.
        steps: all that this host is to do; none: a single move.

    Raises: VirtError for a number that makes no sense, and for devices that may be others at a destination.
    """
    devices = shared_devices(parameters)
    for option, least in LEAST.items():
        value = parameters.get(option, least)
        if value < least:
            raise virt.VirtError(
                refusal(
                    "bad_option",
                    f"{option} is {value}, and {least} is the least it can be",
                    f"set {option} to {least} or more",
                )
            )
    return Settings(
        source=Endpoint(name, parameters["uri"]),
        state_dir=parameters["state_dir"],
        destinations=hosts,
        reserve_bytes=parameters["reserve_mib"] * MIB,
        incoming_limit=parameters["incoming_limit"],
        tune_network=parameters["tune_network"],
        ranks=ranks or {},
        boot_id=boot_id(),
        at_once=_at_once(parameters, steps),
        shared_devices=devices,
        capsule_dir=parameters.get("capsule_dir") or CAPSULE_DIR,
        witnesses=parameters.get("connect") or {},
        tickets=parameters.get("tickets") or {},
    )


def _at_once(parameters: t.Mapping[str, t.Any], steps: t.Sequence[Step]) -> int:
    """How many guests this host may be sending at the same time, as far as they are there and let in."""
    let_in = parameters["incoming_limit"] * len({step["destination"] for step in steps})
    return max(1, min(parameters.get("window", 1), len(steps), let_in))
