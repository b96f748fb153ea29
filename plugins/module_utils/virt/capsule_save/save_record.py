# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the record of a save: how far it is, and what the next run must know to end it.

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core import xml_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import run_records
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.run.journal import utc_now

#: In order. C(begun): layers are made and the definition is written. C(saving): libvirt was told to save the guest, or
#: to add the layers. C(saved): memory and firmware state are whole on disk. C(frozen): nothing is missing but digests.
#: C(stopped): the capsule is there, and the guest was told to stay off.
BEGUN, SAVING, SAVED, FROZEN, STOPPED = STAGES = ("begun", "saving", "saved", "frozen", "stopped")


class SavedDisk(t.NamedTuple):
    """One disk of a save.

    Attributes:
        target: in the guest.
        path, form: the file that is frozen.
        overlay: the file that the guest writes to from then on.
        size_bytes: of what the guest sees.
    """

    target: str
    path: str
    form: str
    overlay: str
    size_bytes: int


class SaveRecord:
    """The record of the save of one guest; every change of it is on disk at once.

    Args:
        store: of this host.
        guest: name and UUID.
        details: as L(new) makes them, or as they were read.
        at: when the save began.
    """

    def __init__(self, store: CapsuleStore, guest: t.Mapping[str, str], details: dict[str, t.Any], at: str) -> None:
        self._store = store
        self.guest = dict(guest)
        self._details = details
        self.at = at

    @property
    def stage(self) -> str:
        """How far it is; one of C(STAGES)."""
        return str(self._details["stage"])

    @property
    def number(self) -> int:
        """Of the capsule."""
        return int(self._details["number"])

    @property
    def disks(self) -> list[SavedDisk]:
        """What is frozen."""
        return [SavedDisk(**disk) for disk in self._details["disks"]]

    @property
    def folder(self) -> str:
        """Where memory and the small parts are until the capsule has them."""
        return self._store.work_folder(_name(self.guest["uuid"]))

    @property
    def memory_file(self) -> str:
        """Where libvirt writes the memory to."""
        return f"{self.folder}/memory"

    def __getitem__(self, key: str) -> t.Any:
        return self._details[key]

    @property
    def still_since(self) -> str | None:
        """When the guest stopped for its memory; None: it did not, or the record is of an older version."""
        return self._details.get("still_since")

    @property
    def asked(self) -> list[str]:
        """The hosts that were asked to start the guest, and have not said that it is off there."""
        return [str(host) for host in self._details.get("asked") or ()]

    def write(self, **changes: t.Any) -> None:
        """Change the record, and have it on disk."""
        self._details.update(changes)
        ended = self.stage == STOPPED
        record = run_records.record_of("save", self.guest, (), at=self.at, ended=ended, details=self._details)
        self._store.write_run(_name(self.guest["uuid"]), record)

    def remove(self) -> None:
        """The save has ended, or was given up."""
        self._store.remove_run(_name(self.guest["uuid"]))
        self._store.remove_work_folder(_name(self.guest["uuid"]))

    def forget_files(self) -> None:
        """Remove the files that were not at their place yet."""
        self._store.remove_work_folder(_name(self.guest["uuid"]))


def _name(uuid: str) -> str:
    return f"save-{uuid}"


def new(store: CapsuleStore, guest: t.Mapping[str, str], **details: t.Any) -> SaveRecord:
    """A record that is not on disk yet."""
    return SaveRecord(
        store, guest, {"stage": BEGUN, "down_s": None, "saved_s": None, "still_since": None, **details}, utc_now()
    )


def read(store: CapsuleStore, uuid: str) -> SaveRecord | None:
    """The record of a guest's save that has not ended, or that stopped the guest; None: there is none.

    Raises:
        CapsuleError: it is damaged.
    """
    found = store.run(_name(uuid))
    if found is None:
        return None
    record = SaveRecord(store, found["guest"], dict(found["details"]), found["at"])
    try:
        if record.stage not in STAGES or not record.number or found["guest"]["uuid"] != uuid:
            raise ValueError("its stage or number is not possible")
        for key in ("consistency", "memory_format", "then", "persistent", "trust_domain", "made_on"):
            if not isinstance(record[key], str):
                raise ValueError(f"{key} is missing")
        xml_text.parsed(record["persistent"])
        if not record.disks:
            raise ValueError("it has no disks")
    except (KeyError, TypeError, ValueError) as error:
        raise CapsuleError(
            "run_record_damaged",
            f"the record of the last save of {found['guest']['name']} is damaged: {error}",
            f"see whether the guest runs (virsh list --all), then remove {store.directory}/runs/{_name(uuid)}.json",
        ) from error
    return record
