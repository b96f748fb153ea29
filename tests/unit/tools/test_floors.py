# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from tools import floors
from tools.floors import House, Room

CHECKOUT = Path(__file__).parents[3]
#: So many Python files of one folder can be surveyed. Ansible wants all modules in one folder, and their parts on the
#: controller in another one.
MOST_FILES = 20
FLAT = {"plugins/modules", "plugins/action"}
SMALL = House(
    root="src",
    package="small",
    page="README.md",
    floors=(
        (Room("top", "The top"),),
        (Room("base/left", "One"), Room("base/right", "Other")),
        (Room("base", "Words"),),
    ),
    only={"libvirt": ("top",)},
    plain=("base",),
)


def found(path: str, line: str, **others: str) -> list[str]:
    files = {"top/a.py": "", "base/left/b.py": "", "base/right/c.py": "", "base/words.py": "", **others}
    return floors.findings(SMALL, {**files, path: line})


@pytest.mark.parametrize("house", floors.HOUSES, ids=lambda house: house.root)
def test_no_room_imports_from_a_room_above_it(house):
    assert floors.findings(house, floors.files_of(house, CHECKOUT)) == []


@pytest.mark.parametrize("house", floors.HOUSES, ids=lambda house: house.root)
def test_no_files_import_each_other(house):
    assert floors.circles(house, floors.files_of(house, CHECKOUT)) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("top/a.py", "from small.base.left.b import x"),
        ("top/a.py", "from small.base import left"),
        ("base/left/b.py", "from small.base import words"),
        ("base/left/b.py", "from ..words import x"),
        ("base/left/b.py", "import json"),
        ("top/a.py", "import libvirt"),
    ],
)
def test_what_points_down_is_permitted(path, line):
    assert found(path, line) == []


@pytest.mark.parametrize(
    ("path", "line", "why"),
    [
        ("base/left/b.py", "from small.top.a import x", "base/left imports from top, which is on a higher floor"),
        ("base/words.py", "from .left import b", "base imports from base/left, which is on a higher floor"),
        ("base/left/b.py", "import small.top.a", "base/left imports from top, which is on a higher floor"),
        ("base/left/b.py", "from small.base.right import c", "base/left imports from base/right, which is on the same"),
        ("base/left/b.py", "import libvirt", "base/left must not import libvirt"),
        ("base/left/b.py", "import yaml", "base/left imports yaml, and only Python's own library is permitted"),
        ("top/a.py", "from small.attic import x", "attic is no room"),
    ],
)
def test_the_line_that_points_elsewhere_is_printed(path, line, why):
    (finding,) = found(path, f"def inside():\n    {line}\n")

    assert finding.startswith(f"src/{path}:2: {why}")
    assert finding.endswith(f": {line}")


def test_a_folder_without_a_floor_is_found():
    assert found("attic/z.py", "") == [
        "src/attic/z.py: its folder is no room; give it a floor in tests/tools/floors.py"
    ]


def test_an_upward_import_planted_into_the_collection_is_found():
    files = floors.files_of(floors.PLUGINS, CHECKOUT)
    line = f"from {floors.PLUGINS.package}.module_utils.virt.look import host"
    path = "module_utils/core/units.py"
    files[path] += f"\n{line}\n"

    (finding,) = floors.findings(floors.PLUGINS, files)

    where = f"plugins/{path}:{len(files[path].splitlines())}"
    assert (
        finding == f"{where}: module_utils/core imports from module_utils/virt/look, which is on a higher floor: {line}"
    )


def test_files_beside_the_folders_are_a_room_as_well():
    house = House(root="src", package="small", page="", floors=((Room(".", "Entry"),), (Room("base", "Words"),)))
    files = {"__init__.py": "from small.base import words", "base/words.py": "from small import x"}

    assert floors.findings(house, files) == [
        "src/base/words.py:1: base imports from ., which is on a higher floor: from small import x"
    ]


def test_a_circle_is_shown_as_a_way():
    files = {"base/a.py": "from .b import x", "base/b.py": "from . import c", "base/c.py": "import small.base.a"}

    assert floors.circles(SMALL, files) == ["base/a.py -> base/b.py -> base/c.py -> base/a.py"]


@pytest.mark.parametrize("house", floors.HOUSES, ids=lambda house: house.root)
def test_the_page_shows_these_rooms(house):
    page = (CHECKOUT / house.page).read_text(encoding="utf-8")

    assert page == floors.rendered(page, house), "run: python tests/tools/floors.py --write"


def test_a_folder_can_be_surveyed():
    folders = Counter(
        str(path.parent.relative_to(CHECKOUT))
        for root in ("plugins", "tests", "extensions")
        for path in (CHECKOUT / root).rglob("*.py")
    )

    assert {folder for folder, count in folders.items() if count > MOST_FILES} <= FLAT
