# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a scenario asks of a bench, under its key C(bench)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from lab import LabError, Scenario


@dataclass(frozen=True)
class BenchOptions:
    """A scenario's wishes; what it does not say is chosen for it.

    Attributes:
        source, destination: between which hosts; else from the host with the most guests to the first other one.
        strategies: names of those that take part; else all of them.
        repeats: how often each of them drains the host.
        guest_cap_s, cap_s: when a guest on its way, and when all that are left, are given up.
        intent: of our runs, beside what guests say themselves.
        variables: more variables of our role, by their names.
        links_mbit: limits to try, one after the other.
        probe_ms: how often guests are asked for a sign of life.
    """

    source: str | None = None
    destination: str | None = None
    strategies: tuple[str, ...] = ()
    repeats: int | None = None
    guest_cap_s: float | None = None
    cap_s: float | None = None
    intent: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    links_mbit: tuple[float, ...] = ()
    probe_ms: float = 5.0


def read(path: Path) -> BenchOptions:
    """Read the wishes of a scenario file, which the lab has found to be sound."""
    return parse(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def parse(scenario: Mapping[str, Any], origin: str = "scenario") -> BenchOptions:
    """Return the wishes of a scenario's content.

    Raises:
        LabError: it asks for what no bench knows.
    """
    told = dict(scenario.get("bench", {}))
    if "links_mbit" in scenario:
        told.setdefault("links_mbit", scenario["links_mbit"])
    known = {each.name for each in fields(BenchOptions)}
    unknown = sorted(set(told) - known)
    if unknown:
        raise LabError(f"{origin}: bench.{unknown[0]}: not known", f"Use {', '.join(sorted(known))}.")
    for name in ("strategies", "links_mbit"):
        told[name] = tuple(told.get(name, ()))
    return BenchOptions(**told)


def ends(asked: BenchOptions, scenario: Scenario) -> tuple[str, str]:
    """Return the host that is drained and the one that takes its guests."""
    homes = Counter(guest.host for guest in scenario.guests)
    source = asked.source or min(homes, key=lambda host: (-homes[host], host))
    others = [host.name for host in scenario.hosts if host.name != source]
    if not others or not homes[source]:
        raise LabError(
            f"nothing to move away from {source}: {len(others)} other hosts, {homes[source]} guests",
            "Use a scenario of at least two hosts with guests on one of them.",
        )
    return source, asked.destination or others[0]
