# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the demonstration says: what there is to see, and why it matters."""

from __future__ import annotations

import shlex
import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness import actual_state
from lab import Lab
from lab.layout.scenario import GuestPlan

MIB = 1024 * 1024


def _width() -> int:
    return min(100, shutil.get_terminal_size((100, 24)).columns)


def _coloured(text: str, code: str) -> str:
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def _heading(text: str) -> None:
    print(f"\n{_coloured(f'── {text} '.ljust(_width(), '─'), '1;36')}")


def _tell(text: str) -> None:
    print(textwrap.fill(" ".join(text.split()), _width()))


def _held(holds: bool, text: str) -> None:
    print(f"  {_coloured('yes', '32') if holds else _coloured('NO ', '1;31')}  {text}")


def opening() -> None:
    """What is about to happen."""
    _heading("kvmops.cluster: emptying a host while its guests keep running")
    _tell(
        """This starts a small, real cluster on this machine: hosts with their own libvirtd, QEMU and sshd, and busy
        guests. It drains one host with the playbook that you would use, and checks from outside that no guest was
        harmed. It changes nothing outside the lab, and removes the lab at the end. Ctrl-C ends it cleanly."""
    )
    _heading("1. A cluster")


def cluster(lab: Lab, host: str, leaving: Sequence[str]) -> None:
    """What runs where, and how hard it works."""
    links = {each.plan.link_mbit for each in lab.hosts.values()}
    link = " and ".join(f"{mbit} Mbit/s" if mbit else "no limit" for mbit in sorted(links))
    _tell(f"{len(lab.hosts)} hosts, {len(lab.guests)} guests, a migration network of {link}:")
    print()
    rows = [["GUEST", "ON", "MEMORY", "IN USE", "REWRITES", "DISK"]]
    for name, guest in lab.guests.items():
        plan = guest.plan
        busy = plan.hot_mib and plan.pages_per_s
        rate = f"{plan.hot_mib} MiB, {plan.pages_per_s * 4 / 1024:.1f} MiB/s" if busy else "nothing (idle)"
        rows.append([name, guest.home, f"{plan.memory_mib} MiB", f"{plan.touched_mib} MiB", rate, _disk(plan)])
    _table(rows, right=("MEMORY", "IN USE"))
    print()
    _tell(
        f"""{host} must be emptied: {len(leaving)} guests have to leave. A guest keeps writing its memory while it is
        copied, so the copy must be faster than the guest. The last part is sent while the guest stands still. Your
        users notice how long that takes: the downtime."""
    )


def _disk(plan: GuestPlan) -> str:
    if plan.system == "debian":
        return "of its host, with a database"
    if not plan.disk_mib:
        return "-"
    where = {"local": "of its host", "shared": "in a shared folder"}.get(plan.disk_on, f"shared ({plan.disk_on})")
    return f"{plan.disk_mib} MiB, {where}"


def watching(noise_ms: float, period_ms: float) -> None:
    """How downtime is measured, and what the measurement itself makes of it."""
    _heading("2. A prober outside the cluster")
    _tell(
        f"""From now on a prober, which knows nothing of libvirt, asks every guest over the network,
        {1000 / period_ms:.0f} times a second. The longest silence of a guest is its downtime. Before anything moves,
        guests are silent for up to {noise_ms:.0f} ms: that is the noise of this machine."""
    )


def command(name: str, host: str, arguments: Sequence[str]) -> None:
    """The command line that is about to be run."""
    if name == "drain_host":
        _heading(f"3. The drain of {host}")
        _tell(
            """The playbook cordons the host, finds a destination for each guest, shows its plan with the reasons, moves
            one guest after the other, and asks all libvirtds where each guest runs. You would type:"""
        )
    else:
        _heading("5. The return home")
        _tell(f"The work on {host} is done. Its guests return home, from all hosts at once:")
    typed = shlex.join(["ansible-playbook", f"kvmops.cluster.{name}", "-i", "inventory.yml", *arguments])
    print(f"\n  {_coloured(typed, '1')}")


def checking() -> None:
    """The playbook has ended."""
    print()
    _tell("Now the guests check all their memory, page by page, against what they wrote before the move.")


def after_drain(lab: Lab, host: str, section: dict[str, Any]) -> None:
    """What outsiders say after the drain."""
    _heading(f"4. Is {host} empty, and is every guest unharmed?")
    _tell("None of these answers comes from the playbook:")
    _held(section["status"] == 0, f"ansible-playbook ended with status {section['status']}")
    empty = not section["active_on_host"]
    _held(
        empty, f"{host} runs no guest, as its own libvirtd says" + ("" if empty else f": {section['active_on_host']}")
    )
    _guests_held(section)
    _databases_held(section)
    print(f"       {actual_state.summary(section['places'])}")


def after_restore(host: str, section: dict[str, Any]) -> None:
    """What outsiders say after the return home."""
    _held(section["status"] == 0, f"ansible-playbook ended with status {section['status']}")
    _guests_held(section)
    _databases_held(section)
    print(f"       {actual_state.summary(section['places'])}")


