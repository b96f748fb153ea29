# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab from the command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lab.cluster import status
from lab.cluster.lab import Lab
from lab.cluster.removal import take_down
from lab.common.errors import LabError
from lab.common.parallel import in_parallel
from lab.common.settings import from_environment
from lab.host import ssh
from lab.machine import prerequisites
from lab.machine.resources import existing_resources

LINE_FAULTS = ("slow-line", "cut-line", "flap-line", "mend-line")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="A real libvirt cluster on one machine.")
    commands = parser.add_subparsers(dest="command", required=True)

    up = commands.add_parser("up", help="start the lab, or mend it")
    up.add_argument("--scenario", type=Path, help="scenario file (default: the one that runs, else the default)")
    up.add_argument("--inventory", type=Path, help="write the Ansible inventory here too")

    commands.add_parser("down", help="take the lab down and leave nothing")
    commands.add_parser("status", help="show hosts and guests").add_argument("--json", action="store_true")
    commands.add_parser("resources", help="list what of the lab exists on this machine; exit 1 if anything does")

    reset = commands.add_parser("reset", help="replace all guests by fresh ones at home, mend all faults")
    reset.add_argument("--scenario", type=Path, help="another scenario with the same hosts")
    reset.add_argument("--forget", action="append", default=[], metavar="PATH", help="delete this on every host")

    shell = commands.add_parser("ssh", help="a shell, or a command, on a host")
    shell.add_argument("host")
    shell.add_argument("words", nargs=argparse.REMAINDER, metavar="command")

    probe = commands.add_parser("probe", help="measure the guests' largest gap; prints JSON")
    probe.add_argument("--seconds", type=float, default=5.0)
    probe.add_argument("--period-ms", type=float, default=5.0)
    probe.add_argument("guests", nargs="*")

    verify = commands.add_parser("verify", help="make guests check all their memory; prints JSON")
    verify.add_argument("guests", nargs="*")

    _add_faults(commands.add_parser("fault", help="break something, or mend it"))
    return parser


def _add_faults(parser: argparse.ArgumentParser) -> None:
    faults = parser.add_subparsers(dest="fault", required=True)
    for name in ("mend", "power-off", "crash", "power-on", "reboot", "kill-daemon"):
        faults.add_parser(name).add_argument("host")
    cut = faults.add_parser("cut-migration")
    cut.add_argument("host")
    cut.add_argument("--silent", action="store_true", help="let packets vanish instead of rejecting them")
    cut = faults.add_parser("cut-link")
    cut.add_argument("host")
    cut.add_argument("which", nargs="?", default="migration", help="migration, management, guests or all")
    slow = faults.add_parser("slow-link")
    slow.add_argument("host")
    slow.add_argument("mbit", type=float)
    slow.add_argument("--both", action="store_true", help="also the traffic out of the host")
    _add_line_faults(faults)
    for name in ("kill-qemu", "spoil-memory"):
        one = faults.add_parser(name)
        one.add_argument("host")
        one.add_argument("guest")


def _add_line_faults(faults: Any) -> None:
    """Faults of the line between two sites; they concern no host."""
    for name in LINE_FAULTS:
        one = faults.add_parser(name)
        if name == "slow-line":
            one.add_argument("mbit", type=float)
            one.add_argument("--delay-ms", type=float, help="one way")
            one.add_argument("--queue-ms", type=float)
        if name == "flap-line":
            one.add_argument("down_s", type=float)
            one.add_argument("up_s", type=float)
        if name in ("cut-line", "flap-line"):
            one.add_argument("--seconds", type=float, default=0.0, help="in all (default: until mend-line)")
            one.add_argument("--reset", action="store_true", help="reset TCP connections, not only drop packets")


def say(line: str) -> None:
    """Print a line of progress; results go to standard output, so this does not."""
    print(f"lab: {line}", file=sys.stderr, flush=True)


def _up(options: argparse.Namespace) -> int:
    began = time.monotonic()
    lab = Lab.up(options.scenario, inventory_path=options.inventory, say=say)
    place = options.inventory or lab.settings.state / "inventory.yml"
    say(f"up: {len(lab.hosts)} hosts, {len(lab.guests)} guests, {time.monotonic() - began:.1f} s; inventory: {place}")
    return 0


def _down(dummy: argparse.Namespace) -> int:
    began = time.monotonic()
    take_down()
    say(f"down: {time.monotonic() - began:.1f} s")
    return 0


def _resources(dummy: argparse.Namespace) -> int:
    found = existing_resources(from_environment())
    print("\n".join(found) if found else "nothing")
    return 1 if found else 0


def _reset(options: argparse.Namespace) -> int:
    began = time.monotonic()
    lab = Lab.load().reset(options.scenario, forget=options.forget, say=say)
    say(f"reset: {len(lab.guests)} guests, {time.monotonic() - began:.1f} s")
    return 0


def _ssh(options: argparse.Namespace) -> int:
    lab = Lab.load()
    words = [*ssh.command(lab.settings, lab.host(options.host).address), *options.words]
    if not options.words:
        words.insert(1, "-t")
    os.execvp(words[0], words)  # noqa: S606 - the shell is at the other end


def _probe(options: argparse.Namespace) -> int:
    lab = Lab.load()
    with lab.probe(options.guests or None, options.period_ms) as probe:
        time.sleep(options.seconds)
        records = probe.records()
    print(json.dumps(records, indent=1))
    return 0 if all(record["alive"] for record in records.values()) else 1


def _verify(options: argparse.Namespace) -> int:
    lab = Lab.load()
    names = options.guests or list(lab.guests)
    results = dict(zip(names, in_parallel(lab.verify, names), strict=True))
    print(json.dumps(results, indent=1))
    good = all(result["memory_ok"] and result["disk_ok"] is not False for result in results.values())
    return 0 if good else 1


def _fault(options: argparse.Namespace) -> int:
    lab = Lab.load()
    given = {key: value for key, value in vars(options).items() if key not in ("command", "fault", "host")}
    where = [] if options.fault in LINE_FAULTS else [options.host]
    getattr(lab.fault, options.fault.replace("-", "_"))(*where, **given)
    return 0


def _status(options: argparse.Namespace) -> int:
    state = status.gather(Lab.load())
    print(json.dumps(state, indent=1) if options.json else status.tables(state))
    return 0


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "up": _up,
    "down": _down,
    "status": _status,
    "resources": _resources,
    "reset": _reset,
    "ssh": _ssh,
    "probe": _probe,
    "verify": _verify,
    "fault": _fault,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: 0 done, 1 it failed, 2 it was asked wrongly."""
    options = _parser().parse_args(arguments)
    try:
        prerequisites.check_root()
        return COMMANDS[options.command](options)
    except LabError as error:
        print(f"lab: {error.what}", file=sys.stderr)
        if error.remedy:
            print(f"     {error.remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; run `up` again to finish or `down` to clean up", file=sys.stderr)
        return 1
