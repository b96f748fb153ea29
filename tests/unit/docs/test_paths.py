# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pages for developers name files and definitions that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[3]
PAGES = ("docs/architecture.md", "docs/performance.md", "docs/promises.md", "CONTRIBUTING.md")
#: A path in code font. Folders end with a slash, or are named without an ending.
PATH = re.compile(r"`((?:plugins|roles|playbooks|tests|docs)/[\w./-]+)`")


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page):
    named = PATH.findall((CHECKOUT / page).read_text(encoding="utf-8"))

    assert named
    assert [path for path in named if not (CHECKOUT / path).exists()] == []


#: A row of the tour in CONTRIBUTING.md: question, folder, file and name.
ROW = re.compile(r"^\| (.+\?) \| `([\w/]+)` \| `(\w+\.py)`: `(\w+)` \|$", re.MULTILINE)
TOUR = ROW.findall((CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def test_the_tour_has_ten_questions():
    assert len(TOUR) == 10


@pytest.mark.parametrize(("folder", "file", "name"), [row[1:] for row in TOUR], ids=[row[0] for row in TOUR])
def test_the_answer_to_each_question_is_where_the_tour_says(folder, file, name):
    body = ast.parse((CHECKOUT / folder / file).read_text(encoding="utf-8")).body

    assert name in [one.name for one in body if isinstance(one, (ast.FunctionDef, ast.ClassDef))]
