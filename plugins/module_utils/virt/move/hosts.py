# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: asks the hosts of a step about its guest. Changes nothing.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.outcome import Side, quoted
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.step_result import Step
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import lost_connection
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.connection_pool import Connections, Link
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect.events import EventStream
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look import destination, guest_state
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.look.guest_state import Endpoint
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.move.settings import Settings


class Hosts:
    """The hosts of a run's moves.

    Args:
        connections: read-only ones are enough.
        settings: of all moves.
    """

    def __init__(self, connections: Connections, settings: Settings) -> None:
        self._connections = connections
        self._settings = settings

    def endpoints(self, step: Step) -> tuple[Endpoint, Endpoint]:
        """Source and destination; VirtError for a destination that the plan does not say how to reach."""
        name = step["destination"]
        known = self._settings.destinations.get(name)
        # Without a URI libvirt would open the hypervisor of this very host.
        if known is None or not known.get("connect_uri"):
            raise _unknown_host(name)
        return self._settings.source, Endpoint(name, known["connect_uri"])

    def links(self, step: Step) -> tuple[Link, Link]:
        """Open links to source and destination; VirtError for a host that cannot be reached."""
        source, target = self.endpoints(step)
        return self._connections.get(source.uri), self._connections.get(target.uri)

    def drop_broken(self, step: Step) -> None:
        """Forget connections of a step that claim to be open and answer nothing."""
        for endpoint in self.endpoints(step):
            self._connections.drop_broken(endpoint.uri)

    def sides(self, step: Step) -> tuple[Side, Side]:
        """The guest as source and destination see it; VirtError for a host that does not answer."""
        uuid = step["guest"]["uuid"]
        here, there = (guest_state.ask_host(self._connections, endpoint, uuid) for endpoint in self.endpoints(step))
        for side, endpoint in zip((here, there), self.endpoints(step)):
            if not side.reachable:
                # Says why in words that an operator can act on.
                self._connections.get(endpoint.uri)
                if lost_connection.is_lost_text(side.error):
                    raise virt.VirtError(lost_connection.lost(side.error))
                raise virt.VirtError(
                    refusal(
                        "not_answering",
                        f"{side.host} does not report the state of {step['guest']['name']}: {side.error}",
                        f"see what it is busy with on {side.host}: virsh domjobinfo {quoted(step['guest']['name'])}",
                    )
                )
        return here, there

    def source_side(self, step: Step) -> Side:
        """The guest as its source sees it, also where the source does not answer."""
        source, _target = self.endpoints(step)
        return guest_state.ask_host(self._connections, source, step["guest"]["uuid"])

    def domain(self, step: Step) -> t.Any:
        """The guest's ``virDomain`` at its source."""
        source, _target = self.endpoints(step)
        return self._connections.get(source.uri).connection.lookupByUUIDString(step["guest"]["uuid"])

    def domain_at(self, name: str, uuid: str) -> t.Any:
        """A guest on a host, by the host's name; VirtError for a host that the plan does not say how to reach."""
        source = self._settings.source
        uri = source.uri if name == source.host else (self._settings.destinations.get(name) or {}).get("connect_uri")
        if not uri:
            raise _unknown_host(name)
        return self._connections.get(uri).connection.lookupByUUIDString(uuid)

    def destination_events(self, step: Step) -> EventStream | None:
        """The events of the destination as they come now, or None when it cannot be reached."""
        _source, target = self.endpoints(step)
        try:
            return self._connections.get(target.uri).events
        except virt.VirtError:
            return None

    def source_events(self, step: Step) -> EventStream | None:
        """The events of the source as they come now, or None when it cannot be reached."""
        source, _target = self.endpoints(step)
        try:
            return self._connections.get(source.uri).events
        except virt.VirtError:
            return None

    def incoming(self, step: Step) -> list[str]:
        """Names of the guests that come in at the destination now."""
        _source, target = self.endpoints(step)
        return destination.incoming(self._connections.get(target.uri).connection)

    def why_elsewhere(self, step: Step) -> str | None:
        """Why a guest may be on a third host, in words; None where all of them have been asked and none has it.

        Asked are all hosts that the run knows how to reach, also those that gave no snapshot.
        """
        ends = (self._settings.source.host, step["destination"])
        others = {**self._settings.destinations, **self._settings.witnesses}
        for name in sorted(set(others) - set(ends)):
            uri = others[name].get("connect_uri")
            if not uri:
                return f"nobody says how to reach {name}"
            side = guest_state.ask_host(self._connections, Endpoint(name, uri), step["guest"]["uuid"])
            if side.active or not side.reachable:
                return f"it is {side.describe()}"
        return None


def _unknown_host(name: str) -> virt.VirtError:
    return virt.VirtError(
        refusal("unknown_host", f"the plan does not say how to reach {name}", "make a new plan that names it")
    )
