# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tools import words

CHECKOUT = Path(__file__).parents[3]

PAGE = """
| term | meaning | where you meet it | do not say |
|---|---|---|---|
| switchover | The guest stops here and starts there. | journal | `cutover`, `cut-over`, pause |
| dirty rate | Bytes of new dirty pages in a second. | | `write rate`, heat |
| host | A machine. | | `node` |

| now | old file name |
|---|---|
| `annealing.py` | `thrift` |

| word | may stand in | because |
|---|---|---|
| `node` | `*/htools.py`, `docs/*` | Ganeti says so |
"""


def found(text: str, path: str = "plugins/a.py") -> list[tuple[int, str, str]]:
    known = words.rules(PAGE)
    return [(one.line, one.word, one.instead) for one in words.search(path, text, known, words.pattern(known))]


@pytest.mark.parametrize(
    "text",
    [
        "a cutover comes",
        "cutover_ms = 3",
        "after_cutover",
        "class LastCutover:",
        "Cutover.",
        "CUTOVER = 1",
        "x.cutover()",
    ],
)
def test_a_word_is_found_in_sentences_and_as_a_part_of_names(text):
    assert [(line, word.lower(), instead) for line, word, instead in found(text)] == [(1, "cutover", "switchover")]


@pytest.mark.parametrize("text", ["cutovers", "recutover", "a nodeset", "cut over", "a pause", "heat", "switchover"])
def test_other_words_are_not_found(text):
    assert found(text) == []


@pytest.mark.parametrize("text", ["its write rate", "write_rate = 3", "write-rate", "WriteRate"])
def test_two_words_are_found_however_they_are_joined(text):
    assert [instead for _line, _word, instead in found(text)] == ["dirty rate"]


def test_the_line_is_told_and_each_place():
    assert found("one\ntwo cutover\nNode, cut-over\n") == [
        (2, "cutover", "switchover"),
        (3, "Node", "host"),
        (3, "cut-over", "switchover"),
    ]


@pytest.mark.parametrize(("path", "count"), [("a/htools.py", 0), ("docs/x.md", 0), ("htools.py", 1), ("a/other.py", 1)])
def test_an_exception_holds_for_its_files_only(path, count):
    assert len(found("a node", path)) == count


def test_the_name_of_a_file_counts():
    assert found("", "plugins/cutover_plan.py") == [(0, "cutover", "switchover")]


@pytest.mark.parametrize(
    ("text", "path"), [("", "core/thrift.py"), ("", "unit/test_thrift.py"), ("see core/thrift.py.", "docs/a.md")]
)
def test_an_old_name_of_a_file_is_found(text, path):
    assert [(word, instead) for _line, word, instead in found(text, path)] == [("thrift.py", "annealing.py")]


def test_an_old_name_of_a_file_is_a_word_like_any_other():
    assert found("thrift, spendthrift.py, a_thrift.py, thrift.pyc") == []


@pytest.mark.parametrize(
    ("row", "message"),
    [("| move | | | `node` |", '"node" is forbidden twice'), ("| node | | | |", "both a term and forbidden: node")],
)
def test_a_glossary_that_contradicts_itself_is_an_error(row, message):
    with pytest.raises(ValueError, match=message):
        words.rules(f"{PAGE}\n| term | do not say |\n|---|---|\n{row}\n")


def test_a_checkout_is_searched_but_for_its_history(tmp_path, capsys):
    for path, text in {
        "docs/glossary.md": PAGE,
        "README.md": "The cutover.\n",
        "CHANGELOG.md": "The cutover of old.\n",
        "changelogs/fragments/a.yml": "cutover\n",
        "build/kept.md": "cutover\n",
        ".gitignore": "build/\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    (tmp_path / "image.png").write_bytes(b"\xff\xfe cutover")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)

    assert words.main(tmp_path) == 1
    assert capsys.readouterr().out == 'README.md:1: "cutover": say "switchover" (docs/glossary.md)\n'


def test_the_glossary_of_this_checkout_is_read_whole():
    known = words.rules((CHECKOUT / words.GLOSSARY).read_text(encoding="utf-8"))

    assert known.words["cutover"] == "switchover"
    assert len(known.words) > 20
    assert ("node", "tests/lab/image/accelerator.py") in known.exceptions
