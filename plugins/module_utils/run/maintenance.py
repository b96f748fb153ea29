# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: the host's maintenance record, kept in a file on the host.

from __future__ import annotations

import contextlib
import os
import typing as t
from pathlib import Path

from ansible_collections.kvmops.cluster.plugins.module_utils.core import json_text, shape
from ansible_collections.kvmops.cluster.plugins.module_utils.core.refusal import Refusal, refusal
from ansible_collections.kvmops.cluster.plugins.module_utils.core.units import listed
from ansible_collections.kvmops.cluster.plugins.module_utils.run import file_lock
from ansible_collections.kvmops.cluster.plugins.module_utils.run.json_files import (
    make_directory,
    read_file,
    remedy_of,
    write_durably,
)
from ansible_collections.kvmops.cluster.plugins.module_utils.run.state_dir import STATE_DIR

SCHEMA = "kvmops.maintenance/1"
STATES = ("active", "cordoned", "maintenance")
ACTIVE: dict[str, t.Any] = {"schema": SCHEMA, "state": "active", "owner": None, "reason": None, "since": None}

#: The key of the guests that are shut off and start with the host when it is open again
#: (virt/host_state/autostart_marks.py). A record without such guests lacks it.
AUTOSTART = "autostart"

#: The libvirt secret whose description is the record. Other hosts read it.
PUBLISHED_AS = "6b766d6f-7073-4d61-a169-6e74656e616e"

FILE = "maintenance.json"
LOCK = "maintenance.lock"
#: Under the lock, libvirtd is asked about all guests of the host.
LOCK_TIMEOUT_S = 60.0
#: Ansible reads local facts from here: the record is then ansible_local.kvmops.
FACT = Path("/etc/ansible/facts.d/kvmops.fact")


class RecordError(Exception):
    """A record that cannot be read or written; ``refusal`` says why and what to do."""

    def __init__(self, why: Refusal) -> None:
        super().__init__(f"{why['reason']}; {why['remedy']}")
        self.refusal = why


