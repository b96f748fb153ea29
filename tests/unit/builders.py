# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documents for unit tests: a sound cluster, of which a test changes what it is about."""

from __future__ import annotations

import typing as t
import uuid

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan import plan
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import planning
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import Request

MIB = 1024**2
GIB = 1024**3

#: Names that real operators have, and that break careless code.
AWKWARD_NAMES = (
    "two words",
    "dots.in.it",
    "größe-データ-🐧",
    'it\'s "quoted" $(reboot) `x`',
    "n" * 200,
)


def uuid_of(name: str) -> str:
    """The same UUID for the same name, in every test run."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def domain(name: str = "web1", **changes: t.Any) -> dict[str, t.Any]:
    """A running guest without anything that keeps it from moving.

    ``apart``, ``together``, ``home`` and ``intent`` go into its metadata; everything else replaces a key.
    """
    metadata = {
        "home": changes.pop("home", None),
        "group": {"apart": changes.pop("apart", None), "together": changes.pop("together", None)},
        "intent": changes.pop("intent", {}),
    }
    memory = changes.get("memory_bytes", 512 * MIB)
    made: dict[str, t.Any] = {
        "name": name,
        "uuid": uuid_of(name),
        "state": "running",
        "state_reason": "booted",
        "persistent": True,
        "autostart": False,
        "type": "kvm",
        "arch": "x86_64",
        "machine": "pc-q35-7.2",
        "emulator": "/usr/bin/qemu-system-x86_64",
        "vcpus": 2,
        "memory_bytes": memory,
        "hugepage_bytes": None,
        "balloon": {"current_bytes": memory, "unused_bytes": None, "rss_bytes": memory, "age_s": 1},
        "cpu": {"mode": "custom", "model": "qemu64", "xml": "<cpu/>"},
        "disks": [disk()],
        "interfaces": [{"type": "bridge", "source": "br0", "mac": "52:54:00:00:00:01"}],
        "job": None,
        "blockers": [],
        "metadata": metadata,
    }
    return {**made, **changes}


def disk(target: str = "vda", **changes: t.Any) -> dict[str, t.Any]:
    """A disk on the shared file system."""
    made = {
        "target": target,
        "type": "file",
        "format": "qcow2",
        "source": f"/shared/{target}.qcow2",
        "readonly": False,
        "shareable": False,
        "cache": "none",
        "capacity_bytes": 10 * GIB,
        "allocation_bytes": 3 * GIB,
        "shared": True,
        "shared_why": "nfs4 (nas:/guests)",
    }
    return {**made, **changes}


def snapshot(host: str = "h1", *domains: dict[str, t.Any], **changes: t.Any) -> dict[str, t.Any]:
    """A host that can send and receive; ``free_bytes`` sets its available memory, other keys replace a key."""
    free = changes.pop("free_bytes", 32 * GIB)
    made: dict[str, t.Any] = {
        "schema": "kvmops.snapshot/1",
        "host": host,
        "hostname": f"{host}.example.org",
        "host_uuid": uuid_of(f"host {host}"),
        "taken_at": "2026-11-24T02:00:00.120Z",
        "versions": {"libvirt": "11.3.0", "qemu": "10.0.13", "binding": "11.3.0", "kernel": "6.12.48"},
        "capacity": {
            "cpus": 16,
            "memory_bytes": 64 * GIB,
            "available_bytes": free,
            "cells": [
                {
                    "id": 0,
                    "cpus": 16,
                    "memory_bytes": 64 * GIB,
                    "free_bytes": free,
                    "pages": [{"size_bytes": 4096, "free": 1000}, {"size_bytes": 2 * MIB, "free": 0}],
                }
            ],
        },
        "cpu": {"arch": "x86_64", "model": "Skylake-Server", "vendor": "Intel", "features": ["aes", "avx512f"]},
        "emulators": [
            {
                "type": "kvm",
                "arch": "x86_64",
                "emulator": "/usr/bin/qemu-system-x86_64",
                "machines": ["pc-q35-7.2", "pc-q35-10.0"],
                "cpu_models_usable": ["qemu64", "Skylake-Server"],
            }
        ],
        "migration": {
            "live": True,
            "transports": ["tcp"],
            "postcopy": {"usable": True, "reason": None, "remedy": None},
            "postcopy_recover": {"usable": True, "reason": None, "remedy": None},
            "parallel": {"usable": True, "reason": None, "remedy": None},
            "tls": {"usable": True, "reason": None, "remedy": None},
            "compression": ["zstd"],
            "known_bugs": [],
        },
        "links": [{"name": "eth1", "addresses": ["198.18.0.11/24"], "speed_mbit": 10000, "up": True}],
        "mounts": [{"path": "/shared", "type": "nfs4", "source": "nas:/guests", "shared": True}],
        "sysctls": {"vm.unprivileged_userfaultfd": "0"},
        "maintenance": record(),
        "domains": list(domains),
    }
    return {**made, **changes}


def resources(**changes: t.Any) -> dict[str, t.Any]:
    """What a host has of the things that guests name; ``files`` adds to its files, other keys replace a key."""
    files = {"/usr/share/OVMF/OVMF_CODE_4M.fd": True, "/srv/vmlinuz": False, "/usr/bin/swtpm": False}
    files["/dev/vhost-vsock"] = False
    made: dict[str, t.Any] = {
        "links": ["br0", "br-int", "eth1", "lo"],
        "bridges": ["br0"],
        "switches": ["br-int"],
        "addresses": ["127.0.0.1", "198.18.0.12"],
        "networks": {"asleep": False, "default": True},
        "pools": {"idle pool": False, "images": True},
        "secrets": ["5a6c1a44-2f1f-4c5c-9b58-0a7a4b6d3f10", "client.admin secret"],
        "filters": ["no-mac-spoofing"],
        "cpus": "0-15",
        "security_models": ["apparmor", "dac"],
        "partitions": ["/machine", "/machine/silver"],
        "files": {**files, **changes.pop("files", {})},
        "listed": ["/usr/share/OVMF"],
    }
    return {**made, **changes}


def record(state: str = "active", **changes: t.Any) -> dict[str, t.Any]:
    """A maintenance record."""
    made = {"schema": "kvmops.maintenance/1", "state": state, "owner": None, "reason": None, "since": None}
    return {**made, **changes}


def cluster(*snapshots: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """Snapshots by host."""
    return {made["host"]: made for made in snapshots}


def path(source: str, destination: str, **changes: t.Any) -> dict[str, t.Any]:
    """A path on which everything works."""
    made = {
        "schema": "kvmops.path/1",
        "source": source,
        "destination": destination,
        "ok": True,
        "checks": [
            {"check": "connect", "ok": True, "code": "connected", "reason": "answers in 180 ms", "remedy": None}
        ],
        "guests": [],
    }
    return {**made, **changes}


def step_result(step: dict[str, t.Any], outcome: str = "moved", **changes: t.Any) -> dict[str, t.Any]:
    """What came of a step."""
    made = {
        "step": step["id"],
        "guest": step["guest"],
        "source": step["source"],
        "destination": step["destination"],
        "outcome": outcome,
        "refusals": [],
        "error": None,
        "strategy": "pre-copy",
        "reason": "nothing forbids it",
        "started_at": "2026-11-24T02:00:01.000Z",
        "finished_at": "2026-11-24T02:00:05.310Z",
        "total_s": 4.31,
        "bytes": 88500000,
        "downtime_ms": 92,
        "iterations": 4,
    }
    return {**made, **changes}


def band(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    """A figure of a forecast; narrow unless it is given an edge."""
    return {"value": value, "low": value if low is None else low, "high": value if high is None else high}


def choice(**changes: t.Any) -> dict[str, t.Any]:
    """The forecast of a measured guest that plain pre-copy moves well."""
    made = {
        "schema": "kvmops.choice/1",
        "method": "pre-copy",
        "verdict": "converges",
        "reason": "pre-copy: in 30 ms the guest dirties 402 KiB and the link carries 700 KiB",
        "why_not": {"post-copy": "allow_postcopy is off", "suspend": "allow_suspend is off"},
        "settings": {"limit_ms": 30},
        "rounds": band(3),
        "bytes": band(88000000),
        "total_s": band(4.1, 3.9, 4.3),
        "downtime_ms": band(85, 80, 91),
        "work_lost_s": band(0.1),
        "fallbacks": ["raise-downtime"],
        "bandwidth_bytes_per_s": 23880000,
        "at_once": 1,
        "needed_bytes_per_s": 9000000,
        "measured_at": "2026-11-24T01:59:50Z",
        "refusal": None,
    }
    return {**made, **changes}


def working_set(guest: dict[str, t.Any], hot_bytes: int = 2 * MIB, fill_s: float = 1.0) -> dict[str, t.Any]:
    """A measured guest that rewrites so many bytes within so many seconds, and has touched a quarter of its memory."""
    windows = (0.1, 1.0, 3.0, 10.0)
    return {
        "schema": "kvmops.working_set/1",
        "guest": {"name": guest["name"], "uuid": guest["uuid"]},
        "taken_at": "2026-11-24T01:59:50Z",
        "method": "qmp",
        "samples_per_gib": 4096,
        "memory_bytes": guest["memory_bytes"],
        "touched_bytes": guest["memory_bytes"] // 4,
        "touched_how": "balloon",
        "touched_error": 0.02,
        "points": [
            {"window_s": w, "dirtied_bytes": int(hot_bytes * min(1.0, w / fill_s)), "sd_bytes": 0, "repeats": 4}
            for w in windows
        ],
        "fit": {
            "hot_bytes": hot_bytes,
            "hot_sd_bytes": 0,
            "fill_s": fill_s,
            "fill_sd_s": 0.0,
            "cold_bytes_per_s": 0,
            "cold_sd_bytes_per_s": 0,
            "base_bytes": 0,
            "shape": "linear",
            "misfit": 0.1,
        },
        "vcpu_utilisation": 0.04,
        "compressed_share": None,
        "sparse": None,
        "disk_write_bytes_per_s": 0,
        "unusual": None,
        "sentence": "rewrites 2 MiB within 1.0 s, 0 MiB/s beyond",
    }


def plan_document(seen: dict[str, dict[str, t.Any]], kind: str = "drain", host: str = "h1") -> dict[str, t.Any]:
    """The plan that the planner makes for a cluster, as plain JSON."""
    planned, off, _waves = planning.make(Request(kind, [host]), Constraints(seen, {"max_downtime_ms": 200}))
    at = "2026-11-24T02:00:00Z"
    made = plan.build(
        plan_id=plan.new_id({"kind": kind, "hosts": [host]}, at, "3f9a"),
        goal={"kind": kind, "hosts": [host]},
        created_at=at,
        intent={"max_downtime_ms": 200},
        snapshots=seen,
        connect={
            host: {
                "connect_uri": f"qemu+ssh://root@{host}/system",
                "migration_address": "198.18.0.11",
                "bandwidth_mib_s": 113.9,
            }
        },
        planned=planned,
        off=off,
    )
    return t.cast("dict[str, t.Any]", made)
