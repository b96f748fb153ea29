# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The databases of Debian guests while these move: what their clients see, and whether all is there afterwards."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from lab import Guest, Lab, LabError, database, debian


def guests(lab: Lab) -> dict[str, Guest]:
    """Return the guests that have a database."""
    return {name: guest for name, guest in lab.guests.items() if guest.plan.system == "debian"}


@contextlib.contextmanager
def clients(lab: Lab) -> Iterator[dict[str, database.Client]]:
    """Let one client of each database write rows, as fast as they are committed."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(database.Client(guest.address)) for name, guest in guests(lab).items()}


def records(writers: dict[str, database.Client]) -> dict[str, dict[str, Any]]:
    """Return for each guest what its client has seen, and which rows the database has lost since."""
    return {
        name: {
            "commits": len(client.commits),
            "longest_wait_ms": round(client.longest_wait_ms),
            "errors": list(client.errors),
            "lost_rows": database.lost_rows(client.address, client),
        }
        for name, client in writers.items()
    }


def damages(lab: Lab, host: str) -> dict[str, str | None]:
    """Check tables, indexes and the checksum of each page; return the database's words where one is damaged.

    Other guests of the host are stopped before, as nobody needs them any more and the check needs the processors.
    """
    found: dict[str, str | None] = {}
    if guests(lab):
        others = [guest.name for guest in lab.guests.values() if guest.home == host and guest.plan.system != "debian"]
        lab.host(host).ssh("".join(f"virsh -q destroy {name}\n" for name in others))
    for name, guest in guests(lab).items():
        try:
            debian.check_database(lab.settings, guest.address)
            found[name] = None
        except LabError as error:
            found[name] = error.what
    return found


def faults(section: dict[str, Any]) -> list[str]:
    """Return what was promised of databases and did not hold."""
    found = []
    for name, record in section["databases"].items():
        if record["lost_rows"]:
            found.append(f"{name}: {len(record['lost_rows'])} committed rows are lost after {section['playbook']}")
        if record["errors"]:
            found.append(f"{name}: a client of the database met with an error: {record['errors'][0]}")
    return found
