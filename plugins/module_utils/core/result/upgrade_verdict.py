# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Decide whether a host that was upgraded may take guests again. What is not proven counts against it."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.versions import parsed

Path = t.Mapping[str, t.Any]


def lost_features(before: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> list[str]:
    """Return sentences about what a host had before its upgrade and does not have now.

    Args:
        before, now: ``libvirt`` and ``qemu``, and the names of the active ``pools`` and ``networks`` and the places of
            shared ``mounts``.

    >>> lost({"pools": ["images"], "qemu": "10.0.13"}, {"pools": [], "qemu": "9.2.0"})
    ['QEMU is 9.2.0, and was 10.0.13 before', 'the storage pool images is not active']
    """
    said: list[str] = []
    for key, name in (("libvirt", "libvirt"), ("qemu", "QEMU")):
        old, new = parsed(before.get(key)), parsed(now.get(key))
        if old and new and new < old:
            said.append(f"{name} is {now[key]}, and was {before[key]} before")
    for key, what in (
        ("pools", "the storage pool {} is not active"),
        ("networks", "the network {} is not active"),
        ("mounts", "the shared storage at {} is not mounted"),
    ):
        there = now.get(key) or []
        said += [what.format(name) for name in before.get(key) or [] if name not in there]
    return said


def reasons_to_stay_closed(
    hosts: t.Sequence[str],
    *,
    well: t.Collection[str],
    said: t.Mapping[str, str],
    snapshots: t.Mapping[str, Snapshot],
    paths: t.Iterable[Path],
    before: t.Iterable[t.Sequence[str]] = (),
) -> dict[str, list[str]]:
    """Return what speaks against opening each host. A host that is not in the answer may be opened.

    Args:
        hosts: those that were away.
        well: those that went through the whole upgrade and its health gate.
        said: for those that did not, what failed.
        snapshots: of all hosts that answer now.
        paths: what was tried between these hosts and all others (``migration_path_info``).
        before: the ways, from which host to which, that did not work before either: no upgrade has broken them.
    """
    tried = {(path["source"], path["destination"]): path for path in paths}
    excused = {tuple(pair) for pair in before}
    others = [other for other in snapshots if other not in hosts]
    found: dict[str, list[str]] = {}
    for host in hosts:
        against = [] if host in well else [said.get(host) or "it does not answer any more"]
        if host not in snapshots:
            against.append("its libvirtd does not answer")
        else:
            pairs = [pair for other in others for pair in ((host, other), (other, host)) if pair not in excused]
            against += [why for why in (_broken(pair, tried.get(pair)) for pair in pairs) if why]
        if against:
            found[host] = against
    return found


def _broken(pair: tuple[str, str], path: Path | None) -> str | None:
    """Return why a guest could not go over this path; None if it is proven that it can."""
    if path is not None and path["ok"]:
        return None
    why = "; ".join(check["reason"] for check in path["checks"] if not check["ok"]) if path else "it could not be tried"
    return f"the path from {pair[0]} to {pair[1]} does not work: {why}"
