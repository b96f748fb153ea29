# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the mark of a host that holds a half of a guest, kept in a file on the host.

# While the memory of a guest is split between two hosts, neither may be rebooted. libvirt says so as long as it runs.
# The mark says it to people and to monitoring, and outlives whoever moved the guest.

from __future__ import annotations

import contextlib
import os
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape
from ansible_collections.kvmops.cluster.plugins.module_utils.run import file_lock
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_json,
    write_durably,
)

SCHEMA = "kvmops.split_guests/1"
FILE = "split_guests.json"
LOCK = "split_guests.lock"
LOCK_TIMEOUT_S = 10.0
#: Ansible reads local facts from here: the mark is then ansible_local.kvmops_split.
FACT = Path("/etc/ansible/facts.d/kvmops_split.fact")

_NAME = shape.or_null(shape.text())
_MARK = shape.mapping({
    "schema": shape.text(),
    "guests": shape.list_of(
        shape.mapping({"name": shape.text(), "uuid": shape.text()}, {"other": _NAME, "since": _NAME}, others=True)
    ),
}, others=True)  # fmt: skip


class SplitGuest(t.TypedDict):
    """A guest of which this host holds a half.

    ``other`` is the host with the other half, or None where nobody knows. ``since`` is when the mark was made (UTC).
    """

    name: str
    uuid: str
    other: str | None
    since: str


def marked(state_dir: str) -> list[SplitGuest]:
    """The guests that this host is marked for. A record that cannot be read says nothing: libvirt is asked as well."""
    try:
        document = read_json(os.path.join(state_dir, FILE))
    except OSError:
        return []
    whole = shape.fits(_MARK, document) and document["schema"] == SCHEMA
    guests = document["guests"] if whole else []
    return [
        {"name": one["name"], "uuid": one["uuid"], "other": one.get("other"), "since": str(one.get("since") or "")}
        for one in guests
    ]


def mark(state_dir: str, name: str, uuid: str, other: str | None) -> None:
    """Mark this host for a guest. A disk that is full keeps nobody from moving on: libvirt says it as well."""

    def edit(guests: list[SplitGuest]) -> None:
        known = next((one for one in guests if one["uuid"] == uuid), None)
        if known is None:
            guests.append({"name": name, "uuid": uuid, "other": other, "since": utc_now()})
        elif other is not None:
            known["other"] = other

    _change(state_dir, edit)


def clear(state_dir: str, uuid: str) -> None:
    """Take a guest out of the mark that is whole, or of which this host holds nothing any more."""

    def edit(guests: list[SplitGuest]) -> None:
        guests[:] = [one for one in guests if one["uuid"] != uuid]

    if any(one["uuid"] == uuid for one in marked(state_dir)):
        _change(state_dir, edit)


def _change(state_dir: str, edit: t.Callable[[list[SplitGuest]], None]) -> None:
    with contextlib.suppress(OSError, file_lock.StillLockedError):
        make_directory(state_dir, 0o755)
        with file_lock.locked(os.path.join(state_dir, LOCK), LOCK_TIMEOUT_S):
            before = marked(state_dir)
            guests: list[SplitGuest] = [one.copy() for one in before]
            edit(guests)
            if guests != before:
                document = {"schema": SCHEMA, "guests": guests}
                write_durably(os.path.join(state_dir, FILE), document, indent=2, mode=0o644)
                _show_as_fact(Path(state_dir))


def _show_as_fact(state_dir: Path) -> None:
    """Let Ansible's fact gathering find the mark, from the first one on."""
    with contextlib.suppress(OSError):
        if FACT.is_symlink() and Path(os.readlink(FACT)) == state_dir / FILE:
            return
        FACT.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        FACT.unlink(missing_ok=True)
        FACT.symlink_to(state_dir / FILE)
