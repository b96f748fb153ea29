# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the host's record of a rolling upgrade, kept in a file on the host.

from __future__ import annotations

from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.result.upgrade_record import (
    NONE,
    PHASES,
    SCHEMA,
    SHAPE,
    Record,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.core.shape import ShapeError
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_file,
    remedy_of,
    write_durably,
)

FILE = "upgrade.json"


class UpgradeRecordError(Exception):
    """A record that cannot be read or written; ``refusal`` says why and what to do."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(f"{why['reason']}; {why['remedy']}")
        self.refusal = why


def load(state_dir: Path) -> Record:
    """The host's record; that of no run when there has never been one.

    Raises:
        UpgradeRecordError: there is one, but it cannot be read. It may name guests that wait to be started.
    """
    path = state_dir / FILE
    try:
        record = json_text.parsed(read_file(str(path)))
    except FileNotFoundError:
        return dict(NONE)
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or record.get("phase") not in PHASES:
        raise _damaged(path, f"it is not a {SCHEMA}")
    whole = {key: record.get(key, default) for key, default in NONE.items()}
    try:
        SHAPE(whole, "")
    except ShapeError as error:
        raise _damaged(path, str(error)) from error
    return whole


def _damaged(path: Path, why: str) -> UpgradeRecordError:
    return UpgradeRecordError(
        refusal(
            "upgrade_record_damaged",
            f"the record {path} of a rolling upgrade cannot be read: {why}",
            "find guests of this host that are shut off and should run, start them, and remove the file",
        )
    )


def store(record: Record, state_dir: Path) -> None:
    """Write the record so that it is either the old one or the new one, whatever happens meanwhile.

    Raises:
        UpgradeRecordError: it could not be written.
    """
    path = state_dir / FILE
    try:
        make_directory(str(state_dir), 0o755)
        write_durably(str(path), record, indent=2)
    except OSError as error:
        raise UpgradeRecordError(
            refusal(
                "upgrade_record_not_written",
                f"the record {path} of a rolling upgrade cannot be written: {error}",
                remedy_of(error),
            )
        ) from error
