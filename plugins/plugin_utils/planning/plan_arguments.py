# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: check the options of migration_plan, and turn them into what the planners take.

from __future__ import annotations

import math
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import Snapshot
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement import load
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.constraints import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import Window
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import options
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.disk_places import with_disk_places
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import (
    PlanForecasts,
    interface_bytes_per_s,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.request import EMPTYING, Request
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import shares
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements.placement_rules import Rule, names_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.path_refusals import refusals_by_path
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import MIB
from ansible_collections.kvmops.cluster.plugins.module_utils.core.working_set.working_set import WORKING_SET
from ansible_collections.kvmops.cluster.plugins.plugin_utils.planning.guest_selection import select
from ansible_collections.kvmops.cluster.plugins.plugin_utils.play.controller_machine import own_uuids

Arguments = t.Mapping[str, t.Any]


def check_connect(connect: t.Mapping[str, t.Any]) -> None:
    for host, end in connect.items():
        stated = end.get("bandwidth_mib_s") if isinstance(end, t.Mapping) else None
        if not isinstance(end, t.Mapping) or not (stated is None or _is_above_0(stated)):
            raise PlanError(
                "connect",
                f"connect of {host} is {'no mapping' if stated is None else f'odd: its bandwidth_mib_s is {stated!r}'}",
                "give connect_uri, migration_address and bandwidth_mib_s (MiB per second, above 0) of each host",
            )


def _is_above_0(value: t.Any) -> bool:
    try:
        return not isinstance(value, bool) and 0 < float(value) < math.inf
    except (TypeError, ValueError):
        return False


def request_of(arguments: Arguments) -> Request:
    if arguments["at_once"] < 1:
        raise PlanError("at_once", f"at_once is {arguments['at_once']}", "give 1 or more")
    return Request(
        kind=arguments["goal"],
        hosts=arguments["hosts"],
        left=arguments["left"],
        spare=arguments["spare"],
        may_move_others=arguments["may_move_others"],
        at_once=arguments["at_once"],
        rules=options.rules(arguments["rules"]),
        weights=options.weights(arguments["weights"]),
        in_cooldown=arguments["resting"],
    )


def constraints_of(
    arguments: Arguments, snapshots: t.Mapping[str, Snapshot], run_intent: t.Mapping[str, t.Any]
) -> Constraints:
    """What the plan must keep to."""
    if arguments["vcpu_ratio"] is not None and not _is_above_0(arguments["vcpu_ratio"]):
        raise PlanError("vcpu_ratio", f"vcpu_ratio is {arguments['vcpu_ratio']}", "give a number above 0")
    return Constraints(
        shares.with_one_name(snapshots),
        run_intent,
        reserve_bytes=arguments["reserve_mib"] * MIB,
        vcpu_ratio=arguments["vcpu_ratio"],
        paths=with_disk_places(refusals_by_path(arguments["paths"]), snapshots, run_intent),
        excluded=select(arguments["exclude"], snapshots),
        expected=load.used_cpus(snapshots),
        pressure=load.pressures(snapshots),
        may_downgrade=arguments["may_downgrade"],
        rules=rules_of(arguments["placement_rules"], snapshots),
        controller_uuids=own_uuids(),
    )


def rules_of(stated: t.Any, snapshots: t.Mapping[str, Snapshot]) -> dict[str, list[Rule]]:
    """On which hosts guests may run, by UUID of the guest.

    Raises:
        PlanError: a rule makes no sense, or names a host that nobody knows.
    """
    found: dict[str, list[Rule]] = {}
    known = set[str]().union(*map(names_of, snapshots.values()))
    for number, rule in enumerate(stated or ()):
        option = f"placement_rules[{number}]"
        words = set(rule) if isinstance(rule, t.Mapping) else set()
        if "guests" not in words or not words & {"only_on", "not_on"} or words - {"guests", "only_on", "not_on"}:
            raise PlanError(
                "placement_rules",
                f"{option} is {rule!r}",
                "give guests (as for exclude), and only_on or not_on with names of hosts",
            )
        hosts = {key: _hosts(rule.get(key), f"{option}.{key}", known) for key in ("only_on", "not_on")}
        for uuid in select(rule["guests"], snapshots, option=f"{option}.guests"):
            whose = f"rule {number + 1} of placement_rules"
            found.setdefault(uuid, []).append(Rule(hosts["only_on"], hosts["not_on"], whose, f"change {whose}"))
    return found


def _hosts(stated: t.Any, option: str, known: t.Collection[str]) -> frozenset[str]:
    names = [stated] if isinstance(stated, str) else stated or []
    unknown = [name for name in names if name not in known] if isinstance(names, (list, tuple)) else [stated]
    if unknown:
        raise PlanError("placement_rules", f"{option}: there is no host {unknown[0]!r}", "give names of the inventory")
    return frozenset(names)


def window_of(arguments: Arguments, snapshots: t.Mapping[str, Snapshot]) -> Window:
    if arguments["window_s"] is not None and not _is_above_0(arguments["window_s"]):
        raise PlanError("window_s", f"window_s is {arguments['window_s']}", "give a number of seconds above 0")
    connect = arguments["connect"]
    stated = {host: float(end["bandwidth_mib_s"]) * MIB for host, end in connect.items() if end.get("bandwidth_mib_s")}
    of_host = {host: str(end["link"]) for host, end in connect.items() if end.get("link")}
    seen = {
        host: interface_bytes_per_s(snapshot, (connect.get(host) or {}).get("migration_address"))
        for host, snapshot in snapshots.items()
    }
    return Window(
        window_s=arguments["window_s"],
        slots=options.slots(arguments["slots"], set(of_host.values())),
        stated=stated,
        links=options.crossed(of_host, snapshots),
        interfaces={host: rate for host, rate in seen.items() if rate},
    )


def forecasts_of(arguments: Arguments, snapshots: t.Mapping[str, Snapshot], window: Window) -> PlanForecasts | None:
    """What moves are forecast with; None when the task gives nothing to forecast them from."""
    working_sets, calibration = arguments["working_sets"], arguments["calibration"]
    if working_sets is None and calibration is None:
        return None
    for number, document in enumerate(working_sets or ()):
        schema = document.get("schema") if isinstance(document, t.Mapping) else None
        if schema != WORKING_SET:
            raise PlanError(
                "not_a_working_set",
                f"working_sets[{number}] is not a working set: its schema is {schema or 'missing'}, not {WORKING_SET}",
                "give what working_set_info returned as working_sets, of the same release of kvmops.cluster",
            )
    for host, learned in (calibration or {}).items():
        if not isinstance(learned, t.Mapping):
            raise PlanError(
                "not_a_calibration",
                f"calibration of {host} is not a mapping",
                "give what working_set_info returned as calibration on each source, by host",
            )
    return PlanForecasts(
        snapshots,
        arguments["connect"],
        working_sets or [],
        calibration or {},
        tuned=arguments["tune_network"],
        slots=window.slots,
        links=window.links,
        senders=_senders(arguments),
        receivers=len(arguments["hosts"]) if arguments["goal"] == "restore" else None,
    )


def _senders(arguments: Arguments) -> int | None:
    """Hosts that guests leave at once, where the goal tells; others may make room for them, but before that."""
    if arguments["goal"] in EMPTYING:
        return len(arguments["hosts"])
    return int(arguments["at_once"]) if arguments["goal"] == "upgrade" else None
