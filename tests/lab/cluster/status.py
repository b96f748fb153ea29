# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs where, as data and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.common.errors import LabError
from lab.common.parallel import in_parallel
from lab.guest import agent_protocol
from lab.guest.guest import Guest, running_on
from lab.host.host import Host
from lab.image.base_image import path_of, versions

from .lab import Lab

ANSWER_S = 8.0


def gather(lab: Lab) -> dict[str, Any]:
    """Ask every libvirtd and every agent, all at once."""
    shown = dict(zip(lab.hosts, in_parallel(_shown_on, lab.hosts.values()), strict=True))
    replies = in_parallel(lambda guest: agent_protocol.ask(guest.address), lab.guests.values())
    return {
        "hosts": {name: _host(host, shown[name]) for name, host in lab.hosts.items()},
        "guests": {
            guest.name: _guest(guest, reply, [name for name in lab.hosts if guest.name in (shown[name] or ())])
            for guest, reply in zip(lab.guests.values(), replies, strict=True)
        },
    }


def _shown_on(host: Host) -> set[str] | None:
    try:
        return running_on(host, timeout=ANSWER_S)
    except LabError:
        return None


def _host(host: Host, shown: set[str] | None) -> dict[str, Any]:
    return {
        "state": "off" if not host.is_running() else "unreachable" if shown is None else "running",
        "release": host.plan.release,
        **versions(path_of(host.settings, host.plan.release)),
        "address": host.address,
        "migration_address": host.migration_address,
        "link_mbit": host.plan.link_mbit,
        "site": host.plan.site,
        "guests": sorted(shown or ()),
    }


def _guest(guest: Guest, reply: agent_protocol.Reply | None, where: list[str]) -> dict[str, Any]:
    return {
        "home": guest.home,
        "where": where,
        "address": guest.address,
        "alive": reply is not None,
        "pages_written": reply.pages_written if reply else None,
        "bad_pages": reply.pages_bad if reply else None,
    }


def tables(state: dict[str, Any]) -> str:
    """Return what was gathered for people to read."""
    hosts = [["HOST", "STATE", "RELEASE", "LIBVIRT", "QEMU", "ADDRESS", "MIGRATION", "LINK"]]
    hosts += [_host_row(name, host) for name, host in state["hosts"].items()]
    guests = [["GUEST", "HOME", "RUNS ON", "ADDRESS", "ALIVE", "PAGES WRITTEN", "BAD"]]
    guests += [_guest_row(name, guest) for name, guest in state["guests"].items()]
    return f"{table(hosts)}\n\n{table(guests)}"


def _host_row(name: str, host: dict[str, Any]) -> list[str]:
    link = f"{host['link_mbit']} Mbit/s" if host["link_mbit"] else "no limit"
    versions_shown = [host.get("libvirt", "?"), host.get("qemu", "?")]
    return [name, host["state"], host["release"], *versions_shown, host["address"], host["migration_address"], link]


def _guest_row(name: str, guest: dict[str, Any]) -> list[str]:
    where = ",".join(guest["where"]) or "nowhere"
    counts = [str(guest["pages_written"] or 0), str(guest["bad_pages"] or 0)]
    return [name, guest["home"], where, guest["address"], "yes" if guest["alive"] else "NO", *counts]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as a table with aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
