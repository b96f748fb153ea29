# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: a capsule that is offered to this host: may it come, and what of it is missing here?

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import acceptance, capsule_document
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.acceptance import Known
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_document import Capsule
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image.image_record import DISK, MEMORY
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import capsules
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.capsules import sha256_of
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule.signature import verified
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket

#: So many images are offered to the sender. Each name costs 75 bytes of the link.
MOST_OFFERED = 24
#: Of a ticket: the images of the disks follow while the guest runs.
LATER = "later"


class Wanted(t.NamedTuple):
    """An image that is to come.

    Attributes:
        name: of the image.
        kind: C(disk) or C(memory).
        size_bytes: of the image.
    """

    name: str
    kind: str
    size_bytes: int


class Arrival:
    """A capsule that is offered.

    Args:
        store: where it would go.
        ticket: what is permitted.
        document, signature: as they were sent.

    Attributes:
        capsule: the document.
        digest: of the document.
        what: it, for messages.

    Raises:
        CapsuleError: it may not come.
    """

    def __init__(self, store: CapsuleStore, ticket: Ticket, document: bytes, signature: bytes) -> None:
        self._store = store
        self._ticket = ticket
        self._document = document
        self._signature = signature
        self.capsule: Capsule = capsule_document.parsed(document, f"what {ticket.sender} sent")
        self.what = f"capsule {self.capsule['number']} of {self.capsule['guest']['name']}"
        self.digest = sha256_of([document])
        wanted = ticket.capsule or f"the next one of guest {ticket.guest}"
        if self.digest != ticket.capsule and (ticket.capsule or self.capsule["guest"]["uuid"] != ticket.guest):
            raise CapsuleError(
                "capsule_other",
                f"{ticket.sender} sends capsule {self.digest} of {self.capsule['guest']['name']}, and may send"
                f" {wanted} only",
                "run capsule_send again",
            )
        self._check()

    def _check(self) -> None:
        ticket, capsule = self._ticket, self.capsule
        known = self._store.known(capsule["guest"]["uuid"])
        signature = verified(self._document, self._signature, ticket.keys)
        name = capsule["guest"]["name"]
        raise_first(
            [
                self._store.memory_refusal(name, ticket.name) if capsule["memory"] else None,
                acceptance.signature_refusal(capsule, signature, known, bool(ticket.keys)),
                acceptance.replay_refusal(capsule, self.digest, known, ticket.allow_older),
                *acceptance.host_refusals(capsule, ticket.host),
            ]
        )

    def wanted(self) -> list[Wanted]:
        """The images that are to come: disks first, as memory has much of what they have, if disks come at all.

        Raises:
            CapsuleError: one that is here, or that it stands on, is not as it was.
        """
        disks = self.capsule["disks"] if self._ticket.disks != LATER else []
        images = [Wanted(disk["image"], DISK, disk["size_bytes"]) for disk in disks]
        memory = self.capsule["memory"]
        if memory is not None:
            images.append(Wanted(memory["image"], MEMORY, memory["size_bytes"]))
        for name in {*(image.name for image in images), *capsule_document.bases_of(self.capsule)}:
            self._refuse_changed(name)
        return list({image.name: image for image in images if not self._is_here(image.name)}.values())

    def _is_here(self, name: str) -> bool:
        """Whether an image is here as a whole. One whose file or manifest is lost comes again."""
        record = self._store.image(name)
        return record is not None and os.path.exists(record["path"]) and self._store.has_manifest(name)

    def _refuse_changed(self, name: str) -> None:
        record = self._store.image(name)
        why = self._store.changed(record) if record is not None and os.path.exists(record["path"]) else None
        if why is not None:
            raise CapsuleError(
                "base_changed",
                f"{name} on {self._ticket.name} is not known to be right any more: {why}; what stands on it would be"
                " silently corrupt",
                f"run capsule_verify on {self._ticket.name}: it takes the file again if its content is right, and says"
                " how to replace it if not; then send again",
            )

    def there(self) -> bool:
        """Whether the capsule is here, with all that it consists of. What is damaged of it comes again."""
        try:
            stored = self._store.capsule(self.capsule["guest"]["uuid"], self.capsule["number"])
        except CapsuleError:
            return False
        if stored is None or stored.digest != self.digest or capsules.damaged_parts(stored):
            return False
        return self._signature in (b"", stored.signature) and not self.wanted()

    def candidates(self, kind: str) -> list[str]:
        """Names of the images to start or copy from, the likely ones first: of this guest, then of its trust domain."""
        return candidates(self._store, self.capsule, kind)

    def seal(self, parts: t.Mapping[str, str]) -> None:
        """All images are here: take the capsule in.

        Raises:
            CapsuleError: a newer one has come meanwhile.
        """
        uuid = self.capsule["guest"]["uuid"]
        known = self._store.known(uuid)
        raise_first([acceptance.replay_refusal(self.capsule, self.digest, known, self._ticket.allow_older)])
        self._store.add_capsule(self._document, self._signature or None, parts)
        signed = known.signed or bool(self._signature)
        self._store.remember(uuid, Known(self.capsule["number"], self.digest, signed))


def candidates(store: CapsuleStore, capsule: Capsule, kind: str) -> list[str]:
    """Names of the images here that an image of a capsule can start or copy from; see L(Arrival.candidates)."""
    uuid, domain = capsule["guest"]["uuid"], capsule["trust_domain"]
    likely: list[str] = []
    for stored in reversed(store.capsules(uuid)):
        if kind == MEMORY and stored.document["memory"] is not None:
            likely.append(stored.document["memory"]["image"])
        likely += [disk["image"] for disk in stored.document["disks"]]
    if kind == MEMORY:
        likely += [disk["image"] for disk in capsule["disks"]]
    likely += sorted(capsule_document.bases_of(capsule))
    records = store.images()
    newest = sorted(records.values(), key=lambda record: str(record["sealed_at"]), reverse=True)
    likely += [record["image"] for record in newest if record["kind"] == DISK]
    found: list[str] = []
    for name in dict.fromkeys(likely):
        record = records.get(name)
        if record is None or record["trust_domain"] != domain or store.changed(record) is not None:
            continue
        if record["kind"] == kind or kind == MEMORY:
            found.append(name)
    return found[:MOST_OFFERED]


def raise_first(refusals: t.Sequence[Refusal | None]) -> None:
    """Refuse for the first reason that there is."""
    for one in refusals:
        if one is not None:
            raise CapsuleError(one["code"], one["reason"], one["remedy"])
