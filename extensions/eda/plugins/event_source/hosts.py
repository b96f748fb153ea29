# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Events of KVM/libvirt hosts for Event-Driven Ansible, which runs this file by its path: nothing else is imported."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import tempfile
import typing as t
from pathlib import Path

DOCUMENTATION = r"""
---
short_description: Events of KVM/libvirt hosts
description:
  - Looks at all hosts of an inventory again and again, with the module M(kvmops.cluster.host_info). It changes nothing.
  - Each event has C(event.kvmops.kind) and C(event.kvmops.host). The kinds are C(host_pressure) (with C(memory_share)
    and C(waiting)), C(guest_not_movable) (with C(guest), C(uuid) and C(reasons)), C(maintenance_asked) (with C(owner),
    C(reason) and C(guests)) and C(host_silent) (with C(reason)).
  - C(host_pressure) comes at each look, as long as it lasts. All others come once, when it becomes so. What is so at
    the first look is no event, except for C(maintenance_asked).
options:
  inventory:
    description: The inventory, as for C(ansible -i).
    type: str
    required: true
  hosts:
    description: A pattern of hosts of the inventory.
    type: str
    default: all
  interval_s:
    description: Seconds from the end of one look to the begin of the next.
    type: float
    default: 60
  timeout_s:
    description: Seconds that one look may take. After that it is ended, and made again.
    type: float
    default: 120
  most_memory:
    description: A host is under pressure above this share of its memory.
    type: float
    default: 0.9
  most_waiting:
    description:
      - A host is under pressure if something waited for CPU or memory for more than this share of the last minute.
    type: float
    default: 0.25
  ansible:
    description: The program that looks at the hosts.
    type: str
    default: ansible
"""

EXAMPLES = r"""
- name: Rebalance under pressure
  hosts: all
  sources:
    - kvmops.cluster.hosts:
        inventory: inventory.yml
  rules:
    - name: A host is under pressure
      condition: event.kvmops.kind == "host_pressure"
      throttle:
        once_within: 60 minutes
        group_by_attributes: [event.kvmops.kind]
      action:
        run_playbook:
          name: kvmops.cluster.rebalance
"""

LOG = logging.getLogger(__name__)
Event = dict[str, t.Any]
Results = dict[str, dict[str, t.Any]]
DEFAULTS = {"hosts": "all", "interval_s": 60.0, "timeout_s": 120.0, "most_memory": 0.9, "most_waiting": 0.25}


async def main(queue: asyncio.Queue[Event], args: dict[str, t.Any]) -> None:
    """Look at the hosts for ever, and put what happens there into the queue."""
    options = {**DEFAULTS, "ansible": "ansible", **args}
    if "inventory" not in options:
        raise ValueError("kvmops.cluster.hosts: set inventory to the inventory of the hosts, as for ansible -i")
    before: Results | None = None
    while True:
        now = await look(options)
        if now is not None:
            for event in events(before, now, float(options["most_memory"]), float(options["most_waiting"])):
                await queue.put({"kvmops": event})
            before = {**(before or {}), **now}
        await asyncio.sleep(float(options["interval_s"]))


async def look(options: t.Mapping[str, t.Any]) -> Results | None:
    """What each host says of itself now, by its name; None if it could not be asked in time."""
    with tempfile.TemporaryDirectory(prefix="kvmops-") as folder:
        words = ["-i", str(options["inventory"]), "-m", "kvmops.cluster.host_info"]
        words += ["-a", json.dumps({"name": "{{ inventory_hostname }}"}), "--", str(options["hosts"])]
        process = await asyncio.create_subprocess_exec(
            str(options["ansible"]),
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            env={
                **os.environ,
                "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
                "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.tree",
                "ANSIBLE_CALLBACK_TREE_DIR": folder,
            },
        )
        try:
            await asyncio.wait_for(process.wait(), float(options["timeout_s"]))
        except asyncio.TimeoutError:  # noqa: UP041 (another one before Python 3.11)
            LOG.warning("the hosts were not looked at within %s s", options["timeout_s"])
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return {path.name: _read(path) for path in sorted(Path(folder).iterdir())}


def _read(path: Path) -> dict[str, t.Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def events(before: Results | None, now: Results, most_memory: float, most_waiting: float) -> t.Iterator[Event]:
    """What has happened between two looks.

    Args:
        before: what each host said when it was looked at last; None at the first look.
        now: what each host says.
        most_memory, most_waiting: see the options.
    """
    for host, result in sorted(now.items()):
        last = (before or {}).get(host)
        snapshot = result.get("snapshot")
        if not isinstance(snapshot, dict):
            if before is not None and (last is None or "snapshot" in last):
                yield {"kind": "host_silent", "host": host, "reason": str(result.get("msg") or "it gave no snapshot")}
            continue
        was = (last or {}).get("snapshot")
        yield from _pressure(host, snapshot, most_memory, most_waiting)
        yield from _not_movable(host, was, snapshot)
        yield from _maintenance(host, was, snapshot)


def _pressure(host: str, snapshot: t.Mapping[str, t.Any], most_memory: float, most_waiting: float) -> t.Iterator[Event]:
    capacity = snapshot.get("capacity") or {}
    whole, free = capacity.get("memory_bytes"), capacity.get("available_bytes")
    share = round(1 - free / whole, 3) if whole and free is not None else 0.0
    shares = snapshot.get("pressure") or {}
    waiting = max((shares.get(what) or 0.0 for what in ("cpu", "memory")), default=0.0)
    if share > most_memory or waiting > most_waiting:
        yield {"kind": "host_pressure", "host": host, "memory_share": share, "waiting": waiting}


def _not_movable(host: str, was: t.Mapping[str, t.Any] | None, snapshot: t.Mapping[str, t.Any]) -> t.Iterator[Event]:
    if was is None:
        return
    known = {one["uuid"]: bool(one.get("blockers")) for one in was.get("domains") or []}
    for guest in snapshot.get("domains") or []:
        blockers = guest.get("blockers") or []
        if blockers and known.get(guest["uuid"]) is False:
            reasons = [str(one.get("reason")) for one in blockers]
            yield {
                "kind": "guest_not_movable",
                "host": host,
                "guest": guest["name"],
                "uuid": guest["uuid"],
                "reasons": reasons,
            }


def _maintenance(host: str, was: t.Mapping[str, t.Any] | None, snapshot: t.Mapping[str, t.Any]) -> t.Iterator[Event]:
    """A host that somebody has cordoned, and that still runs guests."""
    record, old = snapshot.get("maintenance") or {}, (was or {}).get("maintenance") or {}
    guests = [one["name"] for one in snapshot.get("domains") or [] if one.get("state") != "shutoff"]
    if record.get("state") == "cordoned" and guests and old.get("state") != "cordoned":
        yield {
            "kind": "maintenance_asked",
            "host": host,
            "owner": record.get("owner"),
            "reason": record.get("reason"),
            "guests": guests,
        }


if __name__ == "__main__":

    class Printing:
        """A queue for a try on the command line: hosts.py INVENTORY."""

        async def put(self, event: Event) -> None:
            sys.stdout.write(json.dumps(event) + "\n")

    asyncio.run(main(t.cast("asyncio.Queue[Event]", Printing()), {"inventory": sys.argv[1], "interval_s": 5}))
