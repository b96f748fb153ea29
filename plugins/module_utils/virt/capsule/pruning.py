# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: removes capsules and images that nobody needs: marks them, and removes what is still not
# needed after a delay. The index forgets an image before its file goes, and the memory of a guest is wiped. Files in a
# guest's own place stay: on shared storage, a guest of another host may stand on them.

from __future__ import annotations

import contextlib
import datetime
import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import retention
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.retention import Needs, Rule, Stored, Sweep
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.receiving import Receiving
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule import merging
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.guests_images import used_images
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.live_lines import LiveLines

#: An image that has begun to come, and of which nothing came for so long, is given up.
RECEIVING_KEPT_S = 7 * 86400


class Pruned(t.NamedTuple):
    """What was (or would be) removed, what is marked, and what stays and why.

    Attributes:
        removed, marked: a row each, with C(what), C(name), C(path), C(bytes) and C(file_stays) (it is in a guest's own
            place, and only forgotten); marked ones have C(since).
        kept: why each capsule and image stays, by digest or name.
        freed_bytes: of the files that were removed.
        faults: what could not be removed or merged, in words.
        merged: layers of running guests that were merged into the file below; see L(merging.Merge.row).
    """

    removed: list[dict[str, t.Any]]
    marked: list[dict[str, t.Any]]
    kept: dict[str, str]
    freed_bytes: int
    faults: list[str]
    merged: list[dict[str, t.Any]]


class PruneRequest(t.NamedTuple):
    """What is to be kept.

    Attributes:
        rule: for each guest.
        guest: name or UUID: capsules of all others are kept; None: all guests.
        now: the time of now.
        dry: change nothing, and say what would be done.
    """

    rule: Rule
    guest: str | None
    now: datetime.datetime
    dry: bool


def prune(store: CapsuleStore, connection: t.Callable[[], t.Any], request: PruneRequest, lines: LiveLines) -> Pruned:
    """Mark what nobody needs, and remove what was marked long enough ago.

    Args:
        store: of this host.
        connection: opens a connection to libvirtd as a context manager; a writable one unless nothing is to be changed.
        request: what is to be kept.
        lines: tell what is removed.

    Raises:
        CapsuleError: something cannot be read, so nobody knows what is needed. Nothing was removed then.
    """
    if request.dry:
        found = _Looked(store, connection, request)
        with connection() as opened_connection:
            merges = [one.row() for one in merging.planned(store, opened_connection) if _is_meant(one, request)]
        rows = [*found.rows(found.sweep.remove), *(_begun_row(one) for one in found.given_up)]
        return Pruned(rows, found.marked(), found.needs.kept, found.bytes(), [], merges)
    with contextlib.ExitStack() as stack:
        stack.enter_context(store.locked(exclusive=True))
        found = _Looked(store, connection, request)
        store.write_marks(found.sweep.marks)
        rows, marked, freed = found.rows(found.sweep.remove), found.marked(), found.bytes()
        aside = _forget(store, found, lines)
        store.sweep()
        for begun in found.given_up:
            rows.append(_begun_row(begun))
            lines.say(f"removing {rows[-1]['what']} ({begun.folder})")
            aside.append(begun.set_aside())
    # Wiping takes long, and nobody finds these files any more.
    faults = [fault for path in aside for fault in _erase(path)]
    merged = []
    with connection() as opened_connection:
        for one in merging.planned(store, opened_connection):
            if not _is_meant(one, request):
                continue
            wrong = merging.merge(store, opened_connection, one, lines)
            faults += wrong
            merged += [] if wrong else [one.row()]
    return Pruned(rows, marked, found.needs.kept, freed, faults, merged)


def _is_meant(one: merging.Merge, request: PruneRequest) -> bool:
    return request.guest in (None, one.guest, one.uuid)


