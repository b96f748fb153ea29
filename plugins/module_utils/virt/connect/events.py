# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the events of a connection, by guest.

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt


@dataclasses.dataclass(frozen=True)
class Event:
    """One event of one guest.

    Attributes:
        at: monotonic seconds at which it arrived here.
        kind: C(lifecycle), C(iteration) or C(completed).
        event: libvirt's lifecycle event, or the iteration's number.
        detail: libvirt's detail of a lifecycle event, else 0.
        statistics: final job statistics of C(completed), else empty.
    """

    at: float
    kind: str
    event: int = 0
    detail: int = 0
    statistics: dict[str, t.Any] = dataclasses.field(default_factory=dict)


Listener = t.Callable[[Event], None]


class EventStream:
    """Events of one connection. Each goes to those that listen for its guest.

    libvirt takes only one registration of an event on a connection, so there is one stream a connection and it
    dispatches. Listeners are called in libvirt's event thread: they must return at once and call no libvirt.
    """

    def __init__(self, connection: t.Any, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._clock = clock
        self._lock = threading.Lock()
        self._listeners: dict[str, list[Listener]] = {}
        # Events may arrive before the call that registers returns. So all state is set before the first registration.
        self._registrations: list[int] = []
        libvirt = virt.libvirt
        for event_id, callback in (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION, self._on_iteration),
            (libvirt.VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, self._on_completed),
        ):
            self._registrations.append(connection.domainEventRegisterAny(None, event_id, callback, None))

    def listen(self, uuid: str, listener: Listener) -> None:
        """Call ``listener`` with every event of the guest from now on."""
        with self._lock:
            self._listeners.setdefault(uuid, []).append(listener)

    def forget(self, uuid: str, listener: Listener) -> None:
        """Stop calling ``listener``."""
        with self._lock:
            listeners = self._listeners.get(uuid, [])
            if listener in listeners:
                listeners.remove(listener)

    def close(self) -> None:
        """End the registrations. The connection stays open."""
        for registration in self._registrations:
            # A dead connection has lost them already.
            with contextlib.suppress(virt.libvirt.libvirtError):
                self._connection.domainEventDeregisterAny(registration)
        self._registrations = []

    def _on_lifecycle(self, _connection: t.Any, domain: t.Any, event: int, detail: int, _opaque: t.Any) -> None:
        self._dispatch(domain, Event(self._clock(), "lifecycle", event, detail))

    def _on_iteration(self, _connection: t.Any, domain: t.Any, iteration: int, _opaque: t.Any) -> None:
        self._dispatch(domain, Event(self._clock(), "iteration", iteration))

    def _on_completed(self, _connection: t.Any, domain: t.Any, statistics: dict[str, t.Any], _opaque: t.Any) -> None:
        self._dispatch(domain, Event(self._clock(), "completed", statistics=dict(statistics)))

    def _dispatch(self, domain: t.Any, event: Event) -> None:
        with self._lock:
            listeners = list(self._listeners.get(domain.UUIDString(), ()))
        for listener in listeners:
            listener(event)
