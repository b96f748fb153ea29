# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: writes a host's maintenance record in all places, as it is asked for.

from __future__ import annotations

import datetime
import os
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.run import maintenance
from ansible_collections.kvmops.cluster.plugins.module_utils.run.maintenance import MaintenanceRequest, RecordError
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.connect import connection as virt
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.host_state import autostart_marks, cordon, split_marks

#: On a host that is not in maintenance, guests keep their marks.
NO_MARKS = autostart_marks.Marked([], [])


class Change(t.NamedTuple):
    changed: bool
    before: dict[str, t.Any]
    after: dict[str, t.Any]
    warnings: list[str]


def apply(connection: t.Any, request: MaintenanceRequest, state_dir: Path, *, check_mode: bool) -> Change:
    """Record what is asked for, in the file, the local fact and the host's libvirtd.

    Of two that do so at once, the second sees what the first has written.

    Args:
        connection: to the host's own libvirtd; read-only in check mode.

    Raises:
        RecordError, VirtError: it is refused, or it could not be done.
    """
    if check_mode:
        return _apply(connection, request, state_dir, check_mode=True)
    with maintenance.locked(state_dir, request.host):
        return _apply(connection, request, state_dir, check_mode=False)


def _apply(connection: t.Any, request: MaintenanceRequest, state_dir: Path, *, check_mode: bool) -> Change:
    before = _current(connection, request, state_dir)
    active = _active(connection)
    _check_whole(active, request, before, state_dir, check_mode=check_mode)
    after = maintenance.next_record(before, request, _names(active), _now())
    marks = autostart_marks.marked(connection) if after["state"] == "maintenance" else NO_MARKS
    after = autostart_marks.with_marks(after, marks.here)
    places = _RecordPlaces(connection, state_dir)
    changed = marks != NO_MARKS or not places.all_hold(after)
    warnings: list[str] = []
    if changed and not check_mode:
        if after["state"] == "maintenance" and places.open:
            closed, marks = _closed_and_empty(connection, before, request), autostart_marks.marked(connection)
            after = autostart_marks.with_marks(closed, marks.here)
        if after["state"] == "active":
            warnings = autostart_marks.set_again(connection, request.host, before.get(maintenance.AUTOSTART) or [])
        places.write(after)
        # The record is on disk. If this run dies here, the marks are set again all the same.
        autostart_marks.remove(connection, request.host, [*marks.here, *marks.left])
    warnings += [autostart_marks.left_behind(request.host, guest) for guest in marks.left]
    return Change(changed, before, after, [*(places.warnings if after["state"] != "active" else []), *warnings])


def _check_whole(
    domains: t.Sequence[t.Any],
    request: MaintenanceRequest,
    before: dict[str, t.Any],
    state_dir: Path,
    *,
    check_mode: bool,
) -> None:
    """Neither close nor empty a host that holds a half of a guest. Brings the mark of the host up to date.

    One that is closed already stays so. The operator may close one by force; it does not go into maintenance by that.

    Raises: RecordError naming the guests.
    """
    names = split_marks.halves(domains) if check_mode else split_marks.sync(domains, str(state_dir))
    closes = request.state == "maintenance" or (
        request.state == "cordoned" and before["state"] == "active" and not request.force
    )
    if names and closes:
        raise RecordError(split_marks.refusal_of(request.host, names))


def _active(connection: t.Any) -> list[t.Any]:
    return list(connection.listAllDomains(virt.libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE))


def _names(active: t.Iterable[t.Any]) -> list[str]:
    return sorted(domain.name() for domain in active)


def _closed_and_empty(connection: t.Any, before: dict[str, t.Any], request: MaintenanceRequest) -> dict[str, t.Any]:
    """The record of an open host that is empty when no source sends there any more. If refused, it is open as before.

    A crash half-way leaves it cordoned.
    """
    cordon.publish(connection, maintenance.next_record(before, request._replace(state="cordoned"), [], _now()))
    try:
        return maintenance.next_record(before, request, _names(_active(connection)), _now())
    except Exception:
        cordon.withdraw(connection)
        raise


def _current(connection: t.Any, request: MaintenanceRequest, state_dir: Path) -> dict[str, t.Any]:
    """The record that counts. A damaged one is replaced only by force."""
    try:
        return cordon.effective(connection, state_dir)
    except RecordError:
        if request.force:
            return dict(maintenance.ACTIVE)
        raise


class _RecordPlaces:
    """All places of the record: the file, the local fact, and the host's libvirtd."""

    def __init__(self, connection: t.Any, state_dir: Path) -> None:
        self._connection = connection
        self._state_dir = state_dir
        self.warnings: list[str] = []
        self._file = self._published = None
        self._damaged = False
        why = None
        try:
            self._file = maintenance.load(state_dir)
            self._published, why = cordon.look(connection)
        except RecordError:
            self._damaged = True
        if why is not None:
            self.warnings.append(f"{why['reason']}; {why['remedy']}")

    @property
    def open(self) -> bool:
        """Whether other hosts see that guests may be sent here. A record that cannot be read counts as cordoned."""
        return not self._damaged and self._published is None

    def all_hold(self, record: dict[str, t.Any]) -> bool:
        """Whether every place has this record already."""
        published = None if record["state"] == "active" or self.warnings else record
        return (
            not self._damaged
            and self._file == record
            and self._published == published
            and (maintenance.fact_is_shown(self._state_dir) or self._never_written())
        )

    def _never_written(self) -> bool:
        """Whether there is no file. A host that has always been active needs none."""
        return not os.path.lexists(self._state_dir / maintenance.FILE)

    def write(self, record: dict[str, t.Any]) -> None:
        """Write the record in all places, in such an order that a crash half-way leaves the host cordoned."""
        if record["state"] != "active":
            cordon.publish(self._connection, record)
        maintenance.store(record, self._state_dir)
        maintenance.show_as_fact(self._state_dir)
        if record["state"] == "active":
            cordon.withdraw(self._connection)


def _now() -> str:
    return f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
