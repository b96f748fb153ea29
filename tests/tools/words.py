# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Find words that docs/glossary.md forbids, in names of files, code, options, messages and documents.

words.py    prints each place with the word to use instead; exit status 1 if there is any

The tables of that page are the rules. A table is known by the heading of its last column:

``do not say``      code font: forbidden; the first column has the word to use instead
``old file name``   code font: no Python file is called so any more, nor is one mentioned
``because``         an exception: the word in the first column may stand in the files of the second (patterns)

Only whole words count, whatever their case: `lane` is found in "a lane", `lane_size` and `LaneSize`, not in "lanes".
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

GLOSSARY = "docs/glossary.md"
# What was said in the past, by others, or by the rules themselves.
NOT_OURS = (
    "changelogs/*",
    "CHANGELOG*",
    "LICENSES/*",
    "COPYING",
    "CODE_OF_CONDUCT.md",
    GLOSSARY,
    "tests/unit/tools/test_words.py",
)

CODE = re.compile(r"`([^`]+)`")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclasses.dataclass(frozen=True)
class Rules:
    """Forbidden words and file names, in lower case, with what to say instead; exceptions as (word, pattern)."""

    words: dict[str, str]
    file_names: dict[str, str]
    exceptions: frozenset[tuple[str, str]]

    def allow(self, word: str, path: str) -> bool:
        """Whether an exception lets this word stand in this file."""
        return any(word == allowed and fnmatch.fnmatch(path, pattern) for allowed, pattern in self.exceptions)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One forbidden word; line 0 is the name of the file itself."""

    path: str
    line: int
    word: str
    instead: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.word}": say "{self.instead}" ({GLOSSARY})'


def rows(page: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each row of each table in a page: the heading of its last column, and its cells."""
    kind: str | None = None
    for line in page.splitlines():
        if not line.startswith("|"):
            kind = None
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if kind is None:
            kind = cells[-1]
        elif set("".join(cells)) - set("-: "):
            yield kind, cells


def rules(page: str) -> Rules:
    """Return what a glossary forbids.

    Raises:
        ValueError: a word is forbidden twice, or is itself a term.
    """
    words: dict[str, str] = {}
    file_names: dict[str, str] = {}
    exceptions: set[tuple[str, str]] = set()
    terms: set[str] = set()
    for kind, cells in rows(page):
        if kind == "because":
            exceptions.update(
                (word.lower(), path) for word in CODE.findall(cells[0]) for path in CODE.findall(cells[1])
            )
            continue
        into = {"do not say": words, "old file name": file_names}.get(kind)
        if into is None:
            continue
        terms.add(cells[0].lower())
        for word in CODE.findall(cells[-1]):
            if into.setdefault(word.lower(), cells[0].replace("`", "")) != cells[0].replace("`", ""):
                raise ValueError(f'"{word}" is forbidden twice')
    if terms & set(words):
        raise ValueError(f"both a term and forbidden: {', '.join(sorted(terms & set(words)))}")
    return Rules(words, file_names, frozenset(exceptions))


def pattern(known: Rules) -> re.Pattern[str]:
    """Return what finds any forbidden word (group "word") or file name (group "file") in a line."""

    def one_of(names: Iterable[str]) -> str:
        escaped = (re.escape(name).replace(r"\ ", "[ _-]") for name in sorted(names, key=len, reverse=True))
        return "|".join(escaped) or "(?!)"

    file = rf"(?<!\w)(?:test_)?(?P<file>{one_of(known.file_names)})\.py"
    word = rf"(?<![a-z0-9])(?P<word>{one_of(known.words)})"
    return re.compile(rf"(?:{file}|{word})(?![a-z0-9])", re.IGNORECASE)


def search(path: str, text: str, known: Rules, finder: re.Pattern[str]) -> Iterator[Finding]:
    """Yield what is forbidden in the name or the text of one file; `finder` is the pattern of these rules."""
    # The path is line 0, and capitals inside a name become a boundary like an underscore.
    lines = HUMP.sub("_", f"{path}\n{text}")
    for match in finder.finditer(lines):
        word = (match["file"] or match["word"]).lower()
        line = lines.count("\n", 0, match.start())
        if match["file"]:
            yield Finding(path, line, f"{word}.py", known.file_names[word])
            continue
        word = word if word in known.words else re.sub("[_-]", " ", word)
        if not known.allow(word, path):
            yield Finding(path, line, match["word"], known.words[word])


def files(root: Path) -> Iterator[tuple[str, str]]:
    """Yield path and text of each file of the checkout that is ours and is text."""
    listed = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True,
        stdout=subprocess.PIPE,
    )
    for path in sorted(filter(None, listed.stdout.decode().split("\0"))):
        if any(fnmatch.fnmatch(path, pattern) for pattern in NOT_OURS) or not (root / path).is_file():
            continue
        try:
            yield path, (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def main(root: Path = Path()) -> int:
    """Print what is found in the checkout, and return the exit status."""
    known = rules((root / GLOSSARY).read_text(encoding="utf-8"))
    finder = pattern(known)
    found = [finding for path, text in files(root) for finding in search(path, text, known, finder)]
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
