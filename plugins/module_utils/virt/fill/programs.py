# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: puts a program of this folder on this host, where it outlives the module that brings it.

from __future__ import annotations

import hashlib
import inspect
import os
import types

from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store.store import CapsuleStore


def installed(store: CapsuleStore, program: types.ModuleType) -> str:
    """The path of a copy of a program. Each version has its own: a copy that is in use never changes.

    Raises: CapsuleError when it cannot be written.
    """
    text = inspect.getsource(program).encode()
    folder = os.path.join(store.directory, "programs")
    durable_files.make_directory(folder)
    name = program.__name__.rpartition(".")[2]
    path = os.path.join(folder, f"{name}-{hashlib.sha256(text).hexdigest()[:16]}.py")
    if durable_files.read_bytes(path, len(text)) != text:
        durable_files.write_bytes(path, [text])
    return path