def _databases_held(section: dict[str, Any]) -> None:
    for name, seen in section["databases"].items():
        holds = not seen["lost_rows"] and not seen["errors"]
        _held(
            holds,
            f"{name}: {seen['commits']} rows were committed meanwhile, {len(seen['lost_rows'])} of them are lost; "
            f"a client met {len(seen['errors'])} errors and waited for up to {seen['longest_wait_ms']} ms",
        )


def databases_checked(damages: dict[str, str | None]) -> None:
    """What the databases find when they check themselves, after both moves."""
    for name, damage in damages.items():
        _held(damage is None, f"{name}: amcheck and the checksums of all pages: {damage or 'no damage'}")


def _guests_held(section: dict[str, Any]) -> None:
    places, seen, memory = section["places"], section["seen"], section["memory"]
    count = len(places)
    one = [name for name, where in places.items() if "+" not in where and where != "nowhere"]
    alive = [name for name, record in seen.items() if record["alive"]]
    sound = [name for name, result in memory.items() if result["memory_ok"] and result["disk_ok"] is not False]
    same = [name for name, record in seen.items() if record["boot_ids"] == [memory[name]["boot_id"]]]
    pages = sum(result["checked_pages"] for result in memory.values())
    _held(len(one) == count, f"{len(one)} of {count} guests are known to exactly one host")
    _held(len(alive) == count, f"{len(alive)} of {count} guests answer")
    _held(len(same) == count, f"{len(same)} of {count} guests were never started again")
    _held(len(sound) == count, f"{len(sound)} of {count} guests found every page as they left it ({pages} pages)")


def report(result: dict[str, Any], path: Path) -> None:
    """The table at the end."""
    _heading("6. The figures")
    rows = [["GUEST", "FROM", "TO", "SECONDS", "MIB SENT", "DOWN: REPORTED", "DOWN: OBSERVED", "MEMORY"]]
    rows += [_row(guest["guest"], guest) for guest in result["guests"]]
    rows += [_row(guest["guest"], guest["home"]) for guest in result["guests"]]
    _table(rows, right=tuple(rows[0][3:7]))
    print()
    _tell(
        f"""Drained in {result["drain_s"]:.0f} s, home again in {result["restore_s"]:.0f} s,
        {result["bytes"] / MIB:.0f} MiB over the network. The longest silence of any guest:
        {result["downtime_observed_max_ms"]:.0f} ms. All figures: {_shown(path)}"""
    )
    for fault in result["faults"]:
        _held(False, fault)


def _row(name: str, move: dict[str, Any]) -> list[str]:
    reported, sent, seconds = move["downtime_reported_ms"], move["bytes"], move["total_s"]
    return [
        name,
        move["source"] or "?",
        move["destination"] or "?",
        "?" if seconds is None else f"{seconds:.1f}",
        "?" if sent is None else f"{sent / MIB:.1f}",
        "?" if reported is None else f"{reported:.0f} ms",
        f"{move['downtime_observed_ms']:.0f} ms",
        "ok" if move["memory_ok"] else "DAMAGED",
    ]


def closing(kept: bool) -> None:
    """What to type for one's own cluster."""
    _heading("7. Your own cluster")
    if kept:
        _tell(
            """The lab is still up, as you asked; `make lab-status` shows it, `make lab-down` ends it. Its inventory:
            build/demo/inventory.yml"""
        )
    _tell(
        """Write an inventory with your hosts in the group `hypervisors` (build/demo/inventory.yml is an example). Then
        prove that guests can move, look at the plan, and drain the host:"""
    )
    print(
        """
  ansible-galaxy collection install kvmops.cluster
  ansible-playbook kvmops.cluster.preflight    -i inventory.yml
  ansible-playbook kvmops.cluster.drain_host   -i inventory.yml -e drain_host_name=HOST --check
  ansible-playbook kvmops.cluster.drain_host   -i inventory.yml -e drain_host_name=HOST
  ansible-playbook kvmops.cluster.restore_host -i inventory.yml -e restore_host_name=HOST
"""
    )


def pages(paths: Sequence[Path]) -> None:
    """Where the reports are that one looks at. This is the last that the demonstration says."""
    if not paths:
        return
    print("\nWhat happened to each guest, and why, as a page for the browser:\n")
    for path in paths:
        print(f"  {path}")


def failed(what: str, remedy: str | None = None) -> None:
    """Why the demonstration ends here."""
    print(f"\n{_coloured('The demonstration failed', '1;31')}: {what}", file=sys.stderr)
    if remedy:
        print(f"  {remedy}", file=sys.stderr)


def _shown(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def _table(rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = (
            cell.rjust(width) if title in right else cell.ljust(width)
            for cell, width, title in zip(row, widths, rows[0], strict=True)
        )
        print(f"  {'  '.join(cells)}".rstrip())
