# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters of any size, skew and tightness, the same for the same seed: in numbers, as snapshots, as htools text.

python -m bench.inputs.clusters --hosts 40 --guests 400 --skew 0.5 --seed 1 --out cluster.txt

writes one for hbal -t. A file name that ends in .json gives snapshots.
"""

from __future__ import annotations

import argparse
import json
import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import htools
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.cluster_state import (
    Cluster,
    Compatibility,
    HostFacts,
    UnitFacts,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import GIB, MIB

#: Memory of a guest in GiB, how many vCPUs it has, and how many of a hundred guests are such: few large and many
#: small ones, as in public traces of clouds.
FLAVOURS = ((1, 1, 24), (2, 1, 26), (4, 2, 24), (8, 4, 15), (16, 4, 8), (32, 8, 3))
#: Guests of a tight cluster, in GiB, and how many of a hundred are such.
TIGHT_GIB = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0)
TIGHT_WEIGHTS = (8, 14, 8, 20, 8, 18, 6, 12, 3, 3)
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://kvmops.cluster/bench")
#: Up to this fill guests are placed in any order; above, the largest first, or they would not all find room.
LOOSE = 0.7
#: How many guests rewrite much of their memory, and the windows in which all were measured.
BUSY = 0.1
WINDOWS_S = (0.1, 0.3, 1.0, 3.0, 10.0)
#: What the hypervisor keeps for itself, of each host.
OWN_BYTES = 2 * GIB


@dataclass(frozen=True)
class Shape:
    """What a cluster is to be like.

    Attributes:
        hosts, guests: how many.
        fill: share of all memory for guests that they take up.
        skew: share of the guests that are confined to the first half of the hosts.
        apart: share of the guests that are in keep-apart groups, of three members each.
        seed: of everything that is drawn.
    """

    hosts: int = 10
    guests: int = 100
    fill: float = 0.6
    skew: float = 0.5
    apart: float = 0.0
    seed: int = 1


def cluster(shape: Shape) -> Cluster:
    """The cluster in numbers; memory of guests without overhead, as htools counts it."""
    rng = random.Random(shape.seed)
    weights = [weight for dummy, dummy2, weight in FLAVOURS]
    sizes = sorted(rng.choices([flavour[:2] for flavour in FLAVOURS], weights, k=shape.guests), reverse=True)
    memory = sum(size for size, dummy in sizes)
    capacity = max(round(memory / shape.fill / shape.hosts), FLAVOURS[-1][0])
    hosts = [
        HostFacts(f"h{number:04d}", capacity * GIB, capacity * GIB + OWN_BYTES, 32.0, base_bytes=OWN_BYTES)
        for number in range(1, shape.hosts + 1)
    ]
    if shape.fill <= LOOSE:
        rng.shuffle(sizes)
    places = _places(shape, [size for size, dummy in sizes], capacity, rng)
    groups = _groups(shape, places, rng)
    order = rng.sample(range(len(sizes)), len(sizes))
    units = [
        UnitFacts(
            (f"g{number:05d}",),
            places[which],
            sizes[which][0] * GIB,
            sizes[which][0] * GIB,
            vcpus=sizes[which][1],
            cpu=round(sizes[which][1] * rng.betavariate(1.2, 4), 3),
            apart=groups.get(which, ()),
        )
        for number, which in enumerate(order, 1)
    ]
    return Cluster(hosts, units, Compatibility())


def tight(level: float, seed: int, *, hosts: int = 10, guests: int = 130) -> Cluster:
    """A cluster whose first host is drained when there is hardly room for it: the others are full to ``level`` then.

    Guests come in half GiBs and are counted with QEMU's overhead, so that sizes are as odd as they are.
    """
    rng = random.Random(f"tight {level} {seed}")
    sizes = sorted(rng.choices(TIGHT_GIB, TIGHT_WEIGHTS, k=guests), reverse=True)
    vcpus = [max(1, int(size) // 2) for size in sizes]
    needs = [int(size * GIB) * 257 // 256 + (64 + 8 * count) * MIB for size, count in zip(sizes, vcpus)]  # noqa: B905
    capacity = int(sum(needs) / (hosts - 1) / level)
    free, places = [capacity] * hosts, []
    for need in needs:
        place = rng.choice([host for host in range(hosts) if free[host] >= need])
        free[place] -= need
        places.append(place)
    return Cluster(
        [HostFacts(f"h{n:02d}", capacity, capacity, 32.0, is_open=n != 1) for n in range(1, hosts + 1)],
        [
            UnitFacts((f"g{n:03d}",), place, need, int(size * GIB), vcpus=count, cpu=float(count))
            for n, (place, need, size, count) in enumerate(zip(places, needs, sizes, vcpus), 1)  # noqa: B905
        ],
        Compatibility(),
    )


def _places(shape: Shape, sizes: Sequence[int], capacity: int, rng: random.Random) -> list[int]:
    """A host for each guest: confined ones in the first half of the hosts, the others anywhere that has room."""
    free = [capacity] * shape.hosts
    places = []
    for size in sizes:
        confined = rng.random() < shape.skew
        hosts = range(max(1, shape.hosts // 2)) if confined else range(shape.hosts)
        open_to_it = [host for host in hosts if free[host] >= size] or [
            h for h in range(shape.hosts) if free[h] >= size
        ]
        if not open_to_it:
            open_to_it = [max(range(shape.hosts), key=free.__getitem__)]
        place = rng.choice(open_to_it)
        free[place] -= size
        places.append(place)
    return places


def _groups(shape: Shape, places: Sequence[int], rng: random.Random) -> dict[int, tuple[int, ...]]:
    """Keep-apart groups among guests that are apart to begin with."""
    found: dict[int, tuple[int, ...]] = {}
    wanted = int(shape.apart * len(places))
    pool = rng.sample(range(len(places)), len(places))
    group: list[int] = []
    number = 0
    for guest in pool:
        if len(found) + len(group) >= wanted:
            break
        if all(places[guest] != places[other] for other in group):
            group.append(guest)
        if len(group) == 3:
            found.update(dict.fromkeys(group, (number,)))
            group, number = [], number + 1
    return found


def snapshots(made: Cluster) -> dict[str, dict[str, Any]]:
    """The same cluster as snapshots of its hosts (kvmops.snapshot/1)."""
    guests: list[list[dict[str, Any]]] = [[] for dummy in made.hosts]
    for unit in made.units:
        guests[unit.host].append(_domain(unit, made.hosts[unit.host].name))
    return {host.name: _snapshot(host, own) for host, own in zip(made.hosts, guests)}  # noqa: B905


def _domain(unit: UnitFacts, home: str) -> dict[str, Any]:
    name = unit.guests[0]
    return {
        "name": name, "uuid": str(uuid.uuid5(NAMESPACE, name)), "state": "running", "state_reason": "booted",
        "persistent": True, "autostart": False, "type": "kvm", "arch": "x86_64", "machine": "pc-q35-7.2",
        "emulator": "/usr/bin/qemu-system-x86_64", "vcpus": unit.vcpus, "memory_bytes": unit.need_bytes,
        "hugepage_bytes": None,
        "balloon": {"current_bytes": unit.need_bytes, "unused_bytes": None, "rss_bytes": unit.need_bytes, "age_s": 1},
        "cpu": {"mode": "custom", "model": "qemu64", "xml": "<cpu/>"},
        "disks": [{
            "target": "vda", "device": "disk", "type": "file", "format": "qcow2", "source": f"/shared/{name}.qcow2",
            "backing": [], "readonly": False, "shareable": False, "cache": "none", "capacity_bytes": 10 * GIB,
            "allocation_bytes": GIB, "shared": True, "shared_why": "nfs4 (nas:/guests)",
        }],
        "interfaces": [], "job": None, "blockers": [],
        "metadata": {
            "home": home, "intent": {},
            "group": {"apart": f"g{unit.apart[0]}" if unit.apart else None, "together": None},
        },
    }  # fmt: skip


def _snapshot(host: HostFacts, domains: list[dict[str, Any]]) -> dict[str, Any]:
    # Room for the overhead of QEMU, which htools does not know, is given on top.
    overhead = sum(64 * MIB + guest["vcpus"] * 8 * MIB + guest["memory_bytes"] // 256 for guest in domains)
    spare = host.capacity_bytes // 64 + 4 * GIB
    used = sum(guest["memory_bytes"] for guest in domains) + overhead
    total = host.memory_bytes + spare
    available = total - OWN_BYTES - used
    ready: dict[str, Any] = {"usable": True, "reason": None, "remedy": None}
    return {
        "schema": "kvmops.snapshot/1", "host": host.name, "hostname": f"{host.name}.example.org",
        "host_uuid": str(uuid.uuid5(NAMESPACE, f"host {host.name}")), "taken_at": "2026-11-24T02:00:00Z",
        "versions": {"libvirt": "11.3.0", "qemu": "10.0.13", "binding": "11.3.0", "kernel": "6.12.48"},
        "capacity": {
            "cpus": int(host.cpus), "memory_bytes": total, "available_bytes": available,
            "cells": [{"id": 0, "cpus": int(host.cpus), "memory_bytes": total, "free_bytes": available,
                       "pages": [{"size_bytes": 4096, "free": available // 4096}]}],
        },
        "cpu": {"arch": "x86_64", "model": "Skylake-Server", "vendor": "Intel", "features": ["aes", "avx512f"]},
        "emulators": [{"type": "kvm", "arch": "x86_64", "emulator": "/usr/bin/qemu-system-x86_64",
                       "machines": ["pc-q35-7.2", "pc-q35-10.0"], "cpu_models_usable": ["qemu64", "Skylake-Server"]}],
        "migration": {"live": True, "transports": ["tcp"], "postcopy": ready, "postcopy_recover": ready,
                      "parallel": ready, "tls": ready, "compression": ["zstd"], "known_bugs": []},
        "links": [{"name": "eth1", "addresses": ["198.18.0.11/24"], "speed_mbit": 10000, "up": True}],
        "mounts": [{"path": "/shared", "type": "nfs4", "source": "nas:/guests", "shared": True}],
        "sysctls": {},
        "maintenance": None,
        "domains": domains,
    }  # fmt: skip


def working_sets(seen: Mapping[str, Mapping[str, Any]], seed: int = 1) -> list[dict[str, Any]]:
    """Measurements as good as can be of all guests of some snapshots (kvmops.working_set/1). One guest in ten rewrites
    much of its memory."""
    rng = random.Random(seed)
    return [_working_set(guest, rng) for name in sorted(seen) for guest in seen[name]["domains"]]


def _working_set(guest: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    memory = int(guest["memory_bytes"])
    touched = memory * rng.uniform(0.2, 0.9)
    busy = rng.random() < BUSY
    hot, fill_s = touched * rng.uniform(0.05, 0.3) * busy + MIB, rng.uniform(0.5, 5.0)
    cold = rng.uniform(0, 2) * MIB
    values = [min(touched, hot * min(1.0, window / fill_s) + cold * window) for window in WINDOWS_S]
    return {
        "schema": "kvmops.working_set/1", "guest": {"name": guest["name"], "uuid": guest["uuid"]},
        "taken_at": "2026-11-24T02:00:00Z", "memory_bytes": memory, "touched_bytes": round(touched),
        "touched_how": "balloon", "touched_error": 0.02,
        "points": [
            {"window_s": window, "dirtied_bytes": value, "sd_bytes": 0.02 * value, "repeats": 4}
            for window, value in zip(WINDOWS_S, values)  # noqa: B905
        ],
        "fit": {
            "hot_bytes": hot, "fill_s": fill_s, "cold_bytes_per_s": cold, "base_bytes": 0.0, "shape": "linear",
            "hot_sd_bytes": 0.0, "fill_sd_s": 0.0, "cold_sd_bytes_per_s": 0.0, "misfit": 0.0,
        },
        "vcpu_utilisation": round(rng.betavariate(1.2, 4), 3), "compressed_share": 0.6, "hot_compressed_share": 0.6,
        "sparse": 0.2, "disk_write_bytes_per_s": 0.0,
    }  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Write one cluster to a file."""
    parser = argparse.ArgumentParser(prog="bench.inputs.clusters", description="Make a cluster.")
    for name, value in Shape.__dataclass_fields__.items():
        parser.add_argument(f"--{name}", type=type(value.default), default=value.default)
    parser.add_argument("--out", type=Path, required=True, help=".json: snapshots; anything else: htools text")
    options = vars(parser.parse_args(arguments))
    out = options.pop("out")
    made = cluster(Shape(**options))
    text = json.dumps(list(snapshots(made).values())) if out.suffix == ".json" else htools.write(made)
    out.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
