# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two stores and what goes between them. The only image of a capsule is memory here, so nothing needs QEMU."""

from __future__ import annotations

import hashlib
import random
import sys
import time
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.block_manifest import manifest_of
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.canonical_json import canonical
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule_image import image_record
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore, file_facts
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket import ticket as tickets
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ssh_client import FarEnd
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_ticket.ticket import Ticket
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer import permit, send
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.outgoing import outgoing
from ansible_collections.kvmops.cluster.plugins.module_utils.virt.capsule_transfer.send_watch import SendWatch
from ansible_collections.kvmops.cluster.tests.unit.plugins.module_utils.core.capsule.capsules import (
    capsule as document_of,
)

MIB = 1024**2
SIZE = 4 * MIB + 5000
XML = b"<domain/>" * 100
UUID = document_of()["guest"]["uuid"]


def content(number, changed=()):
    """Memory that does not compress, with some blocks of another one."""
    blocks = bytearray(random.Random(0).randbytes(SIZE))
    for block in changed:
        blocks[block * 4096 : (block + 1) * 4096] = random.Random(number * 1000 + block).randbytes(4096)
    return bytes(blocks)


def keep(store, number, data, **changes):
    """Put a capsule into a store as a save does."""
    store.prepare()
    manifest = manifest_of([data])
    if store.image(manifest.name) is None:
        receiving = store.receiving(manifest.name)
        receiving.prepare()
        with Path(receiving.data_path("raw")).open("wb") as file:
            file.write(data)
        path = store.take_image(receiving.data_path("raw"), manifest.name, "raw")
        store.add_image(
            image_record.record_of(
                manifest.name,
                kind="memory",
                path=path,
                form="raw",
                size_bytes=len(data),
                facts=file_facts(path),
                sealed_at="2026-11-24T02:00:00Z",
                trust_domain="default",
            ),
            manifest,
        )
    definition = {"size_bytes": len(XML), "digest": "sha256:" + hashlib.sha256(XML).hexdigest()}
    memory = {"format": "raw", "size_bytes": len(data), "image": manifest.name}
    document = document_of(
        number=number, parent=None, disks=[], nvram=None, definition=definition, memory=memory, **changes
    )
    xml = Path(store.directory, "xml")
    xml.write_bytes(XML)
    return store.add_capsule(canonical(document), None, {"definition": str(xml)})


class Clock:
    """A clock that goes on in pauses only."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def pause(self, seconds):
        self.now += seconds


class Pair:
    """Two hosts, each with a store."""

    def __init__(self, folder):
        self.source = CapsuleStore(str(folder / "source"))
        self.far_end = CapsuleStore(str(folder / "far"))
        self.far_end.prepare()
        self.run_dir = str(folder / "run")
        self.lines = []

    def ticket(self, stored, **changes):
        """What the far end permits, and the command that its sshd would start."""
        permitted = Ticket(
            ticket="ticket-1",
            capsule=stored.digest,
            sender="h1",
            sender_id="id-h1",
            name="h2",
            capsule_dir=self.far_end.directory,
            keys=(),
            allow_older=False,
            host={"host": "h2"},
            expires_at=int(time.time()) + 3600,
        )
        folder = tickets.write(permitted._replace(**changes), self.run_dir)
        permit._copy_code(str(Path(folder, tickets.CODE)))
        return [sys.executable, "-I", str(Path(folder, tickets.CODE))]

    def send(self, stored, *, cut_after=(), command=None, **changes):
        """Send it; the first connections end after so many bytes."""
        receiver, cuts = command or self.ticket(stored, **changes), list(cut_after)
        whole = outgoing(self.source, stored)
        watch = SendWatch({}, whole.base_of, lambda line, **figures: self.lines.append(line))

        def connect():
            if cuts:
                return ["sh", "-c", f'stdbuf -o0 head -c {cuts.pop(0)} | "$@"', "sh", *receiver]
            return receiver

        how = send.Sending(connect, None, None, retry_s=60, stopping=lambda: False)
        end = FarEnd("h2", "h2", 22, "root", (), "ticket-1")
        clock = Clock()
        sent = send.send(end, whole, how, watch, clock=clock, pause=clock.pause)
        return sent, watch

    def arrived(self, stored):
        """The memory that the far end has of a capsule; None: it has not got it."""
        there = self.far_end.capsule(UUID, stored.document["number"])
        if there is None or there.digest != stored.digest:
            return None
        record = self.far_end.image(there.document["memory"]["image"])
        return Path(record["path"]).read_bytes()