class _Looked:
    """What is in a store, and what of it is needed."""

    def __init__(self, store: CapsuleStore, connection: t.Callable[[], t.Any], request: PruneRequest) -> None:
        damaged = store.damaged_records()
        if damaged:
            raise CapsuleError(**damaged[0].why)
        self._store = store
        self.records = store.images()
        self.capsules = {one.digest: one for one in store.capsules()}
        with connection() as opened_connection:
            in_use = {**used_images(opened_connection, self.records), **store.in_use()}
        for one in self.capsules.values():
            if request.guest not in (None, *one.document["guest"].values()):
                in_use.setdefault(one.digest, "it is of another guest")
        stored = Stored(
            capsules={digest: one.document for digest, one in self.capsules.items()},
            images=set(self.records),
            bases={name for name, record in self.records.items() if record["base"]},
            in_use=in_use,
            unreadable=[one.folder for one in store.unreadable()],
            below={name: record["backing"] for name, record in self.records.items() if record["backing"]},
        )
        self.needs: Needs = retention.needs(stored, request.rule)
        self._marks = store.marks()
        self._now = request.now
        unneeded = self._of_guest(request)
        self.given_up = [
            one
            for one in store.receivings()
            if one.name not in in_use and self._now.timestamp() - one.idle_since() > RECEIVING_KEPT_S
        ]
        self.sweep: Sweep = retention.sweep(unneeded, self._marks, request.now, request.rule.delay_s)

    def _of_guest(self, request: PruneRequest) -> list[str]:
        """With a guest named, images that only others could have needed are not touched."""
        if request.guest is None:
            return self.needs.unneeded
        own: set[str] = set()
        for one in self.capsules.values():
            if request.guest in one.document["guest"].values():
                own |= {one.digest, *retention.images_of(one.document).values(), *retention.bases_of(one.document)}
        return [name for name in self.needs.unneeded if name in own or name in self._marks]

    def rows(self, names: t.Iterable[str]) -> list[dict[str, t.Any]]:
        """What these are, for a list."""
        return [self.row(name) for name in names]

    def marked(self) -> list[dict[str, t.Any]]:
        """What stays for now, with the time of its mark."""
        return [
            {**self.row(name), "since": since.astimezone(datetime.timezone.utc).isoformat().replace("+00:00", "Z")}
            for name, since in self.sweep.marks.items()
        ]

    def bytes(self) -> int:
        """What the files take that are to go."""
        gone = [name for name in self.sweep.remove if name in self.records and self._store.owns(self.records[name])]
        begun = sum(_begun_row(one)["bytes"] for one in self.given_up)
        return begun + sum(self.row(name)["bytes"] or 0 for name in gone)

    def row(self, name: str) -> dict[str, t.Any]:
        """What a capsule or an image is, for a list."""
        if name in self.capsules:
            document = self.capsules[name].document
            what = f"capsule {document['number']} of {document['guest']['name']}"
            folder = self.capsules[name].folder
            return {"what": what, "name": name, "path": folder, "bytes": None, "file_stays": False}
        record = self.records[name]
        try:
            taken: int | None = os.stat(record["path"]).st_blocks * 512
        except OSError:
            taken = None
        stays = not self._store.owns(record)
        return {"what": record["kind"], "name": name, "path": record["path"], "bytes": taken, "file_stays": stays}


def _begun_row(one: Receiving) -> dict[str, t.Any]:
    """What has begun to come and did not, for a list."""
    taken = sum(os.lstat(os.path.join(one.folder, name)).st_blocks * 512 for name in os.listdir(one.folder))
    what = "an image that came in part only"
    return {"what": what, "name": one.name, "path": one.folder, "bytes": taken, "file_stays": False}


def _forget(store: CapsuleStore, found: _Looked, lines: LiveLines) -> list[str]:
    """Take everything out of the index, capsules first; returns the files that are to go."""
    aside = []
    for name in found.sweep.remove:
        row = found.row(name)
        lines.say(f"removing {row['what']} ({row['path']})")
        if name in found.capsules:
            store.remove_capsule(found.capsules[name])
            continue
        store.forget_image(name)
        path = store.set_aside(found.records[name])
        if path is not None:
            aside.append(path)
    return aside


def _erase(path: str) -> list[str]:
    """Remove a file or a directory that was set aside; returns what went wrong, in words."""
    try:
        if os.path.isdir(path):
            durable_files.erase_folder(path)
        else:
            durable_files.erase(path)
    except OSError as error:
        return [f"{path} could not be removed: {error.strerror or error}"]
    return []
