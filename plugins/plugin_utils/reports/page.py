# Copyright (c) 2026, kvmops.cluster contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: writes a page as one file of HTML that needs nothing else.

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import typing as t
from pathlib import Path

import jinja2
import markupsafe

from ansible_collections.kvmops.cluster.plugins.module_utils.core.plain_text import visible
from ansible_collections.kvmops.cluster.plugins.plugin_utils.reports.parts import Page

TEMPLATES = Path(__file__).parent / "templates"


@dataclasses.dataclass(frozen=True)
class Inline:
    """A style or a script within the page. The page permits this one by its digest, and no other."""

    text: markupsafe.Markup
    digest: str


def page_html(page: Page) -> str:
    """A report or a plan as a file."""
    return rendered("report.html.j2", page=page)


def rendered(template: str, **parts: t.Any) -> str:
    """A template with its parts. Whatever is text in them is escaped, and shows a mark for what is not seen."""
    return (
        _environment().get_template(template).render(style=_inline("style.css"), script=_inline("script.js"), **parts)
    )


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_seen,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _seen(value: t.Any) -> t.Any:
    """What is written for a value, before it is escaped."""
    return visible(value) if isinstance(value, str) and not isinstance(value, markupsafe.Markup) else value


@functools.cache
def _inline(name: str) -> Inline:
    text = (TEMPLATES / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Inline(markupsafe.Markup(text), f"sha256-{digest}")  # noqa: S704 - a file of ours
