# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold the rooms of a source tree: which folder may import from which.

A house has floors, from top to bottom. Each floor has one or more rooms, each a folder. A file may import from its own
room and from rooms on lower floors, and from no other.

floors.py           prints each import that breaks the rule; exit status 1 if there is any
floors.py --write   writes the table and the drawing of each house's page anew
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import sys
from collections.abc import Mapping
from pathlib import Path

MARKS = ("<!-- rooms: written by tests/tools/floors.py --write -->", "<!-- end of rooms -->")


@dataclasses.dataclass(frozen=True)
class Room:
    """One folder.

    Attributes:
        path: of the folder, from the root of the house, with slashes; ``.`` for the root itself.
        holds: what is in it, in one sentence without a full stop.
    """

    path: str
    holds: str


@dataclasses.dataclass(frozen=True)
class House:
    """A source tree with its floors.

    Attributes:
        root: folder of the tree, from the checkout.
        package: dotted name under which the tree is imported.
        page: file that shows the rooms, from the checkout.
        floors: rooms, the top floor first.
        only: packages that are not ours, with the rooms (or folders above rooms) that may import them.
        plain: rooms (or folders above rooms) that import nothing but Python's own library and their house.
    """

    root: str
    package: str
    page: str
    floors: tuple[tuple[Room, ...], ...]
    only: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    plain: tuple[str, ...] = ()

    def floor_of(self, room: str) -> int:
        """Return the number of a room's floor; the top floor is 0."""
        return next(number for number, floor in enumerate(self.floors) if room in {one.path for one in floor})

    def room_of(self, path: str) -> str | None:
        """Return the room of a file or folder, given from the root, or None where there is no such room.

        The innermost folder counts: ``core/plan/steps.py`` is in ``core/plan``, ``core/units.py`` in ``core``.
        """
        rooms = [one.path for floor in self.floors for one in floor]
        inside = [room for room in rooms if room in (".", path) or path.startswith(room + "/")]
        return max(inside, key=len, default=None)


