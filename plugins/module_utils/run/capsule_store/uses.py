# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: what is in use although no document says so: a send that lasts for hours must not keep a
# prune away, and a prune must not take what is sent.

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t
import uuid

from ansible_collections.kvmops.cluster.plugins.module_utils.core import shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.capsule_error import CapsuleError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files, locks

SCHEMA = "kvmops.capsule_use/1"


_NOTE = shape.mapping(
    {"schema": shape.one_of(SCHEMA), "names": shape.list_of(shape.text()), "why": shape.text()}, others=True
)


@contextlib.contextmanager
def using(directory: str, names: t.Iterable[str], why: str) -> t.Iterator[None]:
    """Keep images and capsules from being removed for as long as this lasts. It ends with its process.

    Args:
        directory: for such notes.
        names: of images, and digests of capsules.
        why: as a sentence without a full stop, such as C(it is sent to h3).
    """
    path = os.path.join(directory, f"{os.getpid()}-{uuid.uuid4().hex}.json")
    # The file is locked before it has its name: a prune in between would take it for one whose process has died.
    temporary = f"{directory}/.{os.path.basename(path)}"
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise durable_files.cannot("be written", temporary, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        document = {"schema": SCHEMA, "names": sorted(set(names)), "why": why, "since": time.time()}
        durable_files.fill(descriptor, document, temporary)
        os.rename(temporary, path)
        yield
    finally:
        for name in (temporary, path):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        os.close(descriptor)


def in_use(directory: str) -> dict[str, str]:
    """Why each image or capsule is in use, by name. What a dead process has left does not count.

    Raises:
        CapsuleError: a living process uses something, and its note cannot be read.
    """
    found: dict[str, str] = {}
    for name in durable_files.names_in(directory):
        path = os.path.join(directory, name)
        if not locks.is_held(path):
            continue
        document = durable_files.read_json(path)
        if document is None:
            continue
        if not shape.fits(_NOTE, document):
            raise CapsuleError(
                "store_damaged",
                f"{path} does not say what {locks.holders_of(path)} uses",
                "wait until that process has ended, then run the task again",
            )
        for one in document["names"]:
            found.setdefault(str(one), str(document["why"]))
    return found


def sweep(directory: str) -> None:
    """Remove the notes that dead processes have left."""
    for name in durable_files.names_in(directory):
        path = os.path.join(directory, name)
        if not locks.is_held(path):
            with contextlib.suppress(OSError):
                os.unlink(path)
