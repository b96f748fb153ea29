# Copyright (c) 2026, kvmops.cluster contributors
# BSD-2-Clause (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

"""Decide which guests that cannot move may be shut down while their host is upgraded."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.definition import managers
from ansible_collections.kvmops.cluster.plugins.module_utils.core.documents import (
    Domain,
    Guest,
    Snapshot,
    Stay,
    is_off,
    metadata_of,
    plain_state,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import RECOVER, Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.requirements import infrastructure
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed


class Consent(t.NamedTuple):
    """Guests that may be shut down, and those that may not, with every reason."""

    stop: list[Guest]
    blocked: list[Stay]


def consented(
    stays: t.Iterable[Stay],
    snapshots: t.Mapping[str, Snapshot],
    run_intent: t.Mapping[str, t.Any],
    controller_uuids: t.Collection[str] = (),
    silent: t.Sequence[str] = (),
) -> Consent:
    """Sort guests that cannot leave their host.

    A guest may be shut down if its intent says so (``allow_shutdown``), if it can be expected to heed the request, and
    if its host still knows it afterwards. A guest that serves the cluster's storage, or runs the controller, must say
    so itself.

    Args:
        stays: of a plan that is to empty hosts.
        snapshots: all hosts.
        run_intent: what the run states; a run that says no to ``allow_shutdown`` says it for all.
        controller_uuids: what the machine that runs the controller says that its UUID is.
        silent: hosts that do not answer. While there is one, no guest that was shut down could be started again: nobody
            knows what runs there.
    """
    serving = infrastructure.serving_guests(snapshots)
    running = infrastructure.controllers(snapshots, controller_uuids)
    known = [domain for snapshot in snapshots.values() for domain in snapshot.get("domains") or []]
    # Another host may still have a definition of a guest that runs here.
    domains = {domain["uuid"]: domain for domain in sorted(known, key=is_off, reverse=True)}
    split = {domain["uuid"] for domain in known if str(domain.get("state_reason") or "").startswith("postcopy")}
    stop: list[Guest] = []
    blocked: list[Stay] = []
    for stay in stays:
        domain = domains.get(stay["guest"]["uuid"])
        why = _split(stay) if stay["guest"]["uuid"] in split else _against(stay, domain, run_intent)
        if why is None and domain and (domain["uuid"] in serving or domain["uuid"] in running):
            why = _not_named(domain, serving.get(domain["uuid"]))
        if why is None and silent:
            why = _not_startable(stay["guest"]["name"], silent)
        if why is None:
            stop.append(stay["guest"])
        else:
            told = [refused for refused in stay["refusals"] if refused != why]
            blocked.append({**stay, "refusals": [*told, why]})
    return Consent(stop, blocked)


def _split(stay: Stay) -> Refusal:
    """Why a guest in the middle of a post-copy is not shut down, whoever permits it."""
    name = stay["guest"]["name"]
    return refusal(
        "postcopy",
        f"{name} is in the middle of a post-copy: a part of its memory is on another host, and both halves would be"
        " lost",
        f"let that move end; if it broke off: {RECOVER}",
    )


def _not_named(domain: Domain, service: infrastructure.Service | None) -> Refusal | None:
    """Why a guest that the cluster depends on is not shut down: its own intent does not permit it."""
    own = intents.stated(metadata_of(domain).get("intent"), whose=f"guest {domain['name']}")
    return None if own.get("allow_shutdown") else infrastructure.no_shutdown(domain["name"], service)


def _not_startable(name: str, silent: t.Sequence[str]) -> Refusal:
    """Why a guest is not shut down while a host may run anything: it would stay off."""
    hosts = listed(list(silent))
    return refusal(
        "host_silent",
        f"if {name} were shut down, it could not be started again while {hosts} does not answer, because it may run"
        " there by then",
        f"bring {hosts} back, or take it out of the inventory if it is gone for good; then run the same again",
    )


def _against(stay: Stay, domain: Domain | None, run_intent: t.Mapping[str, t.Any]) -> Refusal | None:
    """Why a guest may not be shut down."""
    name = stay["guest"]["name"]
    if domain is None:
        return refusal(
            "unknown_guest", f"{name} is on no host that answers", "find out where it is, then run the same again"
        )
    intent = intents.merge(run_intent, metadata_of(domain).get("intent"), whose=f"guest {name}")
    # Its manager would start it again, perhaps on another host.
    owned = managers.managed(domain, intent)
    if owned is not None:
        return owned
    if not intent["allow_shutdown"]:
        return refusal(
            "no_consent",
            f"it is not permitted to shut {name} down while its host is away",
            "permit it: allow_shutdown in its own intent, or -e rolling_upgrade_allow_shutdown=true for all",
        )
    if not domain.get("persistent", True):
        return refusal(
            "transient",
            f"{name} would be gone once it is shut down: its host has no definition of it",
            "define it first (virsh dumpxml, virsh define)",
        )
    if plain_state(domain) != "running":
        return refusal(
            "does_not_run",
            f"{name} is {plain_state(domain)}, so it cannot shut itself down",
            "resume it, or end it if nobody needs what it holds",
        )
    return None
