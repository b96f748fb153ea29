# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""From snapshots to the content of a plan for one goal, with the refusals that concern the whole cluster."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    SNAPSHOT,
    Off,
    Placement,
    Snapshot,
    Step,
    is_off,
    is_open,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.evacuation import Solver
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.from_snapshots import Constraints
from ansible_collections.kvmops.cluster.plugins.module_utils.core.placement.rebalancing import USUAL_RULES, Rules
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.plan import GOALS, PlanError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.plan.steps import (
    ANY_TIME,
    Planned,
    Window,
    expectation,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners import shut_off_guests
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.drain import drain
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.guest_costs import GuestCosts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.plan_forecasts import PlanForecasts
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.rebalance import plan_rebalance
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.restore import plan_restore
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.restore_claims import LeftGuest, home_returns
from ansible_collections.kvmops.cluster.plugins.module_utils.core.planners.upgrade import Upgrade, plan_upgrade
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot.duplicates import duplicates
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import human_seconds

#: Goals that end with empty hosts.
EMPTYING = ("drain", "evacuate")
#: A plan is made so often with forecasts of those that it has chosen; then all are forecast that were measured.
MOST_ROUNDS = 4


def by_host(snapshots: t.Any) -> dict[str, Snapshot]:
    """Snapshots by host, from a list of them or from a mapping; PlanError for what is no snapshot."""
    found: dict[str, Snapshot] = {}
    for number, document in enumerate(_documents(snapshots)):
        schema = document.get("schema") if isinstance(document, t.Mapping) else None
        if schema != SNAPSHOT:
            raise PlanError(
                "not_a_snapshot",
                f"snapshots[{number}] is not a snapshot: its schema is {schema or 'missing'}, not {SNAPSHOT}",
                "give what host_info returned as snapshot, of the same release of kvmops.cluster",
            )
        _check_whole(document, f"snapshots[{number}]")
        if document["host"] in found:
            raise PlanError(
                "host_twice",
                f"there are two snapshots of {document['host']}",
                "give one of each host, the newest",
            )
        found[document["host"]] = document
    return found


def _documents(snapshots: t.Any) -> list[t.Any]:
    if isinstance(snapshots, t.Mapping) and "schema" not in snapshots:
        return list(snapshots.values())
    if isinstance(snapshots, t.Sequence) and not isinstance(snapshots, (str, bytes)):
        return list(snapshots)
    raise PlanError(
        "not_a_snapshot",
        "snapshots must be a list of snapshots, or a mapping of hosts to snapshots",
        "give what host_info returned as snapshot on each host",
    )


def _check_whole(snapshot: t.Mapping[str, t.Any], place: str) -> None:
    """Refuse a snapshot that lacks what every plan rests on; whatever else is missing is null to the planner."""
    if not _is_text(snapshot.get("host")):
        raise _damaged(place, "host", "the name of the host")
    if not isinstance(snapshot.get("capacity") or {}, t.Mapping):
        raise _damaged(place, "capacity", "a mapping")
    domains = snapshot.get("domains")
    if not isinstance(domains or [], t.Sequence) or isinstance(domains, str):
        raise _damaged(place, "domains", "a list of guests")
    for number, domain in enumerate(domains or []):
        where = f"{place}.domains[{number}]"
        if not isinstance(domain, t.Mapping):
            raise _damaged(place, f"domains[{number}]", "a guest")
        for key in ("name", "uuid"):
            if not _is_text(domain.get(key)):
                raise _damaged(where, key, "a text")
        memory = domain.get("memory_bytes")
        if isinstance(memory, bool) or not isinstance(memory, int) or memory < 0:
            raise _damaged(where, "memory_bytes", "a whole number of 0 or more")


def _is_text(value: t.Any) -> bool:
    return isinstance(value, str) and bool(value)


def _damaged(place: str, field: str, what: str) -> PlanError:
    return PlanError(
        "snapshot_damaged",
        f"{place} is damaged: its {field} is not {what}",
        "take a new snapshot (host_info), and give it unedited",
    )


class Request(t.NamedTuple):
    """What the operator asks for.

    Attributes:
        kind: one of ``GOALS``.
        hosts: to empty, to bring guests home to, to upgrade; of a rebalance those that take part (none: all).
        left: guests that left these hosts earlier (restore).
        spare: N+1 after the plan, or while the hosts of a wave are away (upgrade): off, warn or require.
        may_move_others: guests elsewhere may make room (drain, evacuate).
        at_once: hosts away at the same time (upgrade).
        rules: when and how far to rebalance.
        weights: of the score of a rebalance; None: the usual.
        resting: UUIDs of guests that moved a short while ago (rebalance).
    """

    kind: str
    hosts: t.Sequence[str] = ()
    left: t.Iterable[LeftGuest] = ()
    spare: str = "off"
    may_move_others: bool = True
    at_once: int = 1
    rules: Rules = USUAL_RULES
    weights: t.Mapping[str, float] | None = None
    in_cooldown: t.Collection[str] = ()


class Wave(t.NamedTuple):
    """Hosts of a rolling upgrade that are away at once, and the plan that empties them."""

    hosts: list[str]
    planned: Planned


class PlanningResult(t.NamedTuple):
    """A plan's content; of an upgrade its steps are those of the first of the ``waves``."""

    planned: Planned
    off: list[Off]
    waves: list[Wave]


def make(
    request: Request, constraints: Constraints, *, window: Window = ANY_TIME, solver: Solver | None = None
) -> PlanningResult:
    """Plan for one goal.

    Args:
        wanted: the goal.
        constraints: what the plan must keep to; every host that may play a part is among its snapshots.
        window: the time and the slots there are.
        solver: an exact solver, for drains that the searches cannot decide.

    Raises:
        PlanError: for what is wrong with the whole cluster; what is wrong with one guest is in its stay.
    """
    if request.kind not in GOALS:
        raise PlanError("unknown_goal", f"there is no goal {request.kind}", f"choose one of {', '.join(GOALS)}")
    snapshots = constraints.snapshots
    if request.kind != "rebalance" or request.hosts:
        _check_hosts(request.hosts, snapshots)
    _check_duplicates(snapshots)
    if request.kind in EMPTYING:
        _check_somewhere_to_go(request.hosts, snapshots)
        planned = drain(
            request.hosts,
            constraints,
            window=window,
            may_move_others=request.may_move_others,
            spare=request.spare,
            solver=solver,
        )
        return PlanningResult(planned, shut_off_guests.shut_off(request.hosts, snapshots), [])
    if request.kind == "restore":
        return PlanningResult(
            plan_restore(request.hosts, constraints, request.left, window=window, spare=request.spare), [], []
        )
    if request.kind == "upgrade":
        return _upgrade(request, constraints, window)
    planned = plan_rebalance(
        constraints,
        request.rules,
        hosts=request.hosts,
        weights=request.weights,
        in_cooldown=request.in_cooldown,
        window=window,
        spare=request.spare,
    )
    return PlanningResult(planned, [], [])


def make_with_forecasts(
    request: Request,
    constraints: Constraints,
    forecasts: PlanForecasts | None,
    *,
    window: Window = ANY_TIME,
    solver: Solver | None = None,
) -> PlanningResult:
    """Plan for one goal with what is forecast of each move.

    Who surely moves is forecast first. A plan may choose others, who turn out to be unable to move as intended: then it
    is made anew with that in mind, and once also where some turn out to take far longer. Without forecasts nothing is
    forecast.

    Raises:
        PlanError: as ``make``.
    """
    if forecasts is None:
        return make(request, constraints, window=window, solver=solver)
    guest_costs = GuestCosts(constraints, forecasts, closing=request.hosts if request.kind in EMPTYING else ())
    guest_costs.ask(_sure_to_move(request, constraints.snapshots))
    for number in range(MOST_ROUNDS):
        result = make(request, guest_costs.constraints, window=window, solver=solver)
        steps = _steps(result)
        refused = guest_costs.newly_refused(steps)
        if not refused and (number or not guest_costs.much_longer(steps)):
            return result
        guest_costs.ask([*refused, *guest_costs.much_longer(steps)])
    guest_costs.ask_all()
    return make(request, guest_costs.constraints, window=window, solver=solver)


def _steps(result: PlanningResult) -> list[Step]:
    """All steps of a plan; those of the first wave are those of the plan."""
    return [
        *result.planned.placement.steps,
        *(step for wave in result.waves[1:] for step in wave.planned.placement.steps),
    ]


def _sure_to_move(request: Request, snapshots: t.Mapping[str, Snapshot]) -> list[str]:
    """UUIDs of guests that the goal wants elsewhere, wherever that is."""
    if request.kind in EMPTYING:
        return [domain["uuid"] for host in request.hosts for domain in snapshots.get(host, {}).get("domains") or []]
    if request.kind == "restore":
        return [home_return.domain["uuid"] for home_return in home_returns(request.hosts, snapshots, request.left)]
    return []


def _upgrade(request: Request, constraints: Constraints, window: Window) -> PlanningResult:
    """All waves, each as a plan of its own; the whole has the steps of the first, and who stays in any of them."""
    ordered = plan_upgrade(request.hosts, constraints, at_once=request.at_once, window=window, spare=request.spare)
    if ordered.n_plus_one_remarks and request.spare == "require":
        raise PlanError(**ordered.n_plus_one_remarks[0])
    any_time = window._replace(window_s=None)
    waves = [
        Wave(
            wave.hosts,
            Planned(Placement(wave.steps, wave.stays), expectation(wave.steps, constraints.expected, any_time), [], {}),
        )
        for wave in ordered.waves
    ]
    figures = {
        "moves": ordered.moves,
        "guests": ordered.guests,
        "moves_per_guest": round(ordered.moves_per_guest, 4),
        "seconds": round(ordered.seconds, 1),
    }
    stays = [stay for wave in ordered.waves for stay in wave.stays]
    first = waves[0].planned
    remarks = [*ordered.n_plus_one_remarks, *_too_long(ordered, window)]
    planned = Planned(Placement(first.placement.steps, stays), first.expected, remarks, figures)
    return PlanningResult(planned, shut_off_guests.shut_off(request.hosts, constraints.snapshots), waves)


def _too_long(ordered: Upgrade, window: Window) -> list[Refusal]:
    """Moves alone are known to take longer than there is time; what upgrades and reboots take, nobody forecasts."""
    if window.window_s is None or ordered.seconds <= window.window_s:
        return []
    return [
        refusal(
            "does_not_fit",
            f"the moves alone take {human_seconds(ordered.seconds)} of {human_seconds(window.window_s)}",
            "upgrade fewer hosts in this window; the next run continues where this one ends",
        )
    ]


def _check_hosts(hosts: t.Sequence[str], snapshots: t.Mapping[str, Snapshot]) -> None:
    if not hosts:
        raise PlanError("no_host", "no host is named", "name at least one host")
    unknown = [host for host in hosts if host not in snapshots]
    if unknown:
        raise PlanError(
            "unknown_host",
            f"there is no snapshot of {', '.join(unknown)}, only of {', '.join(sorted(snapshots)) or 'no host at all'}",
            "check the name against the inventory, and that host_info ran there",
        )
    for host in hosts:
        if list(hosts).count(host) > 1:
            raise PlanError("host_twice", f"{host} is named twice", "name each host once")


def _check_duplicates(snapshots: t.Mapping[str, Snapshot]) -> None:
    for found in duplicates(snapshots).values():
        raise PlanError(**found)


def _check_somewhere_to_go(hosts: t.Sequence[str], snapshots: t.Mapping[str, Snapshot]) -> None:
    others = [snapshot for host, snapshot in sorted(snapshots.items()) if host not in hosts]
    active = any(not is_off(domain) for host in hosts for domain in snapshots[host].get("domains") or [])
    if not active or any(is_open(snapshot) for snapshot in others):
        return
    closed: list[Refusal] = [refused for refused in map(compatibility.cordon_refusal, others) if refused]
    why = ", and ".join(refused["reason"] for refused in closed) or "there is no other host"
    raise PlanError(
        "no_destination",
        f"no host is open to the guests of {', '.join(hosts)}: {why}",
        "open one of them again (host_maintenance with state: active), or add a host to the inventory",
    )
