# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on the source host, with Python and libvirt's binding only: tells when a phase of a move has begun.

watcher.py '{"guest": "mover", "hold": true, "event": "step.started"}'

It prints a line of JSON when it is ready, when the phase has begun, and for each of libvirt's events. With "hold" it
stops the job of the run at that moment. A word on its input lets the job go on; without one, as when the fault has cut
the network, it goes on after HOLD_S. It ends with its input.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import json
import os
import signal
import sys
import threading
import time
import typing as t

import libvirt

RUNS = "/var/lib/kvmops/runs/*/{}.jsonl"
LOCK = "/var/lib/kvmops/apply.lease"
KINDS = ("progress", "journal")
POLL_S = 0.001
SEARCH_S = 0.05
#: No fault takes so long to strike.
HOLD_S = 15.0


def now() -> str:
    """The time as the journal writes it."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"  # noqa: UP017


def job() -> int | None:
    """Return the process that moves guests away from this host."""
    try:
        with open(LOCK, encoding="utf-8") as file:  # noqa: PTH123
            return int(json.load(file)["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Watch:
    """Looks for one mark of one guest."""

    def __init__(self, wanted: dict[str, t.Any]) -> None:
        self.wanted = wanted
        self.told = threading.Lock()
        self.let_go = threading.Event()
        self.found = False
        self.destinations: dict[str, str] = {}
        self.job: int | None = None
        self.files: dict[str, t.TextIO] = {}
        self.old = set(self.paths())
        if wanted.get("all_runs"):
            # A run is under way: what it has written so far is no news, but what it will write is.
            for path in self.old:
                self.files[path] = open(path, encoding="utf-8")  # noqa: PTH123, SIM115
                for entry in lines(self.files[path]):
                    if entry.get("guest") and entry.get("destination"):
                        self.destinations[entry["guest"]] = entry["destination"]

    def paths(self) -> list[str]:
        """Return the files of runs."""
        return [path for kind in KINDS for path in glob.glob(RUNS.format(kind))]  # noqa: PTH207

    def say(self, **words: t.Any) -> None:
        """Print a line."""
        with self.told:
            print(json.dumps(words), flush=True)

    def reached(self, guest: str | None, why: str) -> None:
        """The mark was seen: stop the job if that is wanted, and tell."""
        if self.found or guest is None or self.wanted.get("guest") not in (None, guest):
            return
        if guest in self.wanted.get("others_than", []):
            return
        self.found = True
        at = now()
        self.job = job()
        if self.wanted.get("hold") and self.job:
            os.kill(self.job, signal.SIGSTOP)
            threading.Thread(target=self.hold, args=(HOLD_S,), daemon=True).start()
        self.say(told="reached", at=at, guest=guest, destination=self.destinations.get(guest), job=self.job, why=why)

    def hold(self, seconds: float) -> None:
        """Let the job go on after some seconds, unless somebody has done so before."""
        if not self.let_go.wait(seconds):
            self.go_on()

    def go_on(self) -> None:
        """Let the job go on."""
        self.let_go.set()
        if self.job:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.job, signal.SIGCONT)

    def of_progress(self, entry: dict[str, t.Any]) -> None:
        """A line of progress."""
        guest = entry.get("guest")
        if guest and entry.get("destination"):
            self.destinations[guest] = entry["destination"]
        if self.wanted.get("progress") == entry.get("phase") and entry.get("percent") is not None:
            self.reached(guest, f"progress {entry.get('message')}")

    def of_journal(self, entry: dict[str, t.Any]) -> None:
        """A line of the journal."""
        iteration = (entry.get("data") or {}).get("iteration") or 0
        if self.wanted.get("event") == entry.get("event") and iteration >= self.wanted.get("least_iteration", 0):
            self.reached(entry.get("guest"), f"journal {entry['event']}")

    def read(self) -> None:
        """Read what is new; the progress first, as only its lines name destinations."""
        for kind, take in zip(KINDS, (self.of_progress, self.of_journal), strict=True):
            for path, file in list(self.files.items()):
                if path.endswith(f"{kind}.jsonl"):
                    for entry in lines(file):
                        take(entry)

    def follow(self) -> None:
        """Read the files of new runs, for ever."""
        searched = 0.0
        while True:
            if time.monotonic() - searched > SEARCH_S:
                searched = time.monotonic()
                for path in self.paths():
                    if path not in self.old and path not in self.files:
                        self.files[path] = open(path, encoding="utf-8")  # noqa: PTH123, SIM115
            self.read()
            time.sleep(SEARCH_S if self.found else POLL_S)

    def lifecycle(self, _connection: t.Any, domain: t.Any, event: int, detail: int, _opaque: t.Any) -> None:
        """An event of libvirt."""
        if event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED and detail == self.wanted.get("suspended"):
            self.reached(domain.name(), f"libvirt: suspended, detail {detail}")
        self.say(told="libvirt", at=now(), guest=domain.name(), event=event, detail=detail)


def lines(file: t.TextIO) -> t.Iterator[dict[str, t.Any]]:
    """Yield the whole lines of JSON that a file has got; half a line is left for the next time."""
    while True:
        place = file.tell()
        text = file.readline()
        if not text.endswith("\n"):
            file.seek(place)
            return
        with contextlib.suppress(ValueError):
            yield json.loads(text)


def events() -> None:
    """Let libvirt's events come in."""
    while libvirt.virEventRunDefaultImpl() >= 0:
        pass


def main() -> int:
    """Watch until the input ends."""
    watch = Watch(json.loads(sys.argv[1]))
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    libvirt.virEventRegisterDefaultImpl()
    connection = libvirt.open("qemu:///system")
    connection.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, watch.lifecycle, None)
    for work in (events, watch.follow):
        threading.Thread(target=work, daemon=True).start()
    watch.say(told="ready")
    for word in sys.stdin:
        if word.strip() == "continue" and watch.job:
            watch.go_on()
            watch.say(told="continued", at=now())
    if watch.wanted.get("hold") and not watch.let_go.is_set():
        watch.go_on()
    return 0


if __name__ == "__main__":
    main()
    # Threads of libvirt may be in the middle of something.
    os._exit(0)