PLUGINS = House(
    root="plugins",
    package="ansible_collections.kvmops.cluster.plugins",
    page="docs/architecture.md",
    floors=(
        (
            Room("modules", "Documentation, argument spec and `main()` of each module"),
            Room("action", "The part of a module that runs on the controller: planning, reports, live progress"),
            Room("inventory", "The inventory plugin"),
            Room("filter", "Filters for roles; tables for the terminal"),
            Room("lookup", "Lookups for roles"),
            Room("doc_fragments", "Documentation that modules share"),
        ),
        (
            Room("module_utils/virt/capsule_move", "Moves a guest as a capsule: save, send and start as one"),
            Room("module_utils/virt/capsule_fill", "Gets the rest of a guest's disks here, and puts the guest on them"),
        ),
        (
            Room("module_utils/virt/capsule_start", "Starts a guest from a capsule, and lets its old host forget it"),
            Room("module_utils/virt/recover", "Finds moves that broke off, and finishes those that safely can be"),
        ),
        (Room("plugin_utils/reports", "Reports and plans as pages, Markdown, JUnit and CSV"),),
        (
            Room("plugin_utils/planning", "From the options of `migration_plan` to a plan"),
            Room("plugin_utils/checks", "Compares a host, a plan or the result of a move with what the hosts show"),
            Room("plugin_utils/inventory", "Asks libvirtds from the controller, and makes inventory entries"),
            Room("plugin_utils/tables", "Plans, reports, paths and measurements as tables"),
            Room("module_utils/virt/observe", "Measures on a schedule, and writes metrics; moves nobody"),
            Room("module_utils/virt/capsule_save", "Freezes a guest and makes a capsule of it"),
            Room("module_utils/virt/capsule_transfer", "Sends a capsule to another host, and receives one over ssh"),
            Room("module_utils/virt/move", "Moves one guest: decides, begins, falls back, adopts, verifies, closes"),
        ),
        (
            Room("plugin_utils/terminal", "Text for terminals: columns, progress lines, the progress of a module"),
            Room("module_utils/virt/measure", "Reads working sets: dirty rates and samples of memory"),
            Room("module_utils/virt/paths", "Tries the paths from this host to others, a check after the other"),
            Room("module_utils/virt/prepare", "What is done to a guest around its move: memory is freed, hooks run"),
            Room("module_utils/virt/migration", "One migration under way: libvirt's call, its control, its lines"),
            Room("module_utils/virt/fill", "Disks that come after their guest: exports, tickets"),
        ),
        (Room("module_utils/virt/capsule_ticket", "The right of one host to send one capsule: keys, tickets"),),
        (Room("module_utils/virt/disk_delta", "Sends what a disk has and its old copy at the destination has not"),),
        (Room("module_utils/virt/capsule", "Reads, writes and hashes what a guest sees of its images"),),
        (
            Room("plugin_utils/files", "Documents in files on the controller"),
            Room("plugin_utils/play", "What the hosts of a play registered, and Ansible's values as plain JSON"),
            Room("module_utils/virt/look", "Takes snapshots of hosts and guests, and asks for a guest on both sides"),
        ),
        (
            Room("module_utils/virt/host_state", "Cordons a host, and shuts guests down and starts them"),
            Room("module_utils/virt/host_settings", "What this process may do on a host, and QEMU's settings there"),
        ),
        (Room("module_utils/virt/connect", "Connections to libvirtd, time limits for calls, events"),),
        (
            Room("module_utils/run/capsule_store", "The store of a host: images, capsules, records, locks"),
            Room(
                "module_utils/run/guest_records",
                "What a host keeps of a guest until its move is complete, and later",
            ),
            Room("module_utils/run/watch", "The run that is at work on a host, for people who have not started it"),
        ),
        (Room("module_utils/run", "Files on a host that outlive a run: journal, progress, lease, maintenance record"),),
        (Room("module_utils/run/turns", "Whose turn it is within a run: the link, the first guest to a destination"),),
        (
            Room("module_utils/core/planners", "From snapshots and a goal to a plan, one planner for each goal"),
            Room(
                "module_utils/core/disk_delta", "What of a disk differs from an older copy, and the file that holds it"
            ),
        ),
        (
            Room("module_utils/core/capsule_image", "One image on a host: its record, and the header of a qcow2 file"),
            Room("module_utils/core/metrics", "What a host tells Prometheus: the table of metrics, and their text"),
        ),
        (
            Room("module_utils/core/plan", "The plan document, and when its steps start and end"),
            Room(
                "module_utils/core/capsule_mode", "Which mode gets a guest over a thin link, and what each mode costs"
            ),
            Room(
                "module_utils/core/capsule", "A whole guest as a thing to keep and send: digests, what differs, frames"
            ),
        ),
        (
            Room("module_utils/core/control", "Decides what to do about a migration that is under way"),
            Room("module_utils/core/placement", "Decides which guest goes to which host, and in which order"),
        ),
        (
            Room("module_utils/core/strategy", "Chooses the method that keeps the intent at the least cost"),
            Room("module_utils/core/blockers", "What keeps a guest on its host, by kind of device"),
            Room("module_utils/core/result", "Judges what became of a move, and makes the report"),
        ),
        (
            Room("module_utils/core/forecast", "Forecasts seconds, bytes and downtime of a move"),
            Room("module_utils/core/snapshot", "What a host and its guests are; may a guest leave, may it go there"),
        ),
        (
            Room("module_utils/core/working_set", "What a guest does to its memory, from measurements"),
            Room(
                "module_utils/core/capsule_definition",
                "A guest's definition in a capsule, rebuilt from what is permitted",
            ),
            Room("module_utils/core/definition", "What a guest's definition says of its memory, limits and owner"),
            Room("module_utils/core/requirements", "What a guest needs of a host, and whether a host has it"),
        ),
        (Room("module_utils/core", "Words that all rooms share: documents, intent, hooks, lease, units, refusals"),),
    ),
    only={
        "ansible": ("modules", "action", "inventory", "filter", "lookup", "plugin_utils", "module_utils/virt/connect")
    }
    # The probe runs as a process of its own, wherever a Python has libvirt.
    | {"libvirt": ("module_utils/virt", "plugin_utils/inventory"), "libvirt_qemu": ("module_utils/virt",)}
    | {"nbd": ("module_utils/virt/capsule", "module_utils/virt/capsule_fill")}
    | {"jinja2": ("plugin_utils/reports",), "markupsafe": ("plugin_utils/reports",)},
    plain=("module_utils/core", "module_utils/run"),
)
LAB = House(
    root="tests/lab",
    package="lab",
    page="tests/lab/README.md",
    floors=(
        (Room("tests", "The lab's tests of itself, with real hosts and guests"),),
        (Room(".", "What others import (`from lab import Lab`), and the command line"),),
        (Room("cluster", "The lab as a whole: how it comes up and goes, faults, status, the Ansible inventory"),),
        (
            Room("probe", "Watches guests from outside, and computes their downtime"),
            Room("line", "The line between two sites: its rate, delay and cuts"),
        ),
        (Room("guest", "Guests: the libvirt definition, the agent in them, damage to their memory"),),
        (Room("host", "Hosts: configuration, keys and certificates, the container, the supervisor, ssh"),),
        (Room("image", "What hosts and guests boot: base images, newer packages, kernel and ramdisk, the KVM trial"),),
        (Room("machine", "What the lab makes on the machine: processes, control groups, mounts, networks, the lock"),),
        (Room("layout", "What a lab shall be: scenarios and addresses; it changes nothing"),),
        (Room("common", "What all folders use: the lab's folders and names, errors, running programs"),),
    ),
    only={"ansible_collections": (), "harness": ("tests",), "bench": (), "demo": ()},
)
BENCH = House(
    root="tests/bench",
    package="bench",
    page="tests/bench/README.md",
    floors=(
        (Room(".", "The command line"),),
        (Room("benches", "What each bench measures: one file for each, with the name of the bench"),),
        (Room("results", "Figures over all repeats, and tables for people; pure"),),
        (
            Room("drains", "One drain: by our playbook or by another system's policy; what a prober sees of it"),
            Room("capsules", "Guests that go to another site: by modules, by hand; what is seen of them"),
            Room("stand_ins", "Modules that read files, for a playbook run without hypervisors"),
            Room("callback", "A callback plugin that writes the seconds of each task"),
        ),
        (Room("inputs", "Options in scenarios, clusters of any size, the least time that a drain can take"),),
    ),
    only={"demo": ()},
)
HOUSES = (PLUGINS, LAB, BENCH)