def parsed(text: str | bytes, where: str) -> dict[str, t.Any]:
    """The record in a text; a text that is no record is an error, never C(active).

    Raises:
        RecordError: it is damaged or of another version.
    """
    try:
        record = json_text.parsed(text)
    except json_text.JsonTextError as error:
        raise _damaged(where, f"it is not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        schema = record.get("schema") if isinstance(record, dict) else None
        raise _damaged(where, f"its schema is {_short(schema)}, not {SCHEMA}")
    if record.get("state") not in STATES:
        raise _damaged(where, f"its state is {_short(record.get('state'))}, not one of {', '.join(STATES)}")
    kept = {key: record.get(key) for key in ACTIVE}
    for key in ("owner", "reason", "since"):
        if not isinstance(kept[key], (str, type(None))):
            raise _damaged(where, f"its {key} must be a text, not {shape.kind_of(kept[key])}")
    marks = record.get(AUTOSTART) or []
    if not _are_guests(marks):
        raise _damaged(where, f"its {AUTOSTART} is not a list of guests")
    return {**kept, AUTOSTART: marks} if marks else kept


def _short(value: t.Any) -> str:
    if isinstance(value, str):
        return repr(value[:40])
    return "missing" if value is None else shape.kind_of(value)


def _are_guests(marks: t.Any) -> bool:
    return isinstance(marks, list) and all(
        isinstance(guest, dict) and all(isinstance(guest.get(key), str) for key in ("name", "uuid")) for guest in marks
    )


def _damaged(where: str, why: str) -> RecordError:
    return RecordError(
        refusal(
            "maintenance_record_damaged",
            f"the maintenance record {where} cannot be read: {why}; the host counts as cordoned until it can",
            f"look at {where}; if nobody needs the host empty, remove it and set the state again with host_maintenance",
        )
    )


class MaintenanceRequest(t.NamedTuple):
    """What is asked of a host.

    Attributes:
        host: its name.
        state: that it should have.
        owner: who asks.
        reason: None keeps the present one.
        force: take the host over from another owner.
    """

    host: str
    state: str
    owner: str | None
    reason: str | None
    force: bool


def next_record(
    current: dict[str, t.Any], request: MaintenanceRequest, running: t.Sequence[str], now: str
) -> dict[str, t.Any]:
    """The record that a host should have.

    Args:
        current: the record that counts now.
        running: names of the guests that are active on the host.
        now: the time, for a new state.

    Raises:
        RecordError: someone else has the host, or guests still run there.
    """
    _check_owner(current, request)
    if request.state == "active":
        return dict(ACTIVE)
    if request.state == "maintenance" and running:
        raise RecordError(
            refusal(
                "guests_running",
                f"{request.host} cannot go into maintenance: {listed(list(running), 5)} still "
                f"{'runs' if len(running) == 1 else 'run'} there",
                "drain the host first (kvmops.cluster.drain_host), or shut them down",
            )
        )
    mine = current["owner"] == request.owner
    still_empty = mine and current["state"] == "maintenance" and not running
    following = {
        "schema": SCHEMA,
        "state": "maintenance" if still_empty else request.state,
        "owner": request.owner,
        "reason": current["reason"] if request.reason is None and mine else request.reason,
        "since": current["since"] if mine and current["since"] else now,
    }
    # They are the host's, whoever has it.
    return {**following, AUTOSTART: current[AUTOSTART]} if current.get(AUTOSTART) else following


def _check_owner(current: dict[str, t.Any], request: MaintenanceRequest) -> None:
    if current["state"] == "active" or request.force or current["owner"] == request.owner:
        return
    what = "in maintenance" if current["state"] == "maintenance" else "cordoned"
    why = f" ({current['reason']})" if current["reason"] else ""
    owner = current["owner"] or "someone who left no name"
    raise RecordError(
        refusal(
            "maintenance_of_other",
            f"{request.host} is {what} by {owner} since {current['since'] or 'an unknown time'}{why}",
            f"ask {owner}, or take it over with force=true",
        )
    )


def load(state_dir: Path = STATE_DIR) -> dict[str, t.Any]:
    """The host's record; C(active) when there has never been one.

    Raises:
        RecordError: there is one, but it cannot be read.
    """
    path = state_dir / FILE
    try:
        text = read_file(str(path))
    except FileNotFoundError:
        return dict(ACTIVE)
    except OSError as error:
        raise _damaged(str(path), error.strerror or str(error)) from error
    return parsed(text, str(path))


@contextlib.contextmanager
def locked(state_dir: Path, host: str) -> t.Iterator[None]:
    """Let nobody else change the record while the block reads it, decides and writes it.

    Raises:
        RecordError: somebody else does not end, or the lock cannot be made.
    """
    path = str(state_dir / LOCK)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(file_lock.locked(path, LOCK_TIMEOUT_S))
        except OSError as error:
            raise _not_written(state_dir / FILE, error) from error
        except file_lock.StillLockedError as error:
            raise RecordError(
                refusal(
                    "maintenance_locked",
                    f"another process has been changing the maintenance of {host} for more than {LOCK_TIMEOUT_S:g} s",
                    f"see which one it is, on {host}: fuser -v {path}",
                )
            ) from error
        yield


def store(record: dict[str, t.Any], state_dir: Path = STATE_DIR) -> None:
    """Write the record so that it is either the old one or the new one, whatever happens meanwhile.

    Raises:
        RecordError: it could not be written.
    """
    path = state_dir / FILE
    try:
        make_directory(str(state_dir), 0o755)
        write_durably(str(path), record, indent=2, mode=0o644)
    except OSError as error:
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> RecordError:
    return RecordError(
        refusal(
            "maintenance_record_not_written",
            f"the maintenance record {path} cannot be written: {error}",
            remedy_of(error),
        )
    )


def show_as_fact(state_dir: Path = STATE_DIR) -> bool:
    """Let Ansible's fact gathering find the record. Returns: whether something had to be changed.

    Raises:
        RecordError: the link could not be made.
    """
    fact = FACT
    if fact_is_shown(state_dir):
        return False
    try:
        fact.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            fact.unlink()
        fact.symlink_to(state_dir / FILE)
    except OSError as error:
        raise RecordError(
            refusal(
                "fact_not_written",
                f"the local fact {fact} cannot be written: {error}",
                remedy_of(error),
            )
        ) from error
    return True


def fact_is_shown(state_dir: Path = STATE_DIR) -> bool:
    """Whether the local fact is there."""
    try:
        return Path(os.readlink(FACT)) == state_dir / FILE
    except OSError:
        return False
