# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what the two hosts of a move say, before it and after it. Asks, and changes nothing.

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import intent as intents
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, shown
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import step_result
from ansible_collections.kvmops.cluster.plugins.module_utils.core.snapshot import compatibility
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import (
    cpu_check,
    destination,
    disk_copy_check,
    guest_state,
    host,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.reporting import Step

Result = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is the same for all moves of a run.

    Attributes:
        source: this host.
        state_dir: where this host keeps its records.
        destinations: by host name, C(connect_uri) and C(migration_address).
        reserve_bytes: what must stay free at a destination.
        incoming_limit: guests that may come in at a destination at once.
        tune_network: whether the operator lets connections of QEMU be tuned.
        ranks: by destination, how many other sources come first when several want to send there at once.
        boot_id: names this boot of this host; None when that is not known.
        at_once: guests that this host may be sending at the same time.
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


@dataclasses.dataclass(frozen=True)
class Answers:
    """What the two hosts say just before a move: their snapshots, the guest in the source's, every reason not to."""

    source: dict[str, t.Any]
    destination: dict[str, t.Any]
    guest: dict[str, t.Any]
    intent: dict[str, t.Any]
    refusals: list[Refusal]


class Preconditions:
    """Asks both hosts of a step.

    Args:
        connections: read-only ones are enough.
        settings: what is the same for all moves.
    """

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings

    def endpoints(self, step: Step) -> tuple[Endpoint, Endpoint]:
        """Both hosts; VirtError for a destination that the plan does not say how to reach."""
        name = step["destination"]
        known = self._settings.destinations.get(name)
        # Without a URI libvirt would open the hypervisor of this very host.
        if known is None or not known.get("connect_uri"):
            raise virt.VirtError(
                refusal("unknown_host", f"the plan does not say how to reach {name}", "make a new plan that names it")
            )
        return self._settings.source, Endpoint(name, known["connect_uri"])

    def look(self, step: Step) -> tuple[Side, Side]:
        """How each of them sees the guest; VirtError for one that does not answer."""
        here, there = (
            guest_state.ask_host(self._connections, endpoint, step["guest"]["uuid"])
            for endpoint in self.endpoints(step)
        )
        for side, endpoint in zip((here, there), self.endpoints(step)):
            if not side.reachable:
                # Says why in words that an operator can act on.
                self._connections.get(endpoint.uri)
                raise virt.VirtError(
                    refusal(
                        "not_answering",
                        f"{side.host} does not say how {step['guest']['name']} is: {side.error}",
                        f"see what it is busy with on {side.host}: virsh domjobinfo {shown(step['guest']['name'])}",
                    )
                )
        return here, there

    def known_end(self, step: Step, here: Side, there: Side) -> Result | None:
        """The result where there is nothing to move: it is there already, or nowhere."""
        guest = step["guest"]["name"]
        if there.active and not here.active and not there.migrating and there.state == "running":
            return step_result(step, "already_there")
        if here.state == "absent" and there.state == "absent":
            why = refusal(
                "unknown_guest",
                f"there is no guest {guest} on {here.host}, nor on {there.host}",
                f"see what runs where (virsh list --all on {here.host}), or make a new plan",
            )
            return step_result(step, "refused", refusals=[why])
        if here.state == "absent":
            why = refusal(
                "not_here",
                f"{guest} is not on {here.host}: it is {there.words()}",
                f"see why it does not run there: virsh domstate --reason {shown(guest)} on {there.host}",
            )
            return step_result(step, "refused", refusals=[why])
        return None

    def ask(self, step: Step) -> Answers:
        """Ask this host about the guest, and the destination about itself, as they are now."""
        source, target = self.endpoints(step)
        here = self._connections.get(source.uri).connection
        there = self._connections.get(target.uri).connection
        uuid = step["guest"]["uuid"]
        local = host.snapshot(here, name=source.host, state_dir=pathlib.Path(self._settings.state_dir), only=uuid)
        # Without the guest, which was there a moment ago, the caller's next call says that it is gone.
        guest = next(iter(local["domains"]), None)
        remote = destination.snapshot(there, target.host)
        intent = intents.normalise(step["intent"])
        if guest is None:
            return Answers(local, remote, {}, intent, [_vanished(step)])
        refusals = compatibility.refusals(guest, local, remote, intent, reserve_bytes=self._settings.reserve_bytes)
        if not refusals:
            refusals = cpu_check.refusals(there, guest, target.host) + disk_copy_check.refusals(
                there, guest, target.host
            )
        return Answers(local, remote, guest, intent, refusals)

    def incoming(self, step: Step) -> int:
        """How many guests are coming in at the destination now."""
        _source, target = self.endpoints(step)
        return destination.incoming(self._connections.get(target.uri).connection)

    def domain(self, step: Step) -> t.Any:
        """The guest at its source."""
        source, _target = self.endpoints(step)
        return self._connections.get(source.uri).connection.lookupByUUIDString(step["guest"]["uuid"])

    def domain_at(self, name: str, uuid: str) -> t.Any:
        """A guest on one of the hosts, by the host's name; VirtError for one that nobody says how to reach."""
        source = self._settings.source
        uri = source.uri if name == source.host else (self._settings.destinations.get(name) or {}).get("connect_uri")
        if not uri:
            raise virt.VirtError(
                refusal("unknown_host", f"the plan does not say how to reach {name}", "make a new plan that names it")
            )
        return self._connections.get(uri).connection.lookupByUUIDString(uuid)

    def seen_elsewhere(self, step: Step) -> bool:
        """Whether a third host has the guest, or cannot be asked."""
        for name, known in self._settings.destinations.items():
            if name in (self._settings.source.host, step["destination"]):
                continue
            if not known.get("connect_uri"):
                return True
            side = guest_state.ask_host(self._connections, Endpoint(name, known["connect_uri"]), step["guest"]["uuid"])
            if side.active or not side.reachable:
                return True
        return False


def _vanished(step: Step) -> Refusal:
    name, source = step["guest"]["name"], step["source"]
    return refusal("vanished", f"{name} has just gone from {source}", "see who stopped or moved it, and run again")
