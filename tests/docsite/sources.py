# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Put the pages of the repository where Sphinx reads them: sources.py FOLDER REFERENCE

A page keeps its text; its links are rewritten, because the site has other folders. What the site does not have is
linked to the repository. REFERENCE is what antsibull-docs has written from the documentation of plugins and roles.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import yaml

ROOT = Path(__file__).parents[2]
#: Pages that are called otherwise on the site.
PLACES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "docs/README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
}
#: Folders whose files are on the site as they are, to be read or downloaded.
FILES = ("docs/schemas", "docs/examples", "docs/images")
#: Where the pages of antsibull-docs are.
REFERENCE = "reference/"
#: The theme shows the headings of each page beside it, and calls a second list an error.
CONTENTS = re.compile(r"^\.\. contents::\n(?: +:.*\n)+", re.MULTILINE)
FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s]+)(\))")
#: The first cell of a table of docs/README.md that lists modules or roles.
ROW = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
#: Sphinx has no drawings of this kind without a program from elsewhere; the text can be read as well.
MERMAID = re.compile(r"^( *)```mermaid$", re.MULTILINE)


class SourceError(Exception):
    """A page does not fit into the site."""


def repository() -> str:
    """Return the address of the repository's files, by which a link leaves the site."""
    links = yaml.safe_load((ROOT / "docs/docsite/links.yml").read_text(encoding="utf-8"))["edit_on_github"]
    return f"https://github.com/{links['repository']}/%s/{links['branch']}"


def pages() -> Iterator[str]:
    """Yield the Markdown pages that are on the site, as they are called in the repository."""
    yield from ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
    for folder, pattern in (("docs", "**/*.md"), ("roles", "*/README.md")):
        yield from sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob(pattern))


def place(path: str) -> str | None:
    """Return where a file of the repository is on the site; None if it is not there.

    >>> place("docs/guides/plans.md"), place("roles/seed/README.md"), place("COPYING")
    ('guides/plans.md', 'roles/seed.md', None)
    """
    if path in PLACES:
        return PLACES[path]
    if path.startswith("roles/") and path.endswith("/README.md"):
        return f"roles/{path.split('/')[1]}.md"
    if path.startswith(tuple(f"{folder}/" for folder in FILES)) or (path.startswith("docs/") and path.endswith(".md")):
        return path.removeprefix("docs/")
    return None


def target(page: str, link: str) -> str:
    """Return what a link of a page is on the site.

    Raises:
        SourceError: there is no such file.
    """
    path, hash_sign, anchor = link.partition("#")
    if not path or ":" in path:
        return link
    found = os.path.normpath(PurePosixPath(page).parent / path)
    if not (ROOT / found).exists():
        raise SourceError(f"{page}: there is no {found}")
    there = place(found) if (ROOT / found).is_file() else None
    if there is None:
        return repository() % ("tree" if (ROOT / found).is_dir() else "blob") + f"/{found}{hash_sign}{anchor}"
    here = place(page) or page
    return os.path.relpath(there, PurePosixPath(here).parent) + hash_sign + anchor


def outside_fences(text: str) -> Iterator[tuple[str, bool]]:
    """Yield the parts of a page, and whether each is text and not code."""
    end = 0
    for match in FENCE.finditer(text):
        yield text[end : match.start()], True
        yield match[0], False
        end = match.end()
    yield text[end:], True


def rewritten(page: str, text: str, reference: frozenset[str]) -> str:
    """Return the text of a page for the site.

    Args:
        page: its path in the repository.
        text: what it says there.
        reference: the pages of antsibull-docs, without their ending.
    """

    def link(match: re.Match[str]) -> str:
        return match[1] + target(page, match[2]) + match[3]

    def row(match: re.Match[str]) -> str:
        for kind in ("role", "module"):
            if f"{match[1]}_{kind}" in reference:
                return f"| [`{match[1]}`]({REFERENCE}{match[1]}_{kind}.rst) |"
        return match[0]

    parts = []
    for part, is_text in outside_fences(MERMAID.sub(r"\1```text", text)):
        parts.append(LINK.sub(link, part) if is_text else part)
    made = "".join(parts)
    return ROW.sub(row, made) if page == "docs/README.md" else made


def listed(heading: str) -> list[str]:
    """Return the pages in the table below a heading of docs/README.md, in the order of the table."""
    text = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    if section is None:
        raise SourceError(f"docs/README.md has no heading {heading}")
    links = re.findall(r"^\| \[[^\]]+\]\(([^)#]+)\)", section[1], re.MULTILINE)
    return [target("docs/README.md", link) for link in links]


def contents() -> str:
    """Return what the first page has below its text: the lists from which Sphinx makes the navigation."""
    roles = sorted(place(page) or "" for page in pages() if page.startswith("roles/"))
    lists = {
        "Guides": ["All pages <overview.md>", *listed("Guides")],
        "Background": listed("Reference"),
        "Roles": roles,
        "Modules, plugins, project": ["reference/index.rst", "contributing.md", "changelog.md"],
    }
    tree = "\n```{toctree}\n:hidden:\n:maxdepth: 1\n:titlesonly:\n:caption: %s\n\n%s\n```\n"
    return "".join(tree % (caption, "\n".join(names)) for caption, names in lists.items())


def write(path: Path, text: str) -> None:
    """Write a file, in a folder that may not be there yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def main(folder: Path, plugins: Path) -> None:
    """Empty the folder and fill it."""
    shutil.rmtree(folder, ignore_errors=True)
    reference = frozenset(path.stem for path in plugins.glob("*.rst"))
    for path in plugins.glob("*.rst"):
        write(folder / REFERENCE / path.name, CONTENTS.sub("", path.read_text(encoding="utf-8")))
    for page in pages():
        text = rewritten(page, (ROOT / page).read_text(encoding="utf-8"), reference)
        there = place(page) or page
        role = Path(there).stem
        if page == "README.md":
            text += contents()
        if page.startswith("roles/") and f"{role}_role" in reference:
            text += f"\n## All options\n\n[Each option of `{role}`](../{REFERENCE}{role}_role.rst)\n"
        write(folder / there, text)
    for name in FILES:
        shutil.copytree(ROOT / name, folder / name.removeprefix("docs/"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
