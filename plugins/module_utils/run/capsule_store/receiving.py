# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: an image that has not come as a whole.

from __future__ import annotations

import contextlib
import os
import typing as t
import uuid as uuids

from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule import receive_state
from ansible_collections.kvmops.cluster.plugins.module_utils.core.capsule.receive_state import ReceiveState
from ansible_collections.kvmops.cluster.plugins.module_utils.run.capsule_store import durable_files


class Receiving:
    """The directory in which an image is received.

    Args:
        name: of the image.
        folder: where it is received; there is none before L(prepare).

    Attributes:
        name, folder: see above.
    """

    def __init__(self, name: str, folder: str) -> None:
        self.name = name
        self.folder = folder

    def prepare(self) -> None:
        """Make the directory, where it is not there."""
        durable_files.make_directory(self.folder)

    def data_path(self, form: str) -> str:
        """The file in which the content is, C(raw) or C(qcow2)."""
        return os.path.join(self.folder, f"data.{form}")

    def state(self) -> ReceiveState | None:
        """How far the image has come; None: nothing of it counts.

        Raises:
            CapsuleError: what says so is damaged.
        """
        document = durable_files.read_json(self._state_path)
        if document is None:
            return None
        state = receive_state.from_document(document, self._state_path)
        if state.image != self.name:
            raise durable_files.damaged(self._state_path, f"it is of {state.image}")
        return state

    def write_state(self, document: t.Mapping[str, t.Any]) -> None:
        """Write how far the image has come. The data that it speaks of must be on disk before."""
        durable_files.write_json(self._state_path, dict(document))

    def forget_state(self) -> None:
        """From now on nothing of it counts; to be done before the data is made anew."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._state_path)
            durable_files.sync_directory(self.folder)

    def forget_data(self, form: str) -> None:
        """Remove what has come, and from now on nothing of it counts."""
        self.forget_state()
        durable_files.erase(self.data_path(form), secret=form == "raw")

    def idle_since(self) -> float:
        """When something of it was written last, in seconds since 1970."""
        try:
            found = [os.lstat(os.path.join(self.folder, name)).st_mtime for name in os.listdir(self.folder)]
            return max([*found, os.lstat(self.folder).st_mtime])
        except FileNotFoundError:
            return 0.0

    def set_aside(self) -> str:
        """Give the directory a name that nobody looks for; it is to be removed with L(durable_files.erase_folder)."""
        path = os.path.join(os.path.dirname(self.folder), f".{uuids.uuid4().hex}")
        try:
            os.rename(self.folder, path)
        except OSError as error:
            raise durable_files.cannot("be removed", self.folder, error) from error
        return path

    def remove(self) -> None:
        """Remove all of it: the state first, so that it never speaks of data that is gone."""
        self.forget_state()
        durable_files.erase_folder(self.folder)

    @property
    def _state_path(self) -> str:
        return os.path.join(self.folder, "state.json")
