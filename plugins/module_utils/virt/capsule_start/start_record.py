# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the record of a start: what it has made, so that the next run can end it or undo it.

from __future__ import annotations

import hashlib
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import (
    Capsule,
    bases_of,
    images_of,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import run_records
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now

BEGUN, STARTED = "begun", "started"


class StartRecord:
    """The record of one start; every change of it is on disk at once.

    Args:
        store: of this host.
        name: of the record.
        guest: name and UUID of the guest that is started.
        details: what L(new) has made, or what was read.
        needs: images and the capsule that must stay until it has ended.
        at: when it began.
    """

    def __init__(
        self,
        store: CapsuleStore,
        name: str,
        guest: t.Mapping[str, str],
        details: dict[str, t.Any],
        needs: t.Iterable[str],
        at: str,
    ) -> None:
        self._store = store
        self._name = name
        self.guest = dict(guest)
        self._details = details
        self._needs = list(needs)
        self.at = at

    def __getitem__(self, key: str) -> t.Any:
        return self._details[key]

    @property
    def layers(self) -> dict[str, str]:
        """The guest's own files, by the target of the disk."""
        return dict(self._details["layers"])

    def write(self, **changes: t.Any) -> None:
        """Change the record, and have it on disk."""
        self._details.update(changes)
        ended = self._details["stage"] == STARTED
        record = run_records.record_of("start", self.guest, self._needs, at=self.at, ended=ended, details=self._details)
        self._store.write_run(self._name, record)

    def remove(self) -> None:
        """It was undone."""
        self._store.remove_run(self._name)


def record_name(uuid: str, as_new: str | None) -> str:
    """The name of the record of a start.

    >>> record_name("0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10", None)
    'start-0b7fd2f5-8a35-5b62-9ce9-7e4d2b1c9a10'
    """
    if as_new is None:
        return f"start-{uuid}"
    return f"start-as-{hashlib.sha256(as_new.encode('utf-8')).hexdigest()[:24]}"


def new(
    store: CapsuleStore, capsule: Capsule, digest: str, guest: t.Mapping[str, str], as_new: str | None, **details: t.Any
) -> StartRecord:
    """A record that is not on disk yet."""
    needs = [*images_of(capsule).values(), *bases_of(capsule), digest]
    name = record_name(capsule["guest"]["uuid"], as_new)
    return StartRecord(store, name, guest, {"stage": BEGUN, "digest": digest, **details}, needs, utc_now())


def read(store: CapsuleStore, uuid: str, as_new: str | None) -> StartRecord | None:
    """The record of the last start of a guest here; None: there is none.

    Raises:
        CapsuleError: it is damaged.
    """
    name = record_name(uuid, as_new)
    found = store.run(name)
    if found is None:
        return None
    details = found["details"]
    try:
        texts = [details["stage"], details["digest"], details["replaced"], *details["layers"].values()]
        texts += [path for pair in details["moved"] for path in pair]
        texts += [*details["made"], details["number"]]
        if details["stage"] not in (BEGUN, STARTED) or not all(isinstance(one, (str, int)) for one in texts):
            raise ValueError("it has something else than texts")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CapsuleError(
            "run_record_damaged",
            f"the record of the last start of {found['guest']['name']} is damaged: {error!r}",
            f"see whether the guest runs (virsh list --all), then remove {store.directory}/runs/{name}.json",
        ) from error
    return StartRecord(store, name, found["guest"], dict(details), found["needs"], found["at"])