@dataclasses.dataclass(frozen=True)
class Import:
    """One import: its line, the dotted names that it may mean (the longest first), and its text."""

    line: int
    names: tuple[str, ...]
    text: str


@functools.cache
def imports_of(source: str, package: str) -> tuple[Import, ...]:
    """Return all imports of a file, also those inside of functions.

    Args:
        source: text of the file.
        package: dotted name of the folder that the file is in; relative imports count from there.
    """
    lines = source.splitlines()
    found: list[tuple[tuple[str, ...], int]] = []
    for statement in ast.walk(ast.parse(source)):
        if isinstance(statement, ast.Import):
            found += [((alias.name,), statement.lineno) for alias in statement.names]
        elif isinstance(statement, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
            module = ".".join([*above, *([statement.module] if statement.module else [])])
            found += [((f"{module}.{alias.name}", module), statement.lineno) for alias in statement.names]
    return tuple(Import(number, names, lines[number - 1].strip()) for names, number in found)


def findings(house: House, files: Mapping[str, str]) -> list[str]:
    """Return what breaks the rule, a line each: file, line number, why, and the import itself.

    Args:
        house: the rooms.
        files: text by path from the root of the house, such as ``core/plan/steps.py``.
    """
    found = []
    for path, source in sorted(files.items()):
        room = house.room_of(path)
        if room is None:
            found.append(f"{house.root}/{path}: its folder is no room; give it a floor in tests/tools/floors.py")
            continue
        package = ".".join([house.package, *path.split("/")[:-1]])
        for one in imports_of(source, package):
            why = _against(house, room, one, files)
            if why:
                found.append(f"{house.root}/{path}:{one.line}: {why}: {one.text}")
    return found


def _against(house: House, room: str, one: Import, files: Mapping[str, str]) -> str | None:
    """Return what is wrong with one import, or None."""
    inside = [name[len(house.package) + 1 :].replace(".", "/") for name in one.names if _is_in(name, house.package)]
    if not inside:
        return _foreign(house, room, one.names[-1].partition(".")[0])
    # A name may be a module, or something in a module.
    target = next((name for name in inside if f"{name}.py" in files), inside[-1])
    other = house.room_of(target) or target
    if other == room:
        return None
    if house.room_of(target) is None:
        return f"{other} is no room"
    here, there = house.floor_of(room), house.floor_of(other)
    if there < here:
        return f"{room} imports from {other}, which is on a higher floor"
    return f"{room} imports from {other}, which is on the same floor" if there == here else None


def _foreign(house: House, room: str, top: str) -> str | None:
    """Return why a room may not import a package that is not of this house, or None."""
    if top in house.only and not any(_is_in(room, allowed, "/") for allowed in house.only[top]):
        return f"{room} must not import {top}"
    if any(_is_in(room, folder, "/") for folder in house.plain) and top not in sys.stdlib_module_names:
        return f"{room} imports {top}, and only Python's own library is permitted"
    return None


def _is_in(name: str, above: str, dot: str = ".") -> bool:
    return name == above or name.startswith(above + dot)


def files_of(house: House, checkout: Path) -> dict[str, str]:
    """Return the text of all Python files of a house by their path from its root."""
    root = checkout / house.root
    return {str(path.relative_to(root)): path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py"))}


def circles(house: House, files: Mapping[str, str]) -> list[str]:
    """Return one circle of imports a line, such as ``a.py -> b.py -> a.py``; none where there is no circle."""
    targets = {path: _targets(house, path, source, files) for path, source in files.items()}
    found, done = [], set[str]()

    def follow(path: str, way: list[str]) -> None:
        if path in way:
            found.append(" -> ".join([*way[way.index(path) :], path]))
        elif path not in done:
            for target in targets[path]:
                follow(target, [*way, path])
            done.add(path)

    for path in sorted(files):
        follow(path, [])
    return found


def _targets(house: House, path: str, source: str, files: Mapping[str, str]) -> list[str]:
    """Return the files of the house that one of them imports."""
    package = ".".join([house.package, *path.split("/")[:-1]])
    found = set()
    for one in imports_of(source, package):
        inside = [name[len(house.package) + 1 :].replace(".", "/") for name in one.names if _is_in(name, house.package)]
        found |= {f"{name}.py" for name in inside if f"{name}.py" in files}
    return sorted(found - {path})


def table(house: House) -> list[str]:
    """Return the rooms as a Markdown table, the top floor first."""
    rows = ["| floor | room | what is in it |", "|---|---|---|"]
    for number, floor in enumerate(house.floors):
        rows += [f"| {len(house.floors) - number} | `{_shown(house, room)}` | {room.holds} |" for room in floor]
    return rows


def _shown(house: House, room: Room) -> str:
    return house.root if room.path == "." else f"{house.root}/{room.path}"


def drawing(house: House) -> list[str]:
    """Return the floors as a Mermaid drawing."""
    lines = ["```mermaid", "flowchart TB"]
    for number, floor in enumerate(house.floors):
        shown = (house.root if room.path == "." else room.path for room in floor)
        label = "<br>".join(name.removeprefix("module_utils/") for name in shown)
        lines.append(f'    floor{len(house.floors) - number}["{label}"]')
    numbers = range(len(house.floors), 0, -1)
    lines.append("    " + " --> ".join(f"floor{number}" for number in numbers))
    return [*lines, "```"]


def rendered(page: str, house: House) -> str:
    """Return the page with table and drawing of a house between the marks."""
    before, dummy, rest = page.partition(MARKS[0])
    dummy, dummy, after = rest.partition(MARKS[1])
    return "\n".join([before + MARKS[0], "", *table(house), "", *drawing(house), "", MARKS[1] + after])


def main() -> int:
    """Print what breaks the rule, or write the page; return the exit status."""
    checkout = Path(__file__).parents[2]
    if sys.argv[1:] == ["--write"]:
        for house in HOUSES:
            page = checkout / house.page
            page.write_text(rendered(page.read_text(encoding="utf-8"), house), encoding="utf-8")
        return 0
    found = []
    for house in HOUSES:
        files = files_of(house, checkout)
        found += findings(house, files) + [f"circle: {one}" for one in circles(house, files)]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
